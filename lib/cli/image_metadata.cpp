#include "cli/image_metadata.h"

#include <charconv>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/image_controls.h"
#include "image/parameters.h"
#include "image/read.h"
#include "schedulers/samplers.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

const char* tool_of(ImageTask task) {
  switch (task) {
    case ImageTask::txt2img: return "sd-txt2img";
    case ImageTask::img2img: return "sd-img2img";
    case ImageTask::inpaint: return "sd-inpaint";
  }
  return "";
}

std::string number_text(double value) { return fmt::format("{:g}", value); }

std::string model_name(const std::string& path) {
  std::filesystem::path folder(path);
  if (!folder.has_filename()) folder = folder.parent_path();
  return folder.extension() == ".safetensors" ? folder.stem().string() : folder.filename().string();
}

/// "latent-bicubic-antialiased" is "Latent (bicubic antialiased)" there.
std::string a1111_upscaler(const std::string& name) {
  std::string text = name;
  text[0] = static_cast<char>(text[0] - 'a' + 'A');
  const std::size_t dash = text.find('-');
  if (dash == std::string::npos) return text;
  std::string filter = text.substr(dash + 1);
  if (filter == "bicubic-antialiased") filter = "bicubic antialiased";
  return fmt::format("{} ({})", text.substr(0, dash), filter);
}

image::Parameters parameters_of(const ImageOptions& o, ImageTask task, const std::string& model,
                                const schedulers::SamplerChoice& sampler, const Json& adapters) {
  image::Parameters p;
  p.prompt = o.prompt.value_or("");
  p.negative_prompt = o.negative.value_or("");
  const auto add = [&p](const char* key, std::string value) { p.fields.emplace_back(key, std::move(value)); };
  add("Steps", std::to_string(o.steps));
  add("Sampler", schedulers::a1111_name(sampler.sampler));
  if (sampler.schedule != schedulers::Schedule::of_config)
    add("Schedule type", schedulers::a1111_name(sampler.schedule));
  add("CFG scale", number_text(o.cfg_scale));
  add("Seed", std::to_string(o.common.seed.value_or(0)));
  add("Size", fmt::format("{}x{}", o.width, o.height));
  add("Model", model_name(model));
  if (task != ImageTask::txt2img) add("Denoising strength", number_text(o.strength));
  if (o.clip_skip) add("Clip skip", std::to_string(*o.clip_skip));
  if (o.weighting != "a1111") add("Emphasis", o.weighting == "none" ? "None" : "Comfy");
  if (o.hires > 1) {
    add("Denoising strength", number_text(o.hires_strength));
    add("Hires upscale", number_text(o.hires));
    add("Hires upscaler", a1111_upscaler(o.hires_upscaler));
  }
  if (o.soft_inpaint && task == ImageTask::inpaint) {  // A1111's names
    add("Soft inpainting enabled", "True");
    add("Soft inpainting schedule bias", number_text(o.soft.schedule_bias));
    add("Soft inpainting preservation strength", number_text(o.soft.preservation));
    add("Soft inpainting transition contrast boost", number_text(o.soft.contrast_boost));
    add("Soft inpainting mask influence", number_text(o.soft.mask_influence));
    add("Soft inpainting difference threshold", number_text(o.soft.difference_threshold));
    add("Soft inpainting difference contrast", number_text(o.soft.difference_contrast));
  }
  std::size_t controls = 0;
  for (const Json& adapter : adapters) {
    if (adapter["kind"] == "controlnet") add(fmt::format("ControlNet {}", controls++).c_str(), control_text(adapter));
    if (adapter["kind"] != "upscaler") continue;
    add("Postprocess upscale by", std::to_string(adapter["scale"].get<std::int64_t>()));
    add("Postprocess upscaler", model_name(adapter["path"].get<std::string>()));
  }
  add("Version", fmt::format("atelier {}", ATELIER_VERSION));
  return p;
}

/// A whole number inside a text of A1111's; nothing where it is none.
template <typename T>
std::optional<T> parse(const std::string* text) {
  T value{};
  if (text == nullptr) return std::nullopt;
  const auto [end, failed] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (failed != std::errc() || end != text->data() + text->size()) return std::nullopt;
  return value;
}

/// --hires-upscaler by A1111's name.
std::string upscaler_of(const std::string& theirs, const std::string& path) {
  for (std::string& name : hires_upscalers())
    if (a1111_upscaler(name) == theirs) return std::move(name);
  base::log_warning(fmt::format("{}: the hires upscaler {} is not known here; Lanczos stands in for it", path,
                                base::in_quotes(theirs)));
  return "lanczos";
}

