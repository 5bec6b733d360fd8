#include "cli/bench_train_report.h"

#include <algorithm>

#include <fmt/format.h>

#include "cli/bench_results.h"
#include "io/file_system.h"
#include "report/chart.h"
#include "report/document.h"
#include "report/text.h"

namespace atelier::cli {
namespace {

using base::Json;
using report::Cell;
using report::Table;

constexpr double kMiB = 1 << 20;

report::Facts facts_of(const TrainReport& r) {
  const Json& s = r.settings;
  const auto number = [&](const char* key) { return s.at(key).dump(); };
  report::Facts facts;
  const auto add = [&](const char* name, std::string value) { facts.entries.emplace_back(name, std::move(value)); };
  add("Model", s.at("model").get<std::string>());
  add("Pictures", number("pictures"));
  add("Pictures (SHA-256)", s.at("data_sha256").get<std::string>().substr(0, 12));
  add("Size", number("width") + " x " + number("height"));
  add("Steps of each row", fmt::format("{}, {} of them not timed", number("steps"), number("warmups")));
  add("Micro-batches of a step", number("grad_accum"));
  add("Blocks computed again", s.at("grad_checkpointing").get<bool>() ? "yes" : "no");
  add("Learning rate of the UNet", fmt::format("{:g}", s.at("unet_lr").get<double>()));
  add("Loss measured on", number("pairs") + " noised pictures, always the same");
  add("Seed", number("seed"));
  for (auto& fact : machine_facts(s)) facts.entries.push_back(std::move(fact));
  return facts;
}

std::string step_cell(const Json& row) {
  const Json& step = row.at("timings").at("step_s");
  return fmt::format("{} / {}", report::number(step.at("median").get<double>()),
                     report::number(step.at("p95").get<double>()));
}

/// The row with the best number, or the number of rows where there is no contest.
template <class Value>
std::size_t best_of(const TrainReport& r, Value value, bool small_is_good) {
  std::size_t best = r.rows.size(), contestants = 0;
  double number = 0;
  for (std::size_t i = 0; i < r.rows.size(); ++i) {
    const std::optional<double> own = ran(r.rows[i]) ? value(r.rows[i]) : std::nullopt;
    if (!own) continue;
    ++contestants;
    if (best < r.rows.size() && (small_is_good ? *own >= number : *own <= number)) continue;
    best = i, number = *own;
  }
  return contestants > 1 ? best : r.rows.size();
}

std::optional<double> last_loss(const Json& row) {
  return row.at("losses").empty() ? std::nullopt : std::optional(row.at("losses").back().at("loss").get<double>());
}

/// The loss on the fixed pairs against steps, or against the time that they took.
std::string loss_plot(const TrainReport& r, const char* title, const char* key, const char* axis) {
  report::Plot plot{title, axis, "loss", {}, true};
  for (std::size_t i = 0; i < r.rows.size(); ++i) {
    plot.series.push_back({r.labels[i], {}});
    if (!ran(r.rows[i])) continue;
    for (const Json& point : r.rows[i].at("losses"))
      plot.series.back().points.push_back(
          {point.at(key).get<double>(), point.at("loss").get<double>(), {}, r.labels[i]});
  }
  return report::to_svg(plot);
}

template <class Value>
std::string bars(const TrainReport& r, const char* title, const char* unit, Value value) {
  report::BarChart chart{title, unit, {}};
  for (std::size_t i = 0; i < r.rows.size(); ++i)
    if (ran(r.rows[i])) chart.bars.push_back({r.labels[i], value(r.rows[i]), {}, i});
  return report::to_svg(chart);
}

report::Charts all_charts(const TrainReport& r) {
  report::Charts charts;
  charts.svg.push_back(loss_plot(r, "What is learnt in a step", "step", "steps"));
  charts.svg.push_back(loss_plot(r, "What is learnt in a second", "train_s", "seconds of training"));
  charts.svg.push_back(bars(r, "Samples per second", "samples / s",
                            [](const Json& row) { return row.at("samples_per_s").get<double>(); }));
  charts.svg.push_back(bars(r, "Peak memory of the process", "MiB",
                            [](const Json& row) { return row.at("memory").at("process_bytes").get<double>() / kMiB; }));
  std::erase(charts.svg, "");
  return charts;
}

std::string csv_of(const TrainReport& r) {
  Table table;
  const char* const texts[] = {"id",     "method", "precision",          "optimizer",    "batch_size",
                               "status", "error",  "trained_parameters", "samples_per_s"};
  for (const char* key : texts) table.columns.push_back({key});
  for (const char* key : {"step_s", "step_s_p95", "allocator_bytes", "process_bytes", "loss_first", "loss_last"})
    table.columns.push_back({key});
  for (const Json& row : r.rows) {
    std::vector<Cell> cells;
    for (const char* key : texts) {
      const Json value = row.value(key, Json(nullptr));
      cells.emplace_back(value.is_string() ? value.get<std::string>() : value.is_null() ? "" : value.dump());
    }
    if (ran(row)) {
      const Json &step = row["timings"]["step_s"], &losses = row["losses"];
      for (const char* key : {"median", "p95"}) cells.emplace_back(step.at(key).dump());
      for (const char* key : {"allocator_bytes", "process_bytes"}) cells.emplace_back(row["memory"].at(key).dump());
      cells.emplace_back(losses.empty() ? "" : losses.front().at("loss").dump());
      cells.emplace_back(losses.empty() ? "" : losses.back().at("loss").dump());
    }
    cells.resize(table.columns.size());
    table.rows.push_back(std::move(cells));
  }
  return report::to_csv(table);
}

report::Document document_of(const TrainReport& r) {
  report::Document document{"Training efficiency", {}};
  auto& blocks = document.blocks;
  blocks.push_back(facts_of(r));
  for (std::size_t i = 0; i < r.rows.size(); ++i)
    if (!ran(r.rows[i]))
      blocks.push_back(report::Paragraph{
          fmt::format("Failed: {}: {}", r.labels[i], r.rows[i].at("error").get<std::string>()), report::Tone::alarm});
  blocks.push_back(report::Heading{"Results"});
  blocks.push_back(train_table(r));
  blocks.push_back(all_charts(r));
  return document;
}

}  // namespace

Table train_table(const TrainReport& r) {
  Table table{{{"Row"},
               {"Trained", true},
               {"Samples / s", true},
               {"Step s (median / p95)", true},
               {"Tensors", true},
               {"Process", true},
               {"Loss before", true},
               {"Loss after", true}},
              {}};
  const std::size_t fastest =
      best_of(r, [](const Json& row) { return std::optional(row.at("samples_per_s").get<double>()); }, false);
  const std::size_t smallest = best_of(
      r, [](const Json& row) { return std::optional(row.at("memory").at("process_bytes").get<double>()); }, true);
  const std::size_t learnt = best_of(r, last_loss, true);
  for (std::size_t i = 0; i < r.rows.size(); ++i) {
    const Json& row = r.rows[i];
    std::vector<Cell> cells{r.labels[i]};
    if (ran(row)) {
      const Json &memory = row.at("memory"), &losses = row.at("losses");
      cells.emplace_back(report::number(row.at("trained_parameters").get<double>() / 1e6) + " M");
      cells.emplace_back(report::number(row.at("samples_per_s").get<double>()), i == fastest);
      cells.emplace_back(step_cell(row));
      cells.emplace_back(report::bytes(memory.at("allocator_bytes").get<double>()));
      cells.emplace_back(report::bytes(memory.at("process_bytes").get<double>()), i == smallest);
      cells.emplace_back(losses.empty() ? "" : report::number(losses.front().at("loss").get<double>()));
      cells.emplace_back(losses.empty() ? "" : report::number(*last_loss(row)), i == learnt);
    } else {
      cells.emplace_back("failed");
    }
    cells.resize(table.columns.size());
    table.rows.push_back(std::move(cells));
  }
  return table;
}

std::vector<std::string> write_train_reports(const TrainReport& r, const std::string& folder) {
  const report::Document document = document_of(r);
  std::string lines;
  for (const Json& row : r.rows) lines += base::dump_json(row) + "\n";
  const std::pair<const char*, std::string> files[] = {{"results.jsonl", lines},
                                                       {"results.csv", csv_of(r)},
                                                       {"report.md", report::to_markdown(document)},
                                                       {"report.html", report::to_html(document)}};
  std::vector<std::string> paths;
  for (const auto& [name, bytes] : files) {
    paths.push_back(folder + "/" + name);
    io::write_atomically(paths.back(), bytes);
  }
  return paths;
}

}  // namespace atelier::cli
