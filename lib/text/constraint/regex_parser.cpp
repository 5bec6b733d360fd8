#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "text/constraint/regex_ast.h"
#include "text/utf8.h"

namespace atelier::text::constraint {
namespace {

using Kind = RegexNode::Kind;
using NodePtr = std::unique_ptr<RegexNode>;

constexpr std::size_t most_bytes = 65536;
constexpr int deepest = 200;
constexpr std::uint32_t most_repeats = 1u << 20;

class Parser {
 public:
  explicit Parser(std::string_view pattern) {
    if (pattern.size() > most_bytes) refuse(fmt::format("a pattern of more than {} bytes", most_bytes));
    if (!is_utf8(pattern)) refuse("the pattern is not valid UTF-8");
    for (std::size_t i = 0; i < pattern.size();) {
      const Utf8Step step = decode_utf8(pattern.substr(i));
      text_.push_back(static_cast<char32_t>(step.code_point));
      i += step.length;
    }
  }

  NodePtr parse() {
    NodePtr node = alternatives();
    if (!done()) fail("a \")\" that closes nothing");
    return node;
  }

 private:
  [[noreturn]] static void refuse(const std::string& message, const std::string& hint = {}) {
    throw base::Error(base::ExitCode::data, message, hint);
  }
  [[noreturn]] void fail(const std::string& message) const {
    refuse(fmt::format("{} (character {} of the pattern)", message, at_ + 1));
  }
  bool done() const { return at_ == text_.size(); }
  char32_t peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : U'\0'; }
  bool take(char32_t c) {
    if (done() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool take(std::u32string_view word) {
    if (!std::u32string_view(text_).substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  static NodePtr make(Kind kind) {
    auto node = std::make_unique<RegexNode>();
    node->kind = kind;
    return node;
  }
  static NodePtr make_set(CodePoints set) {
    auto node = make(Kind::set);
    node->set = std::move(set);
    return node;
  }

  NodePtr alternatives() {
    if (++depth_ > deepest) fail("groups nested too deep");
    auto node = make(Kind::alternatives);
    do {
      node->parts.push_back(sequence());
      node->anchored |= node->parts.back()->anchored;
    } while (take(U'|'));
    --depth_;
    return node->parts.size() == 1 ? std::move(node->parts[0]) : std::move(node);
  }

  NodePtr sequence() {
    auto node = make(Kind::sequence);
    while (!done() && peek() != U'|' && peek() != U')') {
      node->parts.push_back(quantified(atom()));
      node->anchored |= node->parts.back()->anchored;
    }
    return node;
  }

  NodePtr quantified(NodePtr atom) {
    std::uint32_t low = 0, high = Regular::unbounded;
    const std::size_t start = at_;
    if (take(U'+')) {
      low = 1;
    } else if (take(U'?')) {
      high = 1;
    } else if (!take(U'*') && !counts(low, high)) {
      return atom;
    }
    if (atom->kind == Kind::text_start || atom->kind == Kind::text_end) {
      at_ = start;
      fail("a quantifier without anything to repeat");
    }
    if (peek() == U'+') fail("possessive quantifiers are not supported:");
    take(U'?');  // lazy: the same texts
    std::uint32_t a = 0, b = 0;
    const std::size_t behind = at_;
    if (peek() == U'*' || peek() == U'+' || peek() == U'?' || counts(a, b)) {
      at_ = behind;
      fail("a quantifier behind a quantifier");
    }
    if (atom->anchored && !(low == 0 && high == 1) && !(low == 1 && high == 1))
      fail("^ or $ inside a repeated group is not supported:");
    auto node = make(Kind::repeat);
    node->anchored = atom->anchored;
    node->low = low;
    node->high = high;
    node->parts.push_back(std::move(atom));
    return node;
  }

  bool number(std::uint32_t& value) {
    const std::size_t start = at_;
    std::uint64_t sum = 0;
    while (peek() >= U'0' && peek() <= U'9') {
      sum = std::min<std::uint64_t>(sum * 10 + (text_[at_++] - U'0'), most_repeats + 1);
    }
    if (sum > most_repeats) fail(fmt::format("more than {} repetitions", most_repeats));
    value = static_cast<std::uint32_t>(sum);
    return at_ > start;
  }

  /// {n}, {n,}, {n,m}; other braces are characters, as browsers take them.
  bool counts(std::uint32_t& low, std::uint32_t& high) {
    const std::size_t start = at_;
    if (take(U'{') && number(low)) {
      high = low;
      if (take(U',') && !number(high)) high = Regular::unbounded;
      if (take(U'}')) {
        if (high < low) fail("numbers out of order in {}");
        return true;
      }
    }
    at_ = start;
    low = 0;
    high = Regular::unbounded;
    return false;
  }

  NodePtr anchor(Kind kind) {
    auto node = make(kind);
    node->anchored = true;
    return node;
  }

  NodePtr atom() {
    const char32_t c = text_[at_];
    switch (c) {
      case U'(': return group();
      case U'[': return make_set(bracket());
      case U'.': ++at_; return make_set(CodePoints{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}.inverted());
      case U'^': ++at_; return anchor(Kind::text_start);
      case U'$': ++at_; return anchor(Kind::text_end);
      case U'*':
      case U'+':
      case U'?': fail("a quantifier without anything to repeat");
      case U'\\': ++at_; return make_set(escape(false).in);
      default: break;
    }
    if (std::uint32_t a = 0, b = 0; c == U'{' && counts(a, b)) fail("a quantifier without anything to repeat");
    ++at_;
    return make_set({{c, c}});
  }

  NodePtr group() {
    if (take(U"(?=") || take(U"(?!") || take(U"(?<=") || take(U"(?<!")) fail("look-around is not supported:");
    if (take(U"(?:")) {
    } else if (take(U"(?P=")) {
      fail("back-references are not supported:");
    } else if (take(U"(?P<") || take(U"(?<")) {
      while (!done() && peek() != U'>') ++at_;
      if (!take(U'>')) fail("a group's name without its end");
    } else if (peek() == U'(' && peek(1) == U'?') {
      fail("flags and other (?...) groups are not supported:");
    } else {
      take(U'(');
    }
    NodePtr inner = alternatives();
    if (!take(U')')) fail("a \"(\" that is not closed");
    return inner;
  }

  std::uint32_t hex(int digits) {
    std::uint32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char32_t c = done() ? U' ' : text_[at_++];
      if (c >= U'0' && c <= U'9')
        value = value * 16 + (c - U'0');
      else if ((c | 32) >= U'a' && (c | 32) <= U'f')
        value = value * 16 + ((c | 32) - U'a' + 10);
      else
        fail("an escape without its hexadecimal digits");
    }
    return value;
  }

  std::uint32_t unicode_escape() {
    if (take(U'{')) {
      std::uint32_t value = 0;
      int digits = 0;
      while (!done() && peek() != U'}' && digits++ < 8) value = std::min(value, 0xFFFFFFu) * 16 + hex(1);
      if (!take(U'}') || value > 0x10FFFF) fail("\\u{...} without a code point");
      return value;
    }
    const std::uint32_t value = hex(4);
    if (value < 0xD800 || value > 0xDFFF) return value;
    if (value < 0xDC00 && take(U"\\u")) {
      const std::uint32_t low = hex(4);
      if (low >= 0xDC00 && low <= 0xDFFF) return 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
    }
    fail("half of a surrogate pair");
  }

  static CharacterClass one(std::uint32_t c) { return class_of({{c, c}}); }

  /// Behind the backslash.
  CharacterClass escape(bool in_brackets) {
    if (done()) fail("a \\ at the end");
    const char32_t c = text_[at_++];
    switch (c) {
      case U'd':
      case U'w':
      case U's': return shorthand_class(static_cast<char>(c));
      case U'D':
      case U'W':
      case U'S': {
        CharacterClass positive = shorthand_class(static_cast<char>(c + 32));
        return {std::move(positive.out), std::move(positive.in)};
      }
      case U'p':
      case U'P': return property(c == U'P');
      case U'n': return one('\n');
      case U't': return one('\t');
      case U'r': return one('\r');
      case U'f': return one('\f');
      case U'v': return one('\v');
      case U'0':
        if (peek() >= U'0' && peek() <= U'9') fail("octal escapes are not supported:");
        return one(0);
      case U'x': return one(hex(2));
      case U'u': return one(unicode_escape());
      case U'c': {
        const char32_t letter = done() ? U' ' : text_[at_++];
        if ((letter | 32) < U'a' || (letter | 32) > U'z') fail("\\c without a letter");
        return one(letter & 31);
      }
      case U'b':
        if (in_brackets) return one('\b');
        fail("\\b is not supported:");
      default: break;
    }
    if (c >= U'1' && c <= U'9') fail("back-references are not supported:");
    if (c == U'k') fail("back-references are not supported:");
    if ((c < 128 && ((c | 32) >= U'a' && (c | 32) <= U'z')))
      fail(fmt::format("the escape \\{} is not supported:", static_cast<char>(c)));
    return one(c);
  }

  CharacterClass property(bool negated) {
    if (!take(U'{')) fail("\\p without {}");
    std::string name;
    while (!done() && peek() != U'}') name += peek() < 128 ? static_cast<char>(text_[at_++]) : (++at_, '?');
    if (!take(U'}')) fail("\\p{ without its end");
    CharacterClass found = property_class(name);
    if (negated) std::swap(found.in, found.out);
    return found;
  }

  /// A single character of a bracket as a code point, or a class of several.
  struct Item {
    CharacterClass members;
    bool single = false;
    std::uint32_t code_point = 0;
  };
  Item item() {
    Item result;
    if (take(U'\\')) {
      result.members = escape(true);
      const auto& ranges = result.members.in.ranges();
      result.single = ranges.size() == 1 && ranges[0].first == ranges[0].second;
      if (result.single) result.code_point = ranges[0].first;
    } else {
      result.code_point = text_[at_++];
      result.single = true;
      result.members = one(result.code_point);
    }
    return result;
  }

  CodePoints bracket() {
    take(U'[');
    const bool negated = take(U'^');
    CharacterClass all{{}, CodePoints::all()};
    while (!done() && peek() != U']') {
      Item first = item();
      if (peek() == U'-' && peek(1) != U']' && at_ + 1 < text_.size()) {
        ++at_;
        const Item last = item();
        if (!first.single || !last.single) fail("a range between classes");
        if (last.code_point < first.code_point) fail("a range out of order");
        first.members = class_of(CodePoints{{first.code_point, last.code_point}}.intersected(CodePoints::all()));
      }
      all.in = all.in.united(first.members.in);
      all.out = all.out.intersected(first.members.out);
    }
    if (!take(U']')) fail("a \"[\" that is not closed");
    return negated ? all.out : all.in;
  }

  std::u32string text_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

std::unique_ptr<RegexNode> parse_regex(std::string_view pattern) { return Parser(pattern).parse(); }

}  // namespace atelier::text::constraint
