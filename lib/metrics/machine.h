#pragma once

#include <cstdint>
#include <string>

namespace atelier::metrics {

/// What a speed was measured on.
struct Machine {
  std::string cpu;                 ///< "AMD EPYC 9R14", as /proc/cpuinfo says; "" where it does not
  int cores = 0;                   ///< that this process may use
  std::uint64_t memory_bytes = 0;  ///< of the machine
  std::string kernel;              ///< "Linux 6.1.0"
  std::string libtorch;            ///< "2.13.0"
  std::string instructions;        ///< what LibTorch's kernels use: "AVX512"
  std::string gpu, driver;         ///< of the first NVIDIA device, where there is one
};
Machine describe_machine();

}  // namespace atelier::metrics
