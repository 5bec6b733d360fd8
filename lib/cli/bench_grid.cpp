#include "cli/bench_grid.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/toml.h"
#include "io/file_system.h"

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;
using base::Json;

constexpr std::size_t kMaxBytes = 1u << 20, kMaxRows = 10000;
constexpr std::int64_t kMaxSteps = 10000;
constexpr const char* kNone = "none";

std::vector<std::string> texts_of(const Json& value, const std::string& where) {
  std::vector<std::string> texts;
  for (const Json& item : value.is_array() ? value : Json::array({value})) {
    if (!item.is_string() && !item.is_number_integer())
      throw Error(ExitCode::data, where + ": texts or whole numbers belong there");
    texts.push_back(item.is_string() ? item.get<std::string>() : item.dump());
  }
  if (texts.empty()) throw Error(ExitCode::data, where + ": an axis without a value leaves no row");
  return texts;
}

/// Relative to the grid's own folder, so that a grid can be moved with its models.
std::string beside(const std::string& grid, const std::string& path) {
  if (path == kNone || fs::path(path).is_absolute()) return path;
  return (fs::path(grid).parent_path() / path).lexically_normal().string();
}

std::int64_t whole_number(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size() || value < 1 || value > kMaxSteps)
    throw Error(ExitCode::usage,
                fmt::format("--steps: {} is not a whole number from 1 to {}", base::in_quotes(text), kMaxSteps));
  return value;
}

void check_dtype(const std::string& dtype) {
  const std::vector<std::string> known{"auto", "fp32", "bf16", "fp16"};
  if (std::ranges::find(known, dtype) != known.end()) return;
  const std::string close = base::nearest(dtype, known);
  throw Error(ExitCode::usage,
              fmt::format("--dtypes: {} is not one of {}", base::in_quotes(dtype), fmt::join(known, ", ")),
              close.empty() ? "" : fmt::format("did you mean \"{}\"?", close));
}

/// The last `parts` parts of a path, without an ending where it is a file of weights.
std::string tail(const std::string& path, std::size_t parts) {
  const fs::path whole = fs::path(path).has_filename() ? fs::path(path) : fs::path(path).parent_path();
  std::vector<std::string> names;
  for (fs::path at = whole; names.size() < parts && at.has_filename(); at = at.parent_path())
    names.insert(names.begin(),
                 names.empty() && at.extension() == ".safetensors" ? at.stem().string() : at.filename().string());
  return names.empty() ? path : fmt::format("{}", fmt::join(names, "/"));
}

/// Short names for paths, no two the same.
std::map<std::string, std::string> short_names(const std::vector<std::string>& paths) {
  for (std::size_t parts = 1; parts <= 8; ++parts) {
    std::map<std::string, std::string> names;
    std::set<std::string> taken;
    for (const std::string& path : paths) taken.insert(names[path] = tail(path, parts));
    if (taken.size() == names.size()) return names;
  }
  std::map<std::string, std::string> names;
  for (const std::string& path : paths) names[path] = path;
  return names;
}

/// What of its five properties tell a row from the others.
std::string label_of(const GridRow& row, const GridAxes& axes) {
  std::vector<std::string> parts;
  if (axes.models.size() > 1) parts.push_back(row.model_name);
  if (axes.loras.size() > 1) parts.push_back(row.lora_name);
  if (axes.dtypes.size() > 1) parts.push_back(row.dtype);
  if (axes.samplers.size() > 1) parts.push_back(row.sampler);
  if (axes.steps.size() > 1) parts.push_back(fmt::format("{} steps", row.steps));
  return parts.empty() ? row.model_name : fmt::format("{}", fmt::join(parts, " · "));
}

}  // namespace

std::string GridRow::id() const { return fmt::format("{}/{}/{}/{}/{}", model_name, lora_name, dtype, sampler, steps); }

void read_grid(const std::string& path, GridAxes& flags) {
  const Json grid = base::parse_toml(io::read_file(path, kMaxBytes), path);
  const std::map<std::string, std::vector<std::string>*> known{{"models", &flags.models},
                                                               {"loras", &flags.loras},
                                                               {"dtypes", &flags.dtypes},
                                                               {"samplers", &flags.samplers},
                                                               {"steps", &flags.steps}};
  for (const auto& [key, value] : grid.items()) {
    const auto axis = known.find(key);
    if (axis == known.end()) {
      std::vector<std::string> names;
      for (const auto& entry : known) names.push_back(entry.first);
      const std::string close = base::nearest(key, names);
      throw Error(ExitCode::usage, fmt::format("{}: unknown axis {}", path, base::in_quotes(key)),
                  close.empty() ? fmt::format("axes are {}", fmt::join(names, ", "))
                                : fmt::format("did you mean \"{}\"?", close));
    }
    if (!axis->second->empty()) continue;
    *axis->second = texts_of(value, fmt::format("{}: \"{}\"", path, key));
    if (key == "models" || key == "loras")
      for (std::string& text : *axis->second) text = beside(path, text);
  }
}

std::vector<GridRow> make_rows(const GridAxes& given) {
  GridAxes axes = given;
  if (axes.loras.empty()) axes.loras = {kNone};
  if (axes.dtypes.empty()) axes.dtypes = {"auto"};
  if (axes.samplers.empty()) axes.samplers = {"default"};
  if (axes.steps.empty()) axes.steps = {"20"};
  for (const std::string& dtype : axes.dtypes) check_dtype(dtype);
  std::size_t count = 1;
  for (const auto* axis : {&axes.models, &axes.loras, &axes.dtypes, &axes.samplers, &axes.steps}) {
    count *= axis->size();
    if (count > kMaxRows) throw Error(ExitCode::usage, fmt::format("the grid has more than {} rows", kMaxRows));
  }
  const auto model_names = short_names(axes.models), lora_names = short_names(axes.loras);
  std::vector<GridRow> rows;
  std::set<std::string> seen;
  for (const std::string& model : axes.models)
    for (const std::string& dtype : axes.dtypes)
      for (const std::string& lora : axes.loras)
        for (const std::string& sampler : axes.samplers)
          for (const std::string& steps : axes.steps) {
            GridRow row;
            row.model = model, row.model_name = model_names.at(model);
            row.lora = lora == kNone ? "" : lora, row.lora_name = lora_names.at(lora);
            row.dtype = dtype, row.sampler = sampler, row.steps = whole_number(steps);
            row.label = label_of(row, axes);
            if (!seen.insert(row.id()).second)
              throw Error(ExitCode::usage, fmt::format("the row {} is there twice", row.id()));
            rows.push_back(std::move(row));
          }
  return rows;
}

}  // namespace atelier::cli
