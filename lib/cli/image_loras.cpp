#include "cli/image_loras.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"
#include "cli/scaled_path.h"
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

LoraRequest parse_flag(const std::string& text) {
  const ScaledPath given = parse_scaled_path("--lora", text, /*folder=*/false);
  return {given.path, given.scale, given.scale};
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
  check_adapter_scale(tag.unet_scale, shown);
  check_adapter_scale(tag.text_scale, shown);
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
