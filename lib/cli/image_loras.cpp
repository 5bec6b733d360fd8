#include "cli/image_loras.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"
#include "io/torch_checkpoint.h"
#include "text/weighted_prompt.h"

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;
using base::Json;
using pipelines::LoraReport;
using pipelines::LoraRequest;

constexpr double kMaxScale = 100;

bool is_file(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

std::optional<double> scale_of(std::string_view text) {
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

void check_scale(double scale, const std::string& what) {
  if (std::abs(scale) > kMaxScale)
    throw Error(ExitCode::usage, fmt::format("{}: a scale lies between {} and {}", what, -kMaxScale, kMaxScale));
}

/// FILE[:scale]; a name with a colon that is there is a file.
LoraRequest parse_flag(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  LoraRequest request{text};
  if (colon != std::string::npos && !is_file(text)) {
    const auto scale = scale_of(std::string_view(text).substr(colon + 1));
    if (!scale)
      throw Error(ExitCode::usage, fmt::format("--lora {}: \"{}\" is no scale", text, text.substr(colon + 1)));
    request = {text.substr(0, colon), *scale, *scale};
  }
  check_scale(request.unet_scale, "--lora " + text);
  if (!is_file(request.path)) throw Error(ExitCode::no_input, fmt::format("--lora {}: no such file", request.path));
  return request;
}

bool is_weights(const fs::path& path) {
  return path.extension() == ".safetensors" || io::is_torch_checkpoint(path.string());
}

/// The files of --lora-dir by the names that tags may call them: without ending, with or without the folders in between.
std::map<std::string, std::string> names_in(const std::string& folder) {
  std::map<std::string, std::string> names;
  std::error_code failed;
  std::vector<fs::path> paths;
  for (auto at = fs::recursive_directory_iterator(folder, failed); !failed && at != fs::recursive_directory_iterator();
       at.increment(failed))
    if (is_weights(at->path())) paths.push_back(at->path());
  if (failed) throw Error(ExitCode::no_input, fmt::format("--lora-dir {}: {}", folder, failed.message()));
  std::sort(paths.begin(), paths.end());
  for (const fs::path& path : paths) {
    fs::path inner = path.lexically_relative(folder);
    inner.replace_extension();
    names.emplace(inner.generic_string(), path.string());
    names.emplace(inner.filename().string(), path.string());
  }
  return names;
}

LoraRequest find_tag(const text::LoraTag& tag, const std::map<std::string, std::string>& names,
                     const std::string& folder) {
  const std::string shown = fmt::format("<lora:{}>", base::printable(tag.name));
  const auto place = names.find(tag.name);
  if (place == names.end()) {
    std::vector<std::string> known;
    for (const auto& entry : names) known.push_back(entry.first);
    const std::string close = base::nearest(tag.name, known);
    throw Error(ExitCode::no_input, fmt::format("{}: no file of this name in {}", shown, folder),
                close.empty() ? "" : fmt::format("did you mean \"{}\"?", base::printable(close)));
  }
  check_scale(tag.unet_scale, shown);
  check_scale(tag.text_scale, shown);
  return {place->second, tag.unet_scale, tag.text_scale};
}

}  // namespace

PromptLoras prompt_loras(const ImageOptions& options) {
  PromptLoras result;
  for (const std::string& text : options.loras) result.loras.push_back(parse_flag(text));
  std::vector<text::LoraTag> tags;
  result.prompt = text::take_lora_tags(options.prompt.value_or(""), tags);
  if (!tags.empty()) {
    if (options.lora_dir.empty())
      throw Error(ExitCode::usage, fmt::format("<lora:{}>: --lora-dir, the folder of such files, is missing",
                                               base::printable(tags[0].name)));
    const auto names = names_in(options.lora_dir);
    for (const auto& tag : tags) result.loras.push_back(find_tag(tag, names, options.lora_dir));
  }
  for (const LoraRequest& request : result.loras) pipelines::open_lora(request.path);
  return result;
}

Json describe_loras(const std::vector<LoraReport>& reports) {
  Json all = Json::array();
  for (const LoraReport& report : reports) {
    Json one = {{"path", report.request.path}, {"kind", "lora"}, {"scale", report.request.unet_scale}};
    if (report.request.text_scale != report.request.unet_scale) one["text_scale"] = report.request.text_scale;
    one["modules"] = report.modules;
    one["matched"] = report.matched;
    one["unmatched"] = report.unmatched.size();
    all.push_back(std::move(one));
  }
  return all;
}

void check_matches(const std::vector<LoraReport>& reports, bool strict) {
  for (const LoraReport& report : reports) {
    if (report.unmatched.empty()) continue;
    const std::string line = fmt::format(
        "{}: {} of {} keys match nothing in this model, the first is {}", report.request.path, report.unmatched.size(),
        report.matched + report.unmatched.size(), base::in_quotes(report.unmatched.front()));
    if (strict) throw Error(ExitCode::data, line, "without --strict the rest of it is used");
    base::log_warning(line);
  }
}

}  // namespace atelier::cli
