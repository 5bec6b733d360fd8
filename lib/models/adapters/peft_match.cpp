#include "models/adapters/peft_match.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <regex>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace atelier::models::adapters {
namespace {

using base::Error;
using base::ExitCode;

constexpr std::size_t longest_expression = 1000;
constexpr long most_repetitions = 16;

Error bad_expression(const std::string& what, const std::string& key, const std::string& text, const std::string& why) {
  return {ExitCode::data, fmt::format("{}: \"{}\": the expression \"{}\" {}", what, key,
                                      text.size() > 60 ? text.substr(0, 60) + "..." : text, why)};
}

/// Keeps what the library would take for something else than Python does, and what would cost it too much: its matcher
/// recurses over the states, and a counted repetition multiplies them.
void check_expression(const std::string& text, const std::string& key, const std::string& what) {
  if (text.size() > longest_expression) throw bad_expression(what, key, text, "is too long");
  double repetitions = 1;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && ++i < text.size()) {
      const bool letter = std::isalnum(static_cast<unsigned char>(text[i])) != 0;
      if (letter && std::string_view("dDwWsSbB").find(text[i]) == std::string_view::npos)
        throw bad_expression(what, key, text, fmt::format("has \\{}, which is not supported", text[i]));
    } else if (text[i] == '{') {
      for (std::size_t k = i + 1; k < text.size() && text[k] != '}'; ++k)
        if (std::isdigit(static_cast<unsigned char>(text[k])) && !std::isdigit(static_cast<unsigned char>(text[k - 1])))
          repetitions *= std::max(1.0, std::strtod(text.c_str() + k, nullptr));
      if (repetitions > most_repetitions) throw bad_expression(what, key, text, "repeats too much");
    }
  }
}

std::regex compile(const std::string& text, const std::string& key, const std::string& what) {
  auto flags = std::regex::ECMAScript | std::regex::nosubs;
#ifdef __GLIBCXX__
  flags |= std::regex_constants::__polynomial;  // no expression takes exponential time
#endif
  try {
    return std::regex(text, flags);
  } catch (const std::regex_error&) {
    throw bad_expression(what, key, text, "is malformed or not supported");
  }
}

/// Whether the path is the name or ends with it, as a whole number of parts.
bool ends_with(const std::string& path, const std::string& name) {
  return path == name || (path.ends_with(name) && path[path.size() - name.size() - 1] == '.');
}

bool is_any(const std::string& path, const std::vector<std::string>& names) {
  return std::any_of(names.begin(), names.end(), [&](const auto& name) { return ends_with(path, name); });
}

/// One key of rank_pattern or alpha_pattern: an expression for the path's last parts. Most are plain names, of which there
/// may be one for each module.
struct Pattern {
  std::string text;
  std::optional<std::regex> expression;  ///< with what may stand before it; none where `text` has nothing but dots
  double value = 0;

  bool fits(const std::string& path) const {
    if (expression) return std::regex_match(path, *expression);
    if (path.size() < text.size()) return false;
    const std::size_t begin = path.size() - text.size();
    for (std::size_t i = 0; i < text.size(); ++i)
      if (text[i] != '.' && text[i] != path[begin + i]) return false;
    return begin == 0 || path[begin - 1] == '.';
  }
};

bool is_plain(const std::string& text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.'; });
}

std::vector<Pattern> patterns(const std::vector<std::pair<std::string, double>>& pairs, const std::string& key,
                              const std::string& what) {
  std::vector<Pattern> result;
  for (const auto& [text, value] : pairs) {
    check_expression(text, key, what);
    auto& added = result.emplace_back(Pattern{.text = text, .expression = {}, .value = value});
    if (!is_plain(text)) added.expression = compile("(.*\\.)?(" + text + ")", key, what);
  }
  return result;
}

double value_for(const std::vector<Pattern>& patterns, const std::string& path, double otherwise) {
  for (const Pattern& pattern : patterns)
    if (pattern.fits(path)) return pattern.value;
  return otherwise;
}

/// The first part of the path that is a number, has parts behind it, and before it what `before` accepts; -1 where there is
/// none.
template <class F>
std::int64_t layer_of(const std::string& path, const F& before) {
  for (std::size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', dot + 1)) {
    std::size_t end = dot + 1;
    while (end < path.size() && std::isdigit(static_cast<unsigned char>(path[end]))) ++end;
    if (end > dot + 1 && end < path.size() && path[end] == '.' && before(path.substr(0, dot)))
      return std::strtoll(path.c_str() + dot + 1, nullptr, 10);
  }
  return -1;
}

}  // namespace

struct PeftMatcher::Rules {
  std::optional<std::regex> target, exclude;
  std::vector<std::regex> layers;  ///< for what stands before a layer's number
  std::vector<std::regex> saved;
  std::vector<Pattern> ranks, alphas;
  bool all_linear = false;
};

PeftMatcher::PeftMatcher(const PeftConfig& config, const std::string& what) : config_(config) {
  auto rules = std::make_unique<Rules>();
  const auto expression = [&](const std::string& text, const char* key) {
    check_expression(text, key, what);
    return compile(text, key, what);
  };
  std::string word = config.target_modules.expression;
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return std::tolower(c); });
  rules->all_linear = word == "all-linear";
  if (!rules->all_linear && !word.empty())
    rules->target = expression(config.target_modules.expression, "target_modules");
  if (!config.exclude_modules.expression.empty())
    rules->exclude = expression(config.exclude_modules.expression, "exclude_modules");
  for (const std::string& text : config.layers_pattern)
    rules->layers.push_back(expression("(?:.*\\.)?(?:" + text + ")", "layers_pattern"));
  for (const std::string& text : config.modules_to_save)
    rules->saved.push_back(expression("(?:.*\\.)?(?:" + text + ")(?:|\\..*)", "modules_to_save"));
  rules->ranks = patterns(config.rank_pattern, "rank_pattern", what);
  rules->alphas = patterns(config.alpha_pattern, "alpha_pattern", what);
  rules_ = std::move(rules);
}

PeftMatcher::~PeftMatcher() = default;

bool PeftMatcher::selects(const std::string& path, bool linear) const {
  if (rules_->exclude ? std::regex_match(path, *rules_->exclude) : is_any(path, config_.exclude_modules.names))
    return false;
  for (const auto& saved : rules_->saved)
    if (std::regex_match(path, saved)) return false;
  if (rules_->all_linear) return linear;
  if (rules_->target) return std::regex_match(path, *rules_->target);
  const auto& names = config_.target_modules.names;
  if (std::find(names.begin(), names.end(), path) != names.end()) return true;
  if (!is_any(path, names)) return false;
  const auto& wanted = config_.layers_to_transform;
  if (wanted.empty()) return true;
  std::int64_t layer = -1;
  if (rules_->layers.empty())
    layer = layer_of(path, [](const std::string& before) { return before.find('.') != std::string::npos; });
  for (const std::regex& name : rules_->layers) {
    layer = layer_of(path, [&](const std::string& before) { return std::regex_match(before, name); });
    if (layer >= 0) break;
  }
  return std::find(wanted.begin(), wanted.end(), layer) != wanted.end();
}

std::int64_t PeftMatcher::rank(const std::string& path) const {
  return static_cast<std::int64_t>(value_for(rules_->ranks, path, static_cast<double>(config_.r)));
}

double PeftMatcher::scale(const std::string& path) const {
  const auto r = static_cast<double>(rank(path));
  return value_for(rules_->alphas, path, config_.lora_alpha) / (config_.use_rslora ? std::sqrt(r) : r);
}

}  // namespace atelier::models::adapters
