// Energy counters, memory peaks, and what is said of the machine.
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <ATen/ops/zeros.h>

#include "metrics/energy.h"
#include "metrics/machine.h"
#include "metrics/memory.h"

#include "support/doctest_last.h"

namespace {

using namespace atelier;
namespace fs = std::filesystem;

/// Folders as Linux has them below /sys/class/powercap.
struct PowerCap {
  fs::path root = fs::temp_directory_path() / ("atelier-rapl-" + std::to_string(::getpid()));
  PowerCap() { fs::create_directories(root); }
  ~PowerCap() { fs::remove_all(root); }
  void set(const std::string& zone, std::uint64_t micro_joules) const {
    fs::create_directories(root / zone);
    std::ofstream(root / zone / "energy_uj") << micro_joules << "\n";
    std::ofstream(root / zone / "max_energy_range_uj") << 1000000 << "\n";
  }
};

}  // namespace

TEST_CASE("packages' energy is added up, their parts' is not counted again, and a counter may begin anew") {
  const PowerCap files;
  files.set("intel-rapl:0", 100);
  files.set("intel-rapl:1", 999000);
  files.set("intel-rapl:0:0", 50);
  files.set("intel-rapl-mmio:0", 50);
  metrics::EnergyMeter meter(files.root.string());
  REQUIRE(meter.available());
  CHECK(*meter.joules() == 0);
  files.set("intel-rapl:0", 600100);
  files.set("intel-rapl:1", 1000);
  files.set("intel-rapl:0:0", 500000);
  CHECK(*meter.joules() == doctest::Approx(0.602));
  meter.start();
  CHECK(*meter.joules() == 0);
}

TEST_CASE("without counters there is no energy") {
  const metrics::EnergyMeter meter("/nonexistent");
  CHECK(!meter.available());
  CHECK(!meter.joules());
}

TEST_CASE("the allocator's peak is that of tensors since the start, whatever was freed meanwhile") {
  metrics::MemoryMeter meter(at::kCPU);
  constexpr std::int64_t kMiB = 1 << 20;
  auto kept = at::zeros({8 * kMiB}, at::kByte);
  {
    const auto gone = at::zeros({32 * kMiB}, at::kByte);
  }
  const auto peak = static_cast<std::int64_t>(meter.allocator_peak());
  CHECK(peak >= 40 * kMiB);
  CHECK(peak < 41 * kMiB);
  CHECK(meter.process_peak() > 40 * kMiB);
  meter.start();
  CHECK(static_cast<std::int64_t>(meter.allocator_peak()) < 9 * kMiB);
  kept = at::Tensor();
}

TEST_CASE("the machine has a name, cores and memory") {
  const auto machine = metrics::describe_machine();
  CHECK(machine.cores > 0);
  CHECK(machine.memory_bytes > (1u << 28));
  CHECK(machine.libtorch.starts_with("2."));
  CHECK(!machine.kernel.empty());
}
