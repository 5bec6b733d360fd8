#include "cli/bench_figures.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "report/text.h"

namespace atelier::cli {

using base::Error;
using base::ExitCode;
using base::Json;

Json figure_record(const metrics::Figure& figure) {
  Json record = {{"metric", figure.metric},
                 {"variant", figure.variant},
                 {"value", figure.value},
                 {"interval", nullptr},
                 {"n_real", figure.n_real},
                 {"n_fake", figure.n_fake},
                 {"weights_sha256", figure.weights_sha256}};
  if (figure.interval) record["interval"] = {figure.interval->first, figure.interval->second};
  if (figure.deviation) record["deviation"] = *figure.deviation;
  if (!figure.unreadable.empty()) {
    record["unreadable"] = Json::array();
    for (const auto& [file, reason] : figure.unreadable)
      record["unreadable"].push_back({{"file", file}, {"reason", reason}});
  }
  return record;
}

metrics::Figure figure_of(const Json& record) {
  metrics::Figure figure;
  figure.metric = record.at("metric").get<std::string>();
  figure.variant = record.at("variant").get<std::string>();
  figure.value = record.at("value").get<double>();
  if (const Json& interval = record.at("interval"); interval.is_array())
    figure.interval = std::pair{interval.at(0).get<double>(), interval.at(1).get<double>()};
  figure.n_real = record.at("n_real").get<std::int64_t>();
  figure.n_fake = record.at("n_fake").get<std::int64_t>();
  figure.weights_sha256 = record.at("weights_sha256").get<std::string>();
  if (record.contains("deviation")) figure.deviation = record["deviation"].get<double>();
  for (const Json& entry : record.value("unreadable", Json::array()))
    figure.unreadable.emplace_back(entry.at("file").get<std::string>(), entry.at("reason").get<std::string>());
  return figure;
}

std::string figure_text(const metrics::Figure& figure) {
  std::string text = fmt::format("{} ({}): {}", figure.metric, figure.variant, report::number(figure.value));
  if (figure.interval)
    text += fmt::format(" (95 %: {} to {})", report::number(figure.interval->first),
                        report::number(figure.interval->second));
  if (figure.deviation) text += fmt::format(", deviation {}", report::number(*figure.deviation));
  const bool pairs = figure.metric == "lpips";
  text += figure.n_real > 0 && !pairs ? fmt::format(", {} pictures against {}", figure.n_fake, figure.n_real)
                                      : fmt::format(", {} {}", figure.n_fake, pairs ? "pairs" : "pictures");
  if (!figure.unreadable.empty()) text += fmt::format(", {} left out", figure.unreadable.size());
  return text + ", weights " + figure.weights_sha256.substr(0, 8);
}

void warn_unreadable(const metrics::Figure& figure) {
  constexpr std::size_t kNamed = 8;
  const auto& files = figure.unreadable;
  for (std::size_t i = 0; i < std::min(files.size(), kNamed); ++i)
    base::log_warning(fmt::format("left out: {}: {}", files[i].first, files[i].second));
  if (files.size() > kNamed) base::log_warning(fmt::format("left out: {} more", files.size() - kNamed));
}

void require_hash(const std::string& wanted, const std::string& found, const std::string& what) {
  if (wanted.empty()) return;
  std::string lower = wanted;
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (lower.size() != 64 || lower.find_first_not_of("0123456789abcdef") != std::string::npos)
    throw Error(ExitCode::usage, fmt::format("--weights-sha256: \"{}\" is not 64 hexadecimal digits", wanted));
  if (lower != found)
    throw Error(ExitCode::data, fmt::format("{}: other weights than named: its SHA-256 is {}, --weights-sha256 says {}",
                                            what, found, lower));
}

}  // namespace atelier::cli
