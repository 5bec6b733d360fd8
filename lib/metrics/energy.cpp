#include "metrics/energy.h"

#include <filesystem>
#include <fstream>

namespace atelier::metrics {
namespace {

namespace fs = std::filesystem;

// These files are of the kernel's making and have no size: read as streams, not through io::read_file.
std::optional<std::uint64_t> read_number(const fs::path& path) {
  std::ifstream file(path);
  std::uint64_t value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

/// A package, "intel-rapl:0" (AMD's too); "intel-rapl:0:1" is a part of one, and "intel-rapl-mmio:0" counts the same again.
bool is_package(const std::string& name) {
  const std::string prefix = "intel-rapl:";
  return name.starts_with(prefix) && name.find(':', prefix.size()) == std::string::npos;
}

}  // namespace

EnergyMeter::EnergyMeter(const std::string& root) {
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(root, failed)) {
    const fs::path folder = entry.path();
    if (!is_package(folder.filename().string()) || !read_number(folder / "energy_uj")) continue;
    zones_.push_back({(folder / "energy_uj").string(), read_number(folder / "max_energy_range_uj").value_or(0), 0});
  }
  start();
}

void EnergyMeter::start() {
  for (Zone& zone : zones_) zone.begin = read_number(zone.counter).value_or(0);
}

std::optional<double> EnergyMeter::joules() const {
  if (zones_.empty()) return std::nullopt;
  std::uint64_t sum = 0;
  for (const Zone& zone : zones_) {
    const auto now = read_number(zone.counter);
    if (!now) return std::nullopt;
    sum += *now >= zone.begin ? *now - zone.begin : *now + zone.range - zone.begin;
  }
  return static_cast<double>(sum) * 1e-6;
}

}  // namespace atelier::metrics