Json settings_of_parameters(const std::string& text, ImageTask task, const std::string& path) {
  const image::Parameters p = image::parse_parameters(text);
  const auto steps = parse<std::int64_t>(p.find("Steps"));
  const auto seed = parse<std::uint64_t>(p.find("Seed"));
  if (!steps || !seed) throw Error(ExitCode::data, fmt::format("{}: its \"parameters\" name no steps and seed", path));
  Json s = {{"prompt", p.prompt}, {"negative", p.negative_prompt}, {"steps", *steps}, {"seed", *seed}};
  if (const auto* sampler = p.find("Sampler")) s["sampler"] = *sampler;
  if (const auto* schedule = p.find("Schedule type"); schedule != nullptr && *schedule != "Automatic")
    s["schedule"] = *schedule;
  if (const auto scale = parse<double>(p.find("CFG scale"))) s["cfg_scale"] = *scale;
  if (const auto skip = parse<std::int64_t>(p.find("Clip skip"))) s["clip_skip"] = *skip;
  if (const auto* size = p.find("Size")) {
    const std::size_t cross = size->find('x');
    const std::string left = size->substr(0, cross), right = cross == std::string::npos ? "" : size->substr(cross + 1);
    const auto width = parse<std::int64_t>(&left), height = parse<std::int64_t>(&right);
    if (width && height) s["width"] = *width, s["height"] = *height;
  }
  const auto strength = parse<double>(p.find("Denoising strength"));
  const auto hires = parse<double>(p.find("Hires upscale"));
  if (task == ImageTask::txt2img && hires) {
    s["hires"] = *hires;
    if (strength) s["hires_strength"] = *strength;
    if (const auto* upscaler = p.find("Hires upscaler")) s["hires_upscaler"] = upscaler_of(*upscaler, path);
  } else if (task != ImageTask::txt2img && strength) {
    s["strength"] = *strength;
  }
  return s;
}

}  // namespace

std::string picture_path(const std::string& pattern, std::int64_t number, bool several, const char* flag) {
  if (pattern == "-") return "/dev/stdout";
  const std::string given = pattern.empty() ? "out.png" : pattern;
  std::string path;
  bool numbered = false;
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (given[i] != '%') {
      path += given[i];
      continue;
    }
    if (given.compare(i, 2, "%%") == 0) {
      path += '%';
      ++i;
      continue;
    }
    std::size_t end = i + 1;
    while (end < given.size() && given[end] >= '0' && given[end] <= '9') ++end;
    const std::string digits = given.substr(i + 1, end - i - 1);
    const bool known =
        end < given.size() && given[end] == 'd' && digits.size() <= 2 && (digits.empty() || digits[0] == '0');
    if (!known || numbered)
      throw Error(ExitCode::usage, fmt::format("{} {}: only one %d or %03d, and %% for a percent sign", flag, given));
    path += fmt::format("{:0{}}", number, digits.empty() ? 1 : std::stoi(digits));
    numbered = true;
    i = end;
  }
  if (!several || numbered) return path;
  const std::filesystem::path whole(path);
  const std::string name = fmt::format("{}_{:03}{}", whole.stem().string(), number, whole.extension().string());
  return whole.has_parent_path() ? (whole.parent_path() / name).string() : name;
}

image::Metadata picture_metadata(const ImageOptions& options, ImageTask task, const pipelines::ImageModelFiles& model,
                                 const schedulers::SamplerChoice& sampler, const Json& adapters) {
  Json files = Json::array();
  for (const io::WeightFile& file : model.weight_files()) files.push_back({{"path", file.path}, {"bytes", file.bytes}});
  // Hashes of the weights stand in --manifest: computing them for every run would take longer than a picture.
  const Json whole = {{"tool", tool_of(task)},
                      {"version", ATELIER_VERSION},
                      {"options", picture_settings(options, task)},
                      {"model", {{"path", model.path}, {"files", std::move(files)}}},
                      {"adapters", adapters},
                      {"seeds", Json::array({options.common.seed.value_or(0)})},
                      {"device", model.device.str()},
                      {"dtype", std::string(io::dtype_name(io::dtype_of(model.dtype)))}};
  return {{std::string(image::kParametersKey),
           image::format_parameters(parameters_of(options, task, model.path, sampler, adapters))},
          {std::string(image::kAtelierKey), base::dump_json(whole)}};
}

Json settings_of_picture(const std::string& path, ImageTask task) {
  const image::Metadata text = image::read_metadata(path);
  if (const std::string* own = image::find_text(text, image::kAtelierKey)) {
    const Json json = base::parse_json(*own, path + ": its metadata");
    const bool whole = json.is_object() && json.contains("options") && json["options"].is_object() &&
                       json.contains("tool") && json["tool"].is_string();
    if (!whole) throw Error(ExitCode::data, fmt::format("{}: its \"atelier\" metadata are damaged", path));
    if (json["tool"] != tool_of(task))
      throw Error(ExitCode::usage,
                  fmt::format("{}: made by {}", path, base::printable(json["tool"].get<std::string>())),
                  "use that tool's --reproduce");
    return json["options"];
  }
  if (const std::string* theirs = image::find_text(text, image::kParametersKey))
    return settings_of_parameters(*theirs, task, path);
  throw Error(ExitCode::data, fmt::format("{}: the picture carries no settings", path));
}

}  // namespace atelier::cli
