#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include <c10/core/Device.h>

namespace atelier::metrics {

/// The most memory in use between start() and the calls that ask, counted two ways.
class MemoryMeter {
 public:
  explicit MemoryMeter(c10::Device device);
  ~MemoryMeter();
  MemoryMeter(const MemoryMeter&) = delete;
  MemoryMeter& operator=(const MemoryMeter&) = delete;

  /// Begins to count, from what is in use now.
  void start();

  /// Bytes of tensors that LibTorch allocated on the device: on a CPU by this thread since the meter was made (weights that are
  /// mapped from their file are not among them), else all that its caching allocator has given out.
  std::uint64_t allocator_peak() const;

  /// Bytes of this process that lay in memory at once, mapped files that were touched among them. Where the kernel does not let
  /// the mark be set back (Linux does, /proc/self/clear_refs) it is that since the process began.
  std::uint64_t process_peak() const;

 private:
  class Counter;
  struct Guard;
  c10::Device device_;
  std::shared_ptr<Counter> counter_;
  std::unique_ptr<Guard> guard_;
};

}  // namespace atelier::metrics
