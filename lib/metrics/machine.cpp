#include "metrics/machine.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <ATen/Version.h>
#include <torch/headeronly/version.h>

namespace atelier::metrics {
namespace {

/// The text behind the first line "KEY : TEXT" of a file of the kernel's.
std::string value_of(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    const std::size_t from = line.find_first_not_of(" \t", colon + 1);
    return from == std::string::npos ? "" : line.substr(from);
  }
  return {};
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                     : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
}

std::string kernel_name() {
  utsname names{};
  return uname(&names) == 0 ? std::string(names.sysname) + " " + names.release : "";
}

/// "NVIDIA UNIX x86_64 Kernel Module  550.54" -> "550.54": the first word that is a version.
std::string driver_version() {
  std::string line = value_of("/proc/driver/nvidia/version", "NVRM version");
  for (std::size_t at = 0; at < line.size();) {
    const std::size_t end = std::min(line.find(' ', at), line.size());
    const std::string word = line.substr(at, end - at);
    if (!word.empty() && word.find_first_not_of("0123456789.") == std::string::npos) return word;
    at = end + 1;
  }
  return line;
}

void add_gpu(Machine& machine) {
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", failed)) {
    machine.gpu = value_of((entry.path() / "information").string(), "Model");
    machine.driver = driver_version();
    return;
  }
}

}  // namespace

Machine describe_machine() {
  Machine machine;
  machine.cpu = value_of("/proc/cpuinfo", "model name");
  machine.cores = usable_cores();
  machine.memory_bytes =
      static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  machine.kernel = kernel_name();
  machine.libtorch = TORCH_VERSION;
  machine.instructions = at::get_cpu_capability();
  add_gpu(machine);
  return machine;
}

}  // namespace atelier::metrics
