#include "cli/bench_gate.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"
#include "cli/text_lines.h"
#include "report/text.h"

namespace atelier::cli {

using base::Error;
using base::ExitCode;
using base::Json;

namespace {

constexpr std::size_t kMaxBytes = 256u << 20;

const Json* find_figure(const Json& row, const std::string& metric) {
  const auto figures = row.find("metrics");
  if (figures == row.end() || !figures->is_array()) return nullptr;
  for (const Json& figure : *figures)
    if (figure.is_object() && figure.value("metric", "") == metric) return &figure;
  return nullptr;
}

bool ran(const Json& row) { return row.value("status", "") == "ok"; }

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? "" : found->dump();
}

void check_comparable(const Json& now, const Json& before, const std::string& quantity) {
  const std::string id = now.value("id", "");
  const auto differ = [&](const Json& a, const Json& b, const char* key, const char* what) {
    if (text_of(a, key) == text_of(b, key)) return;
    throw Error(ExitCode::data, fmt::format("--baseline: {} of {} is not comparable: {} ({} now, {} then)", quantity,
                                            id, what, text_of(a, key), text_of(b, key)));
  };
  differ(now, before, "prompts_sha256", "other prompts");
  const Json* figure = find_figure(now, quantity);
  const Json* old = find_figure(before, quantity);
  if (figure == nullptr || old == nullptr) return;
  differ(*figure, *old, "variant", "another variant");
  differ(*figure, *old, "weights_sha256", "other weights");
  differ(*figure, *old, "n_real", "another number of reference pictures");
  differ(*figure, *old, "n_fake", "another number of pictures");
}

Verdict judge_row(const Gate& gate, const Json& row, const Json* before) {
  Verdict verdict;
  verdict.row = row.value("id", "");
  verdict.gate = gate.text;
  if (!ran(row)) {
    verdict.broken = before != nullptr && ran(*before);
    verdict.note = verdict.broken ? "the row failed, in the baseline it ran" : "the row failed";
    return verdict;
  }
  verdict.value = quantity_of(row, gate.quantity);
  if (before != nullptr) verdict.baseline = quantity_of(*before, gate.quantity);
  if (!verdict.value) {
    verdict.broken = true;
    verdict.note = "it was not measured";
    return verdict;
  }
  if (gate.relative && !verdict.baseline) {
    verdict.note = "the baseline does not have it";
    return verdict;
  }
  if (gate.relative) check_comparable(row, *before, gate.quantity);
  verdict.bound = gate.bound(verdict.baseline.value_or(0));
  verdict.broken = gate.above ? *verdict.value > *verdict.bound : *verdict.value < *verdict.bound;
  return verdict;
}

}  // namespace

double Gate::bound(double baseline) const {
  if (!relative) return limit;
  return baseline + (percent ? std::abs(baseline) * limit / 100 : limit);
}

const std::vector<std::string>& gate_quantities() {
  static const std::vector<std::string> names{
      "fid",    "kid",   "diversity", "clip-score",      "preference",    "load_s",   "text_s",
      "step_s", "vae_s", "picture_s", "allocator_bytes", "process_bytes", "picture_j"};
  return names;
}

Gate parse_gate(const std::string& text) {
  const auto refuse = [&](const std::string& why,
                          const std::string& hint = "write it like \"fid>+2%\", \"step_s>+0.1\" or \"clip-score<25\"") {
    return Error(ExitCode::usage, fmt::format("--fail-if {}: {}", base::in_quotes(text), why), hint);
  };
  Gate gate;
  gate.text = text;
  const std::size_t sign = text.find_first_of("<>");
  if (sign == std::string::npos) throw refuse("there is no < or > in it");
  const auto trimmed = [](std::string part) {
    const std::size_t from = part.find_first_not_of(' ');
    return from == std::string::npos ? "" : part.substr(from, part.find_last_not_of(' ') - from + 1);
  };
  gate.quantity = trimmed(text.substr(0, sign));
  gate.above = text[sign] == '>';
  const auto& known = gate_quantities();
  if (std::ranges::find(known, gate.quantity) == known.end()) {
    const std::string close = base::nearest(gate.quantity, known);
    throw refuse(
        fmt::format("{} is not measured", base::in_quotes(gate.quantity)),
        close.empty() ? fmt::format("one of {}", fmt::join(known, ", ")) : fmt::format("did you mean \"{}\"?", close));
  }
  std::string limit = trimmed(text.substr(sign + 1));
  gate.percent = limit.ends_with('%');
  if (gate.percent) limit.pop_back();
  gate.relative = limit.starts_with('+') || limit.starts_with('-');
  if (limit.starts_with('+')) limit.erase(0, 1);
  const auto [end, failed] = std::from_chars(limit.data(), limit.data() + limit.size(), gate.limit);
  if (failed != std::errc() || end != limit.data() + limit.size() || limit.empty() || !std::isfinite(gate.limit))
    throw refuse(fmt::format("{} is not a number", base::in_quotes(limit)));
  if (gate.percent && !gate.relative) throw refuse("a percentage is of the baseline, and begins with + or -");
  return gate;
}

std::optional<double> quantity_of(const Json& row, const std::string& quantity) {
  const auto number = [](const Json* value) {
    return value != nullptr && value->is_number() ? std::optional(value->get<double>()) : std::nullopt;
  };
  const auto member = [](const Json& object, const char* key) {
    const auto found = object.is_object() ? object.find(key) : object.end();
    return found == object.end() || !object.is_object() ? nullptr : &*found;
  };
  if (const Json* figure = find_figure(row, quantity)) return number(member(*figure, "value"));
  if (const Json* timings = member(row, "timings"))
    if (const Json* time = member(*timings, quantity.c_str())) return number(member(*time, "median"));
  for (const char* group : {"memory", "energy"})
    if (const Json* found = member(row, group))
      if (const Json* value = member(*found, quantity.c_str())) return number(value);
  return std::nullopt;
}

std::vector<Json> read_results(const std::string& path) {
  std::vector<Json> rows;
  for_each_line(path, kMaxBytes, [&](const std::string& line, const std::string& where) {
    Json row = base::parse_json(line, where);
    if (!row.is_object() || !row.contains("id") || !row["id"].is_string())
      throw Error(ExitCode::data, where + ": not a row of a comparison's results.jsonl");
    rows.push_back(std::move(row));
  });
  return rows;
}

std::vector<Verdict> judge(const std::vector<Gate>& gates, const std::vector<Json>& rows,
                           const std::vector<Json>& baseline) {
  const auto before = [&](const Json& row) -> const Json* {
    const auto found = std::ranges::find_if(baseline, [&](const Json& old) { return old["id"] == row["id"]; });
    return found == baseline.end() ? nullptr : &*found;
  };
  const bool relative = std::ranges::any_of(gates, &Gate::relative);
  if (relative && std::ranges::none_of(rows, [&](const Json& row) { return before(row) != nullptr; }))
    throw Error(ExitCode::data, "--baseline: none of its rows is one of this comparison",
                baseline.empty() ? "it is empty"
                                 : fmt::format("it has {}, here is {}", baseline[0]["id"].get<std::string>(),
                                               rows.empty() ? "none" : rows[0]["id"].get<std::string>()));
  std::vector<Verdict> verdicts;
  for (const Gate& gate : gates)
    for (const Json& row : rows) verdicts.push_back(judge_row(gate, row, before(row)));
  return verdicts;
}

}  // namespace atelier::cli
