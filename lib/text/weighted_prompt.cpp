#include "text/weighted_prompt.h"

#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"

namespace atelier::text {
namespace {

constexpr double kStep = 1.1;
constexpr std::string_view kBreak = "BREAK";
constexpr std::string_view kBlanks = " \t\r\n\f\v";

bool is_word(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x80 || std::isalnum(byte) != 0 || c == '_';
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

/// A finite decimal number with an optional sign and nothing around it.
std::optional<double> number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  if (text.empty() || text.find_first_not_of("+-.0123456789eE") != std::string_view::npos) return std::nullopt;
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

class EmphasisParser {
 public:
  EmphasisParser(std::string_view prompt, std::vector<std::string>& warnings) : rest_(prompt), warnings_(warnings) {}

  std::vector<PromptPart> parse() {
    while (!rest_.empty()) step();
    for (const auto* stack : {&round_, &square_})
      for (std::size_t i = 0; i < stack->size(); ++i) warn(pieces_[(*stack)[i]].text);
    return joined();
  }

 private:
  void step() {
    const char c = rest_[0];
    if (c == '\\') {
      const bool escapes = rest_.size() > 1 && std::string_view("()[]\\").find(rest_[1]) != std::string_view::npos;
      // As in A1111 a backslash before anything else disappears.
      add(escapes ? rest_.substr(1, 1) : std::string_view{});
      rest_.remove_prefix(escapes ? 2 : 1);
    } else if (c == '(' || c == '[') {
      (c == '(' ? round_ : square_).push_back(pieces_.size());
      add(rest_.substr(0, 1));
      rest_.remove_prefix(1);
    } else if (c == ')' || c == ']') {
      auto& stack = c == ')' ? round_ : square_;
      if (stack.empty()) {
        warn(rest_.substr(0, 1));
        add(rest_.substr(0, 1));
      } else {
        close(stack, c == ')' ? kStep : 1 / kStep);
      }
      rest_.remove_prefix(1);
    } else if (c == ':') {
      colon();
    } else {
      const std::size_t length = std::min(rest_.find_first_of("\\()[]:"), rest_.size());
      add_with_breaks(rest_.substr(0, length));
      rest_.remove_prefix(length);
    }
  }

  /// ":1.5)" closes a round bracket; any other colon is text.
  void colon() {
    const std::size_t end = rest_.find(')');
    const auto weight = end == std::string_view::npos ? std::nullopt : number(trimmed(rest_.substr(1, end - 1)));
    if (weight && !round_.empty()) {
      close(round_, *weight);
      rest_.remove_prefix(end + 1);
      return;
    }
    add(rest_.substr(0, 1));
    rest_.remove_prefix(1);
  }

  void add(std::string_view text) { pieces_.push_back({std::string(text), 1, false}); }

  void add_with_breaks(std::string_view text) {
    for (std::size_t at = 0; (at = text.find(kBreak, at)) != std::string_view::npos;) {
      const std::size_t after = at + kBreak.size();
      if ((at > 0 && is_word(text[at - 1])) || (after < text.size() && is_word(text[after]))) {
        at = after;
        continue;
      }
      const std::string_view before = text.substr(0, at);
      add(before.substr(0, before.find_last_not_of(kBlanks) + 1));
      pieces_.push_back({"", 1, true});
      text.remove_prefix(std::min(text.find_first_not_of(kBlanks, after), text.size()));
      at = 0;
    }
    add(text);
  }

  /// Weighs what follows the last open bracket, and takes the bracket away.
  void close(std::vector<std::size_t>& stack, double weight) {
    const std::size_t open = stack.back();
    stack.pop_back();
    pieces_[open].text.clear();
    for (std::size_t i = open + 1; i < pieces_.size(); ++i) pieces_[i].weight *= weight;
  }

  void warn(std::string_view bracket) {
    warnings_.push_back(fmt::format("the prompt's brackets are not balanced: a \"{}\" is taken as text", bracket));
  }

  std::vector<PromptPart> joined() const {
    std::vector<PromptPart> parts;
    for (const PromptPart& piece : pieces_) {
      if (piece.chunk_break) {
        parts.push_back({"", 1, true});
      } else if (!piece.text.empty()) {
        const bool same = !parts.empty() && !parts.back().chunk_break && parts.back().weight == piece.weight;
        if (same)
          parts.back().text += piece.text;
        else
          parts.push_back(piece);
      }
    }
    return parts;
  }

  std::string_view rest_;
  std::vector<std::string>& warnings_;
  std::vector<PromptPart> pieces_;
  std::vector<std::size_t> round_, square_;  ///< open brackets, as places in pieces_
};

LoraTag read_tag(std::string_view inside) {
  const auto fail = [&](const std::string& why) {
    return base::Error(base::ExitCode::usage, fmt::format("<lora:{}>: {}", base::printable(inside), why),
                       "a tag is <lora:name>, <lora:name:scale> or <lora:name:text encoder scale:unet scale>");
  };
  LoraTag tag;
  std::vector<std::string_view> fields;
  for (std::string_view rest = inside;;) {
    const std::size_t colon = rest.find(':');
    fields.push_back(trimmed(rest.substr(0, colon)));
    if (colon == std::string_view::npos) break;
    rest.remove_prefix(colon + 1);
  }
  if (fields[0].empty()) throw fail("it has no name");
  if (fields.size() > 3) throw fail("more than two scales");
  tag.name = fields[0];
  for (std::size_t i = 1; i < fields.size(); ++i) {
    const auto scale = number(fields[i]);
    if (!scale) throw fail(fmt::format("\"{}\" is not a number", base::printable(fields[i])));
    if (i == 1) tag.text_scale = *scale;
    tag.unet_scale = *scale;
  }
  return tag;
}

}  // namespace

std::vector<PromptPart> parse_emphasis(std::string_view prompt, std::vector<std::string>& warnings) {
  return EmphasisParser(prompt, warnings).parse();
}

std::string take_lora_tags(std::string_view prompt, std::vector<LoraTag>& tags) {
  constexpr std::string_view start = "<lora:";
  std::string left;
  for (;;) {
    const std::size_t at = prompt.find(start);
    const std::size_t end = at == std::string_view::npos ? at : prompt.find('>', at);
    if (end == std::string_view::npos) return left.append(prompt);
    left.append(prompt.substr(0, at));
    tags.push_back(read_tag(prompt.substr(at + start.size(), end - at - start.size())));
    prompt.remove_prefix(end + 1);
  }
}

}  // namespace atelier::text
