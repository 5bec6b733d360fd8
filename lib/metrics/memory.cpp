#include "metrics/memory.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>

#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include "base/memory.h"

namespace atelier::metrics {
namespace {

/// Sets the high-water mark of resident memory back to what is resident now (proc(5), clear_refs).
void reset_process_peak() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
}

/// VmHWM of /proc/self/status, in bytes; 0 where it is not there.
std::uint64_t high_water_mark() {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    std::uint64_t kib = 0;
    if (word == "VmHWM:" && file >> kib) return kib * 1024;
  }
  return 0;
}

}  // namespace

/// Hears of every allocation on the CPU, as LibTorch's profiler does.
class MemoryMeter::Counter : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, std::int64_t size, std::size_t, std::size_t, c10::Device device) override {
    if (!device.is_cpu()) return;
    const std::int64_t now = used_ += size;
    std::int64_t peak = peak_;
    while (now > peak && !peak_.compare_exchange_weak(peak, now)) {
    }
  }
  bool memoryProfilingEnabled() const override { return true; }

  void reset() { peak_ = used_.load(); }
  std::uint64_t peak() const { return static_cast<std::uint64_t>(std::max<std::int64_t>(0, peak_)); }

 private:
  std::atomic<std::int64_t> used_ = 0, peak_ = 0;
};

struct MemoryMeter::Guard {
  explicit Guard(std::shared_ptr<Counter> counter) : guard(c10::DebugInfoKind::PROFILER_STATE, std::move(counter)) {}
  c10::DebugInfoGuard guard;
};

MemoryMeter::MemoryMeter(c10::Device device) : device_(device) {
  if (device_.is_cpu()) {
    counter_ = std::make_shared<Counter>();
    guard_ = std::make_unique<Guard>(counter_);
  }
  start();
}

MemoryMeter::~MemoryMeter() = default;

void MemoryMeter::start() {
  reset_process_peak();
  if (counter_) return counter_->reset();
  at::getDeviceAllocator(device_.type())->resetPeakStats(device_.has_index() ? device_.index() : 0);
}

std::uint64_t MemoryMeter::allocator_peak() const {
  if (counter_) return counter_->peak();
  const auto stats = at::getDeviceAllocator(device_.type())->getDeviceStats(device_.has_index() ? device_.index() : 0);
  const auto all = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, stats.allocated_bytes[all].peak));
}

std::uint64_t MemoryMeter::process_peak() const {
  const std::uint64_t mark = high_water_mark();
  return mark > 0 ? mark : base::peak_rss_bytes();
}

}  // namespace atelier::metrics
