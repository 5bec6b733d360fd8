#include "cli/plan.h"

#include <limits>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"

namespace atelier::cli {

std::uint64_t Plan::total() const {
  constexpr auto all = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t sum = 0;
  for (const std::uint64_t part : {weights, cache, activations, optimizer}) {
    const auto more = base::checked_add(sum, part);
    if (!more) return all;
    sum = *more;
  }
  return sum;
}

bool Plan::fits() const { return !max_ram || total() <= *max_ram; }

base::Json plan_json(const Plan& plan) {
  base::Json model = {
      {"family", plan.family}, {"files", plan.files}, {"tensors", plan.tensors}, {"parameters", plan.parameters}};
  base::Json bytes = {{"weights", plan.weights}, {"cache", plan.cache}, {"activations", plan.activations}};
  if (plan.optimizer > 0) bytes["optimizer"] = plan.optimizer;
  bytes["total"] = plan.total();
  return {{"model", std::move(model)},
          {"missing", plan.missing},
          {"unused", plan.unused},
          {"bytes", std::move(bytes)},
          {"fits", plan.fits()}};
}

int plan_exit_code(const Plan& plan) {
  return static_cast<int>(plan.fits() ? base::ExitCode::ok : base::ExitCode::out_of_memory);
}

void require_fit(const Plan& plan) {
  if (plan.fits()) return;
  throw base::Error(
      base::ExitCode::out_of_memory,
      fmt::format("the run needs about {}, --max-ram is {}", human_bytes(plan.total()), human_bytes(*plan.max_ram)),
      fmt::format("weights {}, cache {}, activations {}{}", human_bytes(plan.weights), human_bytes(plan.cache),
                  human_bytes(plan.activations),
                  plan.optimizer > 0 ? fmt::format(", gradients and optimiser {}", human_bytes(plan.optimizer)) : ""));
}

std::optional<int> answer_plan(const CommonOptions& options, Output& output, const std::function<Plan()>& make) {
  if (!options.plan && !options.max_ram_bytes()) return std::nullopt;
  const Plan plan = make();
  if (options.plan) {
    output.record(plan_json(plan));
    return plan_exit_code(plan);
  }
  require_fit(plan);
  return std::nullopt;
}

std::string human_bytes(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} bytes", bytes);
  auto value = static_cast<double>(bytes);
  const char* const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  for (value /= 1024; value >= 1023.95 && unit + 1 < std::size(units); ++unit) value /= 1024;
  return value >= 99.95 ? fmt::format("{:.0f} {}", value, units[unit]) : fmt::format("{:.1f} {}", value, units[unit]);
}

}  // namespace atelier::cli
