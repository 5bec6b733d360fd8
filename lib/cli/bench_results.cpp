#include "cli/bench_results.h"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>

#include "cli/bench_figures.h"
#include "cli/bench_gate.h"
#include "metrics/quantiles.h"
#include "report/table.h"

namespace atelier::cli {

using base::Json;
using report::Cell;

namespace {

constexpr Quantity kFigures[] = {{"fid", "FID", true},
                                 {"kid", "KID", true},
                                 {"clip-score", "CLIP score", false},
                                 {"preference", "Preference", false},
                                 {"diversity", "Diversity", false}};

std::string csv_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.is_null() ? "" : value.dump();
}

}  // namespace

std::span<const Quantity> figure_quantities() { return kFigures; }

bool ran(const Json& row) { return row.at("status") == "ok"; }

const Json* figure_in(const Json& row, const std::string& metric) {
  for (const Json& figure : row.at("metrics"))
    if (figure.at("metric") == metric) return &figure;
  return nullptr;
}

std::optional<std::pair<double, double>> interval_of(const Json& figure) { return figure_of(figure).interval; }

Json spread_record(const std::vector<double>& seconds) {
  if (seconds.empty()) return nullptr;
  const metrics::Spread spread = metrics::spread(seconds);
  return {{"median", spread.median}, {"p95", spread.p95}, {"n", spread.n}};
}

std::vector<std::pair<std::string, std::string>> machine_facts(const Json& settings) {
  const Json& machine = settings.at("machine");
  const std::string device = settings.at("device").get<std::string>();
  const bool gpu = device != "cpu" && machine.contains("gpu");
  std::vector<std::pair<std::string, std::string>> facts;
  facts.emplace_back("Device", fmt::format("{}: {}", device, machine.at(gpu ? "gpu" : "cpu").get<std::string>()));
  if (gpu && machine.contains("driver")) facts.emplace_back("Driver", machine["driver"].get<std::string>());
  facts.emplace_back("Threads", settings.at("threads").dump());
  facts.emplace_back("LibTorch", fmt::format("{} ({})", machine.at("libtorch").get<std::string>(),
                                             machine.at("instructions").get<std::string>()));
  facts.emplace_back("Atelier", settings.at("version").get<std::string>());
  return facts;
}

void add_measurements(Json& row, const std::vector<Json>& jobs) {
  const Json& first = jobs.front();
  for (const char* key : {"sampler", "schedule", "width", "height"}) row[key] = first.at(key);
  if (first.contains("adapters")) row["adapters"] = first["adapters"];
  for (const char* stage : {"load_s", "text_s", "step_s", "vae_s", "picture_s"}) {
    std::vector<double> seconds;
    for (const Json& job : jobs) {
      const Json& time = job.at("timings").at(stage);
      if (time.is_number()) seconds.push_back(time.get<double>());
      if (time.is_array())
        for (const Json& step : time) seconds.push_back(step.get<double>());
    }
    row["timings"][stage] = spread_record(seconds);
  }
  for (const char* peak : {"allocator_bytes", "process_bytes"}) {
    std::uint64_t largest = 0;
    for (const Json& job : jobs) largest = std::max(largest, job.at("memory").at(peak).get<std::uint64_t>());
    row["memory"][peak] = largest;
  }
  std::vector<double> joules;
  for (const Json& job : jobs)
    if (job.contains("joules")) joules.push_back(job["joules"].get<double>());
  if (!joules.empty()) row["energy"] = {{"picture_j", metrics::quantile(joules, 0.5)}, {"source", "rapl"}};
}

std::string results_csv(const std::vector<Json>& rows) {
  report::Table table;
  for (const char* key : {"id", "model", "lora", "dtype", "sampler", "schedule", "steps", "status", "error", "n"})
    table.columns.push_back({key});
  const std::size_t plain = table.columns.size();
  for (const Quantity& quantity : figure_quantities())
    for (const char* part : {"", "_low", "_high"}) table.columns.push_back({std::string(quantity.name) + part});
  const char* const times[] = {"load_s", "text_s", "step_s", "vae_s", "picture_s"};
  for (const char* time : times)
    for (const char* part : {"", "_p95"}) table.columns.push_back({std::string(time) + part});
  const char* const rest[] = {"allocator_bytes", "process_bytes", "picture_j"};
  for (const char* name : rest) table.columns.push_back({name});
  for (const char* key : {"device", "threads", "model_sha256", "prompts_sha256", "version"})
    table.columns.push_back({key});
  const auto text_of = [](const Json& row, const std::string& key) { return csv_text(row.value(key, Json(nullptr))); };
  for (const Json& row : rows) {
    std::vector<Cell> cells;
    for (std::size_t i = 0; i < plain; ++i) cells.emplace_back(text_of(row, table.columns[i].title));
    for (const Quantity& quantity : figure_quantities()) {
      const Json* figure = figure_in(row, quantity.name);
      const auto interval = figure == nullptr ? std::nullopt : interval_of(*figure);
      cells.emplace_back(figure == nullptr ? "" : figure->at("value").dump());
      cells.emplace_back(interval ? fmt::format("{}", interval->first) : "");
      cells.emplace_back(interval ? fmt::format("{}", interval->second) : "");
    }
    for (const char* time : times) {
      const Json spread = row.at("timings").value(time, Json(nullptr));
      for (const char* part : {"median", "p95"}) cells.emplace_back(spread.is_null() ? "" : spread.at(part).dump());
    }
    for (const char* name : rest) {
      const auto value = quantity_of(row, name);
      cells.emplace_back(value ? fmt::format("{}", *value) : "");
    }
    for (const char* key : {"device", "threads", "model_sha256", "prompts_sha256", "version"})
      cells.emplace_back(text_of(row, key));
    table.rows.push_back(std::move(cells));
  }
  return report::to_csv(table);
}

}  // namespace atelier::cli
