#include "cli/image_controls.h"

#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"
#include "cli/scaled_path.h"
#include "image/filter.h"
#include "pipelines/weight_files.h"

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;

constexpr double kMaxScale = 100;

bool is_file(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

/// Splits FILE:IMAGE at the last colon that leaves two files that are there.
bool split(const std::string& text, ControlRequest& request) {
  for (std::size_t colon = text.rfind(':'); colon != std::string::npos && colon > 0;
       colon = text.rfind(':', colon - 1)) {
    const std::string network = text.substr(0, colon), picture = text.substr(colon + 1);
    if (!pipelines::exists(network) || !is_file(picture)) continue;
    request.network = network;
    request.picture = picture;
    return true;
  }
  return false;
}

[[noreturn]] void fail(ExitCode code, const std::string& text, const std::string& what) {
  throw Error(code, fmt::format("--control {}: {}", text, what), "it wants FILE:IMAGE or FILE:IMAGE:SCALE");
}

/// Two files were not found: says which part is wrong, read from the end.
[[noreturn]] void explain(std::string text) {
  const std::string whole = text;
  if (text.find(':') == std::string::npos) fail(ExitCode::usage, whole, "the picture is missing");
  if (const std::size_t last = text.rfind(':'); text.find(':') != last && parse_scale(text.substr(last + 1)))
    text.resize(last);
  const std::size_t colon = text.rfind(':');
  const std::string network = text.substr(0, colon), picture = text.substr(colon + 1);
  if (network.empty()) fail(ExitCode::usage, whole, "the ControlNet's file is missing");
  if (picture.empty() || (parse_scale(picture) && pipelines::exists(network)))
    fail(ExitCode::usage, whole, "the picture is missing");
  throw Error(ExitCode::no_input, fmt::format("--control {}: no such file", pipelines::exists(network) ? picture : network));
}

ControlRequest parse(const std::string& text) {
  ControlRequest request;
  if (split(text, request)) return request;
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || !split(text.substr(0, colon), request)) explain(text);
  const std::string given = text.substr(colon + 1);
  const auto scale = parse_scale(given);
  if (!scale) fail(ExitCode::usage, text, fmt::format("\"{}\" is no scale", given));
  if (*scale < 0 || *scale > kMaxScale)
    fail(ExitCode::usage, text, fmt::format("a scale lies between 0 and {}", kMaxScale));
  request.scale = *scale;
  return request;
}

/// The value of a flag that is given once for all, or once for each --control.
std::string value_for(const std::vector<std::string>& values, const char* flag, std::size_t index, std::size_t count,
                      const char* fallback) {
  if (values.empty()) return fallback;
  if (values.size() != 1 && values.size() != count)
    throw Error(ExitCode::usage, fmt::format("{}: {} values for {} --control; give one for all, or one for each", flag,
                                             values.size(), count));
  return values.size() == 1 ? values[0] : values[index];
}

void need_control(const ImageOptions& o) {
  for (const auto& [values, flag] :
       {std::pair{&o.control_prepare, "--control-prepare"}, std::pair{&o.control_start, "--control-start"},
        std::pair{&o.control_end, "--control-end"}})
    if (!values->empty()) throw Error(ExitCode::usage, fmt::format("{} needs --control", flag));
}

}  // namespace

std::vector<ControlRequest> control_requests(const ImageOptions& o) {
  std::vector<ControlRequest> requests;
  if (o.controls.empty()) need_control(o);
  const std::size_t count = o.controls.size();
  for (std::size_t i = 0; i < count; ++i) {
    ControlRequest request = parse(o.controls[i]);
    request.canny = value_for(o.control_prepare, "--control-prepare", i, count, "none") == "canny";
    request.start = *parse_scale(value_for(o.control_start, "--control-start", i, count, "0"));
    request.end = *parse_scale(value_for(o.control_end, "--control-end", i, count, "1"));
    if (request.start >= request.end)
      throw Error(ExitCode::usage,
                  fmt::format("--control-start {} is not before --control-end {}", request.start, request.end));
    request.canny_low = static_cast<int>(o.canny_low);
    request.canny_high = static_cast<int>(o.canny_high);
    requests.push_back(std::move(request));
  }
  return requests;
}

image::Image prepare_control(const image::Image& picture, const ControlRequest& request, int width, int height,
                             image::ResizeMode mode) {
  image::Image prepared = image::to_rgb(picture);
  if (request.canny) {
    const auto wanted = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
    if (prepared.pixels() > wanted) prepared = image::fit(prepared, width, height, mode);
    prepared = image::to_rgb(image::canny(prepared, request.canny_low, request.canny_high));
  }
  return image::fit(prepared, width, height, mode);
}

base::Json describe_controls(const std::vector<ControlRequest>& requests) {
  base::Json all = base::Json::array();
  for (const ControlRequest& r : requests) {
    base::Json one = {{"path", r.network},
                      {"kind", "controlnet"},
                      {"picture", r.picture},
                      {"scale", r.scale},
                      {"start", r.start},
                      {"end", r.end},
                      {"prepare", r.canny ? "canny" : "none"}};
    if (r.canny) one["thresholds"] = {r.canny_low, r.canny_high};
    all.push_back(std::move(one));
  }
  return all;
}

std::string control_text(const base::Json& described) {
  const auto number = [&](const char* key) { return described[key].get<double>(); };
  fs::path file(described["path"].get<std::string>());
  if (!file.has_filename()) file = file.parent_path();  // a folder with its slash
  std::string text = fmt::format("Module: {}, Model: {}, Weight: {:g}", described["prepare"].get<std::string>(),
                                 file.stem().string(), number("scale"));
  if (described.contains("thresholds"))
    text += fmt::format(", Threshold A: {}, Threshold B: {}", described["thresholds"][0].get<int>(),
                        described["thresholds"][1].get<int>());
  return text + fmt::format(", Guidance Start: {:g}, Guidance End: {:g}, Control Mode: Balanced", number("start"),
                            number("end"));
}

}  // namespace atelier::cli
