#include "cli/scaled_path.h"

#include <charconv>
#include <cmath>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;

constexpr double kMaxScale = 100;

}  // namespace

std::optional<double> parse_scale(std::string_view text) {
  double value = 0;
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

ScaledPath parse_scaled_path(const std::string& flag, const std::string& text, bool folder) {
  const auto is_there = [folder](const std::string& path) {
    std::error_code ignored;
    return folder ? fs::is_directory(path, ignored) : fs::is_regular_file(path, ignored);
  };
  const std::size_t colon = text.rfind(':');
  ScaledPath result{text, 1};
  if (colon != std::string::npos && !is_there(text)) {
    const auto scale = parse_scale(std::string_view(text).substr(colon + 1));
    if (!scale)
      throw Error(ExitCode::usage, fmt::format("{} {}: \"{}\" is no scale", flag, text, text.substr(colon + 1)));
    result = {text.substr(0, colon), *scale};
  }
  check_adapter_scale(result.scale, flag + " " + text);
  if (!is_there(result.path))
    throw Error(ExitCode::no_input, fmt::format("{} {}: no such {}", flag, result.path, folder ? "folder" : "file"));
  return result;
}

void check_adapter_scale(double scale, const std::string& what) {
  if (std::abs(scale) > kMaxScale)
    throw Error(ExitCode::usage, fmt::format("{}: a scale lies between {} and {}", what, -kMaxScale, kMaxScale));
}

}  // namespace atelier::cli
