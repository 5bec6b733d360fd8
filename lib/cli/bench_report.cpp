#include "cli/bench_report.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/bench_figures.h"
#include "cli/bench_results.h"
#include "image/read.h"
#include "image/resize.h"
#include "io/file_system.h"
#include "report/chart.h"
#include "report/document.h"
#include "report/text.h"

namespace atelier::cli {
namespace {

using base::Json;
using report::Cell;
using report::Column;
using report::Table;

constexpr int kShownSide = 256;  // pixels of a picture in report.html, at most
constexpr double kMiB = 1 << 20;

constexpr Quantity kTimes[] = {{"picture_s", "s / picture", true}, {"step_s", "s / step", true}};

/// The row that is best by a quantity, or the number of rows where none has it.
std::size_t best_row(const std::vector<Json>& rows, const Quantity& quantity) {
  std::size_t best = rows.size();
  double value = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto found = ran(rows[i]) ? quantity_of(rows[i], quantity.name) : std::nullopt;
    if (!found || (best < rows.size() && (quantity.small_is_good ? *found >= value : *found <= value))) continue;
    best = i, value = *found;
  }
  return best;
}

bool any_has(const std::vector<Json>& rows, const std::string& quantity) {
  return std::ranges::any_of(rows, [&](const Json& row) { return quantity_of(row, quantity).has_value(); });
}

std::string figure_cell(const Json& figure) {
  std::string text = report::number(figure.at("value").get<double>());
  if (const auto interval = interval_of(figure))
    text += fmt::format(" ({} to {})", report::number(interval->first), report::number(interval->second));
  return text;
}

std::string optional_number(const std::optional<double>& value) { return value ? report::number(*value) : ""; }

std::string time_cell(const Json& row, const char* name) {
  const Json& times = row.at("timings").at(name);
  if (times.is_null()) return {};
  return fmt::format("{} / {}", report::number(times.at("median").get<double>()),
                     report::number(times.at("p95").get<double>()));
}

std::string listed(const Json& numbers) {
  std::vector<std::string> texts;
  for (const Json& number : numbers) texts.push_back(number.dump());
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::string millions(const Json& parameters) { return report::number(parameters.get<double>() / 1e6) + " M"; }

// ---- sentences ----

report::Facts facts_of(const ComparisonReport& r) {
  const Json& s = r.settings;
  const auto number = [&](const char* key) { return s.at(key).dump(); };
  const std::int64_t count = s.at("count").get<std::int64_t>();
  report::Facts facts;
  const auto add = [&](const char* name, std::string value) { facts.entries.emplace_back(name, std::move(value)); };
  add("Rows", fmt::format("{}", r.rows.size()));
  add("Pictures in each", count == 1 ? number("pictures") : fmt::format("{} x {} prompts", count, number("prompts")));
  add("Prompts (SHA-256)", s.at("prompts_sha256").get<std::string>().substr(0, 12));
  add("Seeds from", number("seed"));
  if (!s.at("width").is_null()) add("Size", number("width") + " x " + number("height"));
  add("Guidance", fmt::format("{:g}", s.at("cfg_scale").get<double>()));
  add("Warm-up pictures", number("warmup"));
  for (auto& fact : machine_facts(s)) facts.entries.push_back(std::move(fact));
  return facts;
}

/// "FID: best is euler · 20 steps, 23.4 (22.9 to 24.0). Its interval overlaps that of 2 others: ..."
std::string verdict_sentence(const ComparisonReport& r, const Quantity& quantity) {
  const std::size_t best = best_row(r.rows, quantity);
  const Json& figure = *figure_in(r.rows[best], quantity.name);
  std::string text = fmt::format("{} ({} is better): {} comes out best with {}.", quantity.title,
                                 quantity.small_is_good ? "less" : "more", r.labels[best], figure_cell(figure));
  const auto interval = interval_of(figure);
  if (!interval) return text + " There are too few pictures for an interval: this may be chance.";
  std::vector<std::string> near;
  for (std::size_t i = 0; i < r.rows.size(); ++i) {
    const Json* other = i == best || !ran(r.rows[i]) ? nullptr : figure_in(r.rows[i], quantity.name);
    const auto theirs = other == nullptr ? std::nullopt : interval_of(*other);
    if (theirs && theirs->first <= interval->second && theirs->second >= interval->first) near.push_back(r.labels[i]);
  }
  if (near.empty()) return text + " Its 95 % interval overlaps with no other row's.";
  return text + fmt::format(" Its 95 % interval overlaps with {} other{}: {}.", near.size(), near.size() > 1 ? "s" : "",
                            fmt::join(near, "; "));
}

// ---- tables ----

Table stage_table(const ComparisonReport& r) {
  Table table{{{"Row"},
               {"Load s", true},
               {"Text s", true},
               {"Step s", true},
               {"VAE s", true},
               {"Picture s", true},
               {"Tensors", true},
               {"Process", true},
               {"Joules / picture", true}},
              {}};
  for (std::size_t i = 0; i < r.rows.size(); ++i) {
    const Json& row = r.rows[i];
    if (!ran(row)) continue;
    std::vector<Cell> cells{r.labels[i]};
    for (const char* stage : {"load_s", "text_s", "step_s", "vae_s", "picture_s"})
      cells.emplace_back(time_cell(row, stage));
    for (const char* peak : {"allocator_bytes", "process_bytes"})
      cells.emplace_back(report::bytes(row.at("memory").at(peak).get<double>()));
    cells.emplace_back(optional_number(quantity_of(row, "picture_j")));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

Table figure_table(const ComparisonReport& r) {
  Table table{{{"Row"},
               {"Metric"},
               {"Variant"},
               {"Value", true},
               {"95 % interval", true},
               {"Pictures", true},
               {"Reference", true},
               {"Weights (SHA-256)"}},
              {}};
  for (std::size_t i = 0; i < r.rows.size(); ++i)
    for (const Json& record : r.rows[i].at("metrics")) {
      const metrics::Figure figure = figure_of(record);
      table.rows.push_back({r.labels[i], figure.metric, figure.variant, report::number(figure.value),
                            figure.interval ? fmt::format("{} to {}", report::number(figure.interval->first),
                                                          report::number(figure.interval->second))
                                            : std::string("-"),
                            fmt::format("{}", figure.n_fake),
                            figure.n_real > 0 ? fmt::format("{}", figure.n_real) : std::string(),
                            figure.weights_sha256.substr(0, 16)});
    }
  return table;
}

Table architecture_table(const Json& models) {
  Table table{{{"Model"},
               {"Family"},
               {"Parameters", true},
               {"Parts"},
               {"UNet channels"},
               {"Attention depth"},
               {"Attention width"},
               {"Text encoders"},
               {"VAE"},
               {"Predicts"},
               {"SHA-256"}},
              {}};
  for (const auto& [name, model] : models.items()) {
    if (!model.contains("architecture")) continue;
    const Json& a = model["architecture"];
    std::vector<std::string> parts, encoders;
    for (const Json& part : a.at("parts"))
      parts.push_back(part.at("name").get<std::string>() + " " + millions(part.at("parameters")));
    for (const Json& encoder : a.at("text_encoders"))
      encoders.push_back(fmt::format("{} layers x {}", encoder.at("layers").dump(), encoder.at("width").dump()));
    const Json& vae = a.at("vae");
    table.rows.push_back({name, a.at("family").get<std::string>(), millions(a.at("parameters")),
                          fmt::format("{}", fmt::join(parts, ", ")), listed(a.at("unet").at("channels")),
                          listed(a.at("unet").at("depth")), listed(a.at("unet").at("attention")),
                          fmt::format("{}; context {}", fmt::join(encoders, ", "), a.at("unet").at("context").dump()),
                          fmt::format("{} latent channels, 1/{}; {}", vae.at("latent_channels").dump(),
                                      vae.at("downscale").dump(), listed(vae.at("channels"))),
                          a.at("scheduler").at("prediction").get<std::string>(),
                          model.at("sha256").get<std::string>().substr(0, 12)});
  }
  return table;
}

Table verdict_table(const std::vector<Verdict>& verdicts) {
  Table table{{{"Gate"}, {"Row"}, {"Value", true}, {"Baseline", true}, {"Bound", true}, {"Result"}}, {}};
  for (const Verdict& v : verdicts)
    table.rows.push_back({v.gate, v.row, optional_number(v.value), optional_number(v.baseline),
                          optional_number(v.bound),
                          (v.broken  ? std::string("broken")
                           : v.bound ? std::string("holds")
                                     : std::string("not judged")) +
                              (v.note.empty() ? "" : ": " + v.note)});
  return table;
}

// ---- charts ----

/// Place of each row's series among the different ones, by which it has its colour.
std::vector<std::size_t> series_numbers(const ComparisonReport& r) {
  std::vector<std::string> names;
  std::vector<std::size_t> numbers;
  for (const std::string& name : r.series) {
    const auto found = std::ranges::find(names, name);
    numbers.push_back(static_cast<std::size_t>(found - names.begin()));
    if (found == names.end()) names.push_back(name);
  }
  return numbers;
}

std::string bars(const ComparisonReport& r, const std::string& quantity, const std::string& title,
                 const std::string& unit, double scale) {
  report::BarChart chart{title, unit, {}};
  const auto colours = series_numbers(r);
  for (std::size_t i = 0; i < r.rows.size(); ++i) {
    const auto value = ran(r.rows[i]) ? quantity_of(r.rows[i], quantity) : std::nullopt;
    if (!value) continue;
    report::Bar bar{r.labels[i], *value * scale, {}, colours[i]};
    if (const Json& times = r.rows[i].at("timings"); times.contains(quantity))
      bar.interval = std::pair{bar.value, times[quantity].at("p95").get<double>() * scale};
    chart.bars.push_back(std::move(bar));
  }
  return report::to_svg(chart);
}

/// A figure against the time that a picture takes: what more steps buy.
std::string cost_plot(const ComparisonReport& r, const Quantity& quantity) {
  report::Plot plot;
  plot.title =
      fmt::format("{} against time ({} is better)", quantity.title, quantity.small_is_good ? "lower" : "higher");
  plot.x_label = "seconds per picture (median)";
  plot.y_label = quantity.title;
  plot.lines = true;
  const auto numbers = series_numbers(r);
  for (std::size_t i = 0; i < r.rows.size(); ++i) {
    if (numbers[i] >= plot.series.size()) plot.series.resize(numbers[i] + 1);
    plot.series[numbers[i]].name = r.series[i];
    const Json* figure = ran(r.rows[i]) ? figure_in(r.rows[i], quantity.name) : nullptr;
    const auto seconds = quantity_of(r.rows[i], "picture_s");
    if (figure == nullptr || !seconds) continue;
    plot.series[numbers[i]].points.push_back(
        {*seconds, figure->at("value").get<double>(), interval_of(*figure), r.labels[i]});
  }
  return report::to_svg(plot);
}

report::Charts all_charts(const ComparisonReport& r) {
  report::Charts charts;
  charts.svg.push_back(bars(r, "picture_s", "Seconds per picture: median, line to p95", "seconds", 1));
  for (const Quantity& quantity : figure_quantities())
    if (any_has(r.rows, quantity.name)) charts.svg.push_back(cost_plot(r, quantity));
  charts.svg.push_back(bars(r, "process_bytes", "Peak memory of the process", "MiB", 1 / kMiB));
  std::erase(charts.svg, "");
  return charts;
}

// ---- pictures ----

std::string shown_picture(const std::string& path) {
  image::Image picture = image::read_image(path);
  const int longer = std::max(picture.width, picture.height);
  if (longer > kShownSide)
    picture = image::resize(picture, std::max(1, picture.width * kShownSide / longer),
                            std::max(1, picture.height * kShownSide / longer));
  return report::data_uri(picture);
}

report::Pictures picture_grid(const ComparisonReport& r) {
  report::Pictures pictures;
  for (std::size_t i = 0; i < r.rows.size(); ++i)
    if (ran(r.rows[i])) pictures.grid.headings.push_back(r.labels[i]);
  for (std::size_t p = 0; p < r.prompts.size(); ++p) {
    report::PictureGrid::Row row{r.prompts[p], {}};
    std::vector<std::string> paths;
    for (const Json& record : r.rows) {
      if (!ran(record)) continue;
      paths.push_back(record.at("pictures").at(p).get<std::string>());
      row.uris.push_back(shown_picture(r.folder + "/" + paths.back()));
    }
    pictures.grid.rows.push_back(std::move(row));
    pictures.paths.push_back(std::move(paths));
  }
  return pictures;
}

// ---- files ----

void add_failures(const ComparisonReport& r, std::vector<report::Block>& blocks) {
  for (std::size_t i = 0; i < r.rows.size(); ++i) {
    if (!ran(r.rows[i]))
      blocks.push_back(report::Paragraph{
          fmt::format("Failed: {}: {}", r.labels[i], r.rows[i].at("error").get<std::string>()), report::Tone::alarm});
    for (const Json& failed : r.rows[i].value("failed_metrics", Json::array()))
      blocks.push_back(
          report::Paragraph{fmt::format("Not computed: {} of {}: {}", failed.at("metric").get<std::string>(),
                                        r.labels[i], failed.at("error").get<std::string>()),
                            report::Tone::alarm});
  }
}

report::Document document_of(const ComparisonReport& r) {
  report::Document document{"Comparison of picture models", {}};
  auto& blocks = document.blocks;
  const auto heading = [&](const char* text) { blocks.push_back(report::Heading{text}); };
  blocks.push_back(facts_of(r));
  add_failures(r, blocks);
  heading("Results");
  for (const Quantity& quantity : figure_quantities())
    if (best_row(r.rows, quantity) < r.rows.size())
      blocks.push_back(report::Paragraph{verdict_sentence(r, quantity), report::Tone::finding});
  blocks.push_back(results_table(r));
  blocks.push_back(all_charts(r));
  if (!r.verdicts.empty()) {
    heading("Gates");
    blocks.push_back(verdict_table(r.verdicts));
  }
  if (!r.prompts.empty() && std::ranges::any_of(r.rows, ran)) {
    heading("Pictures: the same seed in each row");
    blocks.push_back(picture_grid(r));
  }
  heading("Where the time and memory go (median / p95)");
  blocks.push_back(stage_table(r));
  if (std::ranges::any_of(r.rows, [](const Json& row) { return !row.at("metrics").empty(); })) {
    heading("Figures");
    blocks.push_back(figure_table(r));
  }
  heading("Models");
  blocks.push_back(architecture_table(r.models));
  return document;
}

}  // namespace

Table results_table(const ComparisonReport& r) {
  Table table{{{"Row"}}, {}};
  std::vector<Quantity> shown;
  for (const Quantity& quantity : figure_quantities())
    if (any_has(r.rows, quantity.name)) shown.push_back(quantity);
  const std::size_t figures = shown.size();
  for (const Quantity& quantity : kTimes) shown.push_back(quantity);
  for (const Quantity& quantity : shown) table.columns.push_back({quantity.title, true});
  table.columns.push_back({"Peak memory", true});
  const bool contest = std::ranges::count_if(r.rows, ran) > 1;
  std::vector<std::size_t> best;
  for (const Quantity& quantity : shown) best.push_back(contest ? best_row(r.rows, quantity) : r.rows.size());
  for (std::size_t i = 0; i < r.rows.size(); ++i) {
    const Json& row = r.rows[i];
    std::vector<Cell> cells{r.labels[i]};
    for (std::size_t k = 0; k < shown.size(); ++k) {
      std::string text;
      if (!ran(row))
        text = k == 0 ? "failed" : "";
      else if (const Json* figure = k < figures ? figure_in(row, shown[k].name) : nullptr)
        text = figure_cell(*figure);
      else if (k >= figures)
        text = optional_number(quantity_of(row, shown[k].name));
      cells.emplace_back(text, best[k] == i);
    }
    cells.emplace_back(ran(row) ? report::bytes(row.at("memory").at("process_bytes").get<double>()) : "");
    table.rows.push_back(std::move(cells));
  }
  return table;
}

std::vector<std::string> write_reports(const ComparisonReport& r) {
  const report::Document document = document_of(r);
  std::string lines;
  for (const Json& row : r.rows) lines += base::dump_json(row) + "\n";
  const std::pair<const char*, std::string> files[] = {{"results.jsonl", lines},
                                                       {"results.csv", results_csv(r.rows)},
                                                       {"report.md", report::to_markdown(document)},
                                                       {"report.html", report::to_html(document)}};
  std::vector<std::string> paths;
  for (const auto& [name, bytes] : files) {
    paths.push_back(r.folder + "/" + name);
    io::write_atomically(paths.back(), bytes);
  }
  return paths;
}

}  // namespace atelier::cli
