#include "image/parameters.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include <fmt/format.h>

#include "base/json.h"

namespace atelier::image {
namespace {

constexpr std::string_view kNegative = "Negative prompt:";
constexpr std::size_t kFieldsOfALine = 3;

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::string_view strip(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// \w of Python's re: letters of any language count, which are the bytes above ASCII here.
bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

bool is_name(char c) { return is_word(c) || c == ' ' || c == '-' || c == '/'; }

// Finds the fields of a line one after the other, where the regular expression would.
class FieldScanner {
 public:
  explicit FieldScanner(std::string_view line) : line_(line) {}

  std::optional<std::pair<std::string, std::string>> next() {
    while (at_ < line_.size()) {
      const std::size_t start = std::exchange(at_, at_ + 1);
      if (!is_word(line_[start])) continue;
      const std::size_t name_end = run(start);
      if (name_end >= line_.size() || line_[name_end] != ':' || name_end - start < 2) {
        at_ = name_end;  // no other beginning within this run ends differently
        continue;
      }
      std::size_t value = name_end + 1;
      while (value < line_.size() && is_space(line_[value])) ++value;
      std::size_t end = quoted_end(value);
      if (end == std::string_view::npos) end = std::min(line_.find(',', value), line_.size());
      at_ = std::min(end + 1, line_.size());
      return std::pair(std::string(line_.substr(start, name_end - start)), unquoted(line_.substr(value, end - value)));
    }
    return std::nullopt;
  }

 private:
  std::size_t run(std::size_t at) const {
    while (at < line_.size() && is_name(line_[at])) ++at;
    return at;
  }

  // One past a quoted value that starts at `at` and ends its field; npos where there is none.
  std::size_t quoted_end(std::size_t at) const {
    if (at >= line_.size() || line_[at] != '"') return std::string_view::npos;
    const std::size_t first = ++at;
    while (at < line_.size() && line_[at] != '"') at += line_[at] == '\\' ? 2 : 1;
    const bool closed = at < line_.size() && at > first;
    return closed && (at + 1 == line_.size() || line_[at + 1] == ',') ? at + 1 : std::string_view::npos;
  }

  static std::string unquoted(std::string_view value) {
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"') {
      try {
        const base::Json parsed = base::parse_json(value, "value");
        if (parsed.is_string()) return parsed.get<std::string>();
      } catch (const base::Error&) {  // not JSON after all: taken as it stands
      }
    }
    return std::string(value);
  }

  std::string_view line_;
  std::size_t at_ = 0;
};

std::vector<std::pair<std::string, std::string>> parse_fields(std::string_view line) {
  std::vector<std::pair<std::string, std::string>> fields;
  FieldScanner scanner(line);
  while (auto field = scanner.next()) fields.push_back(std::move(*field));
  return fields;
}

// The last value of a key that comes twice, at the first one's place.
std::vector<std::pair<std::string, std::string>> without_repeats(
    std::vector<std::pair<std::string, std::string>> fields) {
  constexpr std::size_t kMaxFields = 1000;
  std::vector<std::pair<std::string, std::string>> result;
  for (auto& field : fields) {
    const auto same =
        std::find_if(result.begin(), result.end(), [&](const auto& other) { return other.first == field.first; });
    if (same != result.end()) {
      same->second = std::move(field.second);
    } else if (result.size() < kMaxFields) {
      result.push_back(std::move(field));
    }
  }
  return result;
}

void append_line(std::string& text, std::string_view line) {
  if (!text.empty()) text += '\n';
  text += line;
}

std::string quoted(const std::string& value) {
  const bool plain = value.find_first_of(",:\n\r\"") == std::string::npos && strip(value) == value;
  return plain ? value : base::dump_json(base::Json(value));
}

}  // namespace

const std::string* Parameters::find(std::string_view key) const {
  const auto found = std::find_if(fields.begin(), fields.end(), [&](const auto& field) { return field.first == key; });
  return found == fields.end() ? nullptr : &found->second;
}

std::string format_parameters(const Parameters& parameters) {
  std::string text = parameters.prompt;
  if (!parameters.negative_prompt.empty()) text += fmt::format("\n{} {}", kNegative, parameters.negative_prompt);
  const char* separator = "\n";
  for (const auto& [key, value] : parameters.fields) {
    text += fmt::format("{}{}: {}", separator, key, quoted(value));
    separator = ", ";
  }
  return text;
}

Parameters parse_parameters(std::string_view text) {
  Parameters result;
  text = strip(text);
  const std::size_t last_break = text.rfind('\n');
  const std::string_view last = last_break == std::string_view::npos ? text : text.substr(last_break + 1);
  auto fields = parse_fields(last);
  if (fields.size() >= kFieldsOfALine) {
    result.fields = without_repeats(std::move(fields));
    text = last_break == std::string_view::npos ? std::string_view() : text.substr(0, last_break);
  }
  bool negative = false;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = strip(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.starts_with(kNegative)) {
      negative = true;
      line = strip(line.substr(kNegative.size()));
    }
    append_line(negative ? result.negative_prompt : result.prompt, line);
  }
  return result;
}

}  // namespace atelier::image
