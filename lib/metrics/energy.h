#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace atelier::metrics {

/// The energy that the processor packages took, from the counters of RAPL that Linux shows below /sys/class/powercap. All
/// processes count, not this one alone. Newer kernels let only root read them.
class EnergyMeter {
 public:
  /// `root` for tests.
  explicit EnergyMeter(const std::string& root = "/sys/class/powercap");

  bool available() const { return !zones_.empty(); }
  /// Begins to count.
  void start();
  /// Joules since start(); nothing where no counter can be read. A counter that began anew at its range once meanwhile is
  /// accounted for.
  std::optional<double> joules() const;

 private:
  struct Zone {
    std::string counter;      ///< file of micro-joules
    std::uint64_t range = 0;  ///< where the counter begins anew; 0: not said
    std::uint64_t begin = 0;
  };
  std::vector<Zone> zones_;
};

}  // namespace atelier::metrics
