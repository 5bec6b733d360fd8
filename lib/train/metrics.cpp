#include "train/metrics.h"

#include <cmath>
#include <filesystem>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"

namespace atelier::train {
namespace {

constexpr std::size_t kLargestFile = std::size_t{1} << 30;

// The lines that stay: whole ones of steps up to `step`.
std::string lines_up_to(const std::string& text, const std::string& path, std::int64_t step, bool evaluation_due) {
  std::size_t begin = 0, number = 0;
  for (std::size_t end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string what = fmt::format("{}: line {}", path, ++number);
    const base::Json line = base::parse_json(std::string_view(text).substr(begin, end - begin), what);
    if (!line.is_object()) throw base::Error(base::ExitCode::data, what + ": is not an object");
    const std::int64_t of_line = base::JsonFields(line, what).integer("step", 0, INT64_MAX);
    if (of_line > step || (of_line == step && evaluation_due && line.contains("eval_loss"))) break;
  }
  return text.substr(0, begin);
}

}  // namespace

MetricsFile::MetricsFile(const std::string& path, std::int64_t step, bool evaluation_due) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) {
    const std::string text = io::read_file(path, kLargestFile);
    const std::string kept = lines_up_to(text, path, step, evaluation_due);
    if (kept.size() != text.size()) io::write_atomically(path, kept);
  }
  file_ = io::file_system().append(path);
}

void MetricsFile::write(const StepMetrics& metrics) {
  base::Json line{{"step", metrics.step}};
  const auto put = [&line](const char* key, const std::optional<double>& value) {
    if (value && std::isfinite(*value)) line[key] = *value;
  };
  put("loss", metrics.loss);
  put("lr", metrics.lr);
  put("grad_norm", metrics.grad_norm);
  if (metrics.tokens) line["tokens"] = *metrics.tokens;
  put("tokens_per_s", metrics.tokens_per_s);
  put("eval_loss", metrics.eval_loss);
  line["peak_rss_bytes"] = metrics.peak_rss_bytes;
  file_->write(base::dump_json(line) + "\n");
}

}  // namespace atelier::train
