// The automata under the constraints: derivatives, characters, regular expressions, numbers.
#include <doctest/doctest.h>

#include <fmt/format.h>

#include "base/error.h"
#include "text/constraint/characters.h"
#include "text/constraint/json_lexemes.h"
#include "text/constraint/numbers.h"
#include "text/constraint/regex.h"

using namespace atelier::text::constraint;
using atelier::base::Error;
using atelier::base::ExitCode;
using atelier::base::Json;

namespace {

bool whole(const std::string& pattern, const std::string& text) {
  Regular r;
  r.all_of(character_of(r, CodePoints::all(), Spelling::plain));
  return matches(r, whole_match(r, pattern, Spelling::plain), text);
}

bool found(const std::string& pattern, const std::string& text) {
  Regular r;
  any_content(r);
  const std::string quoted = compact(Json(text));
  return matches(r, search_match(r, pattern, Spelling::json), std::string_view(quoted).substr(1, quoted.size() - 2));
}

std::string refusal(const std::string& pattern) {
  try {
    Regular r;
    whole_match(r, pattern, Spelling::plain);
    return "";
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::data);
    return error.what();
  }
}

}  // namespace

TEST_CASE("intersection and complement: what is left, how far its end is, how many texts it has") {
  Regular r;
  const Expr digit = r.bytes(ByteSet::range('0', '9')), digits = r.repeat(digit, 1, Regular::unbounded);
  const Expr not_12 = r.both({digits, r.negate(r.literal("12"))});
  CHECK(matches(r, not_12, "1"));
  CHECK(matches(r, not_12, "123"));
  CHECK_FALSE(matches(r, not_12, "12"));
  CHECK(r.distance(not_12) == 1);
  CHECK(r.distance(r.both({digits, r.repeat(r.literal("a"), 0, 5)})) >= Regular::unreachable);
  CHECK(r.distance(r.both({digits, r.repeat(digit, 4, 9)})) == 4);
  const auto extent = r.extent(r.repeat(digit, 1, 3), 100000);
  CHECK(extent.finite);
  CHECK(extent.count == 1110);
  CHECK(extent.longest == 3);
  CHECK_FALSE(r.extent(digits, 100).finite);
  CHECK(r.bytes_of(digits, 10) == 1);
  CHECK(r.bytes_of(digits, 11) == 2);
  CHECK(r.bytes_of(r.both({digits, r.negate(digit)}), 100) == 2);
}

TEST_CASE("dead ends are cut: a byte that leads to no text has no transition") {
  Regular r;
  const Expr a = r.literal("abx"), b = r.alt({r.literal("aby"), r.literal("acx")});
  const Expr none = r.both({a, b});
  CHECK(r.distance(none) >= Regular::unreachable);
  const Expr some = r.both({r.alt({a, r.literal("acx")}), b});
  const Expr after_a = r.next(some, 'a');
  CHECK(r.next(after_a, 'b') == Regular::nothing);
  CHECK(r.next(after_a, 'c') != Regular::nothing);
}

TEST_CASE("counts are cut to what the longest piece can tell apart") {
  Regular r;
  const Expr x = r.bytes(ByteSet::range('a', 'z')), end = r.literal("\"");
  const auto cut = r.reduce(r.seq(r.repeat(x, 100, 500), end), 8);
  CHECK(cut.expr == r.seq(r.repeat(x, 8, Regular::unbounded), end));
  CHECK(cut.offset == 92);
  const auto near = r.reduce(r.seq(r.repeat(x, 0, 5), end), 8);
  CHECK(near.expr == r.seq(r.repeat(x, 0, 5), end));
}

TEST_CASE("characters are spelled as UTF-8, and in JSON with its escapes") {
  Regular r;
  const Expr all = character_of(r, CodePoints::all(), Spelling::plain);
  for (const char* good : {"a", "\x7F", "\xC3\xA9", "\xE2\x82\xAC", "\xED\x9F\xBF", "\xEE\x80\x80", "\xF0\x9F\x98\x80",
                           "\xF4\x8F\xBF\xBF"})
    CHECK(matches(r, all, good));
  for (const char* bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
                          "\xF4\x90\x80\x80", "\xFF", "ab"})
    CHECK_FALSE(matches(r, all, bad));
  const Expr json = character_of(r, CodePoints::all(), Spelling::json);
  for (const char* good : {"\\\"", "\\\\", "\\n", "\\u0000", "\\u001f", "/", "\xC3\xA9"}) CHECK(matches(r, json, good));
  for (const char* bad : {"\"", "\\", "\n", "\\/", "\\u0041", "\\u001F", "\\x"}) CHECK_FALSE(matches(r, json, bad));
}

TEST_CASE("regular expressions match whole texts") {
  struct Case {
    std::string pattern;
    std::vector<std::string> in, out;
  };
  const std::vector<Case> cases = {
      {"", {""}, {"a"}},
      {"abc", {"abc"}, {"", "ab", "abcd"}},
      {"a|bc|", {"a", "bc", ""}, {"b", "abc"}},
      {"(a|b)*c+?d??", {"c", "abacccd"}, {"ab", "cdd"}},
      {"a{2,3}b{2}c{1,}", {"aabbc", "aaabbccc"}, {"abbc", "aaaabbc", "aabb"}},
      {"x{,2}", {"x{,2}"}, {"xx"}},
      {"[a-c\\d_-]+", {"a1_-c"}, {"d", ""}},
      {"[^a-z\\n]", {"A", "\xE2\x82\xAC", " "}, {"q", "\n", "AB"}},
      {"[\\]\\\\^]{3}", {"]\\^"}, {"]]"}},
      {"\\w+\\s\\S\\D", {"ab_9 xy"}, {"ab\xC3\xA9 xy", "a  9"}},
      {".", {"\xF0\x9F\x98\x80", "x"}, {"\n", "\r", "\xE2\x80\xA8", ""}},
      {"\\u00e9\\xE9\\u{1F600}\\uD83D\\uDE00", {"\xC3\xA9\xC3\xA9\xF0\x9F\x98\x80\xF0\x9F\x98\x80"}, {"e"}},
      {"\\t\\n\\r\\f\\v\\0\\cJ\\.\\/", {std::string("\t\n\r\f\v\0\n./", 9)}, {"tn"}},
      {"(?:ab)+(?<name>c)(?P<other>d)", {"ababcd"}, {"abcdcd"}},
      {"^a$|^b", {"a", "b"}, {"ab"}},
      {"(^a|b)c$", {"ac", "bc"}, {"c"}},
      {"a^b", {}, {"ab", "a^b"}},
      {"(a$)?", {"a", ""}, {"aa"}},
      {"\\p{Lu}\\p{L}+", {"\xC3\x84pfel", "Abc"}, {"abc", "A1"}},
      {"\xC3\xA9*", {"", "\xC3\xA9\xC3\xA9"}, {"\xC3"}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.pattern);
    for (const std::string& text : c.in) CHECK_MESSAGE(whole(c.pattern, text), text);
    for (const std::string& text : c.out) CHECK_MESSAGE(!whole(c.pattern, text), text);
  }
}

TEST_CASE("JSON Schema's patterns are searched for, in decoded characters") {
  CHECK(found("b+", "abc"));
  CHECK_FALSE(found("b+", "ac"));
  CHECK(found("^a", "abc"));
  CHECK_FALSE(found("^b", "abc"));
  CHECK(found("c$", "abc"));
  CHECK_FALSE(found("b$", "abc"));
  CHECK(found("^a|c$", "xxc"));
  CHECK(found("^$", ""));
  CHECK_FALSE(found("^$", "x"));
  CHECK(found("\"", "say \"hi\""));
  CHECK(found("\\\\", "a\\b"));
  CHECK(found("^\\n$", "\n"));
  CHECK(found("^.{3}$", "\xC3\xA9\xE2\x82\xAC\"") == true);
  CHECK_FALSE(found("n", "\n"));  // the escape's letter is no character
}

TEST_CASE("what is not regular, or malformed, is refused by name") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"(?=a)", "look-around"},     {"(?<!a)b", "look-around"}, {"(a)\\1", "back-reference"},
      {"\\k<n>", "back-reference"}, {"\\bword", "\\b"},         {"(?i)a", "flags"},
      {"a++", "possessive"},        {"a**", "quantifier"},      {"*a", "quantifier"},
      {"(a", "not closed"},         {"a)", "closes nothing"},   {"[a", "not closed"},
      {"[b-a]", "out of order"},    {"a{3,2}", "out of order"}, {"\\q", "\\q"},
      {"\\", "at the end"},         {"\\u12", "hexadecimal"},   {"\\p{Xyz}", "property"},
      {"(^a)*", "repeated group"},  {"\\uD83D", "surrogate"},   {"a{9999999}", "repetitions"}};
  for (const auto& [pattern, part] : cases) {
    CAPTURE(pattern);
    const std::string message = refusal(pattern);
    CHECK_MESSAGE(message.find(part) != std::string::npos, message);
  }
  CHECK_FALSE(refusal(std::string(5000, '(')).empty());
}

TEST_CASE("number ranges hold exactly the numbers between their bounds") {
  const std::vector<double> bounds = {-120.5, -10, -1, -0.25, 0, 0.25, 0.5, 1, 9, 9.99, 10, 11, 99.5, 100, 1000};
  std::vector<std::string> texts;
  for (int i = -13000; i <= 13000; i += 25)
    texts.push_back(i % 100 == 0 ? std::to_string(i / 100) : fmt::format("{:.2f}", i / 100.0));
  for (const char* more :
       {"0.5", "9.9", "9.990", "9.991", "0.249999", "1000", "1000.1", "99.5000", "1e2", "01", "-0", "", "-", "1."})
    texts.emplace_back(more);
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    for (std::size_t j = i; j < bounds.size(); ++j) {
      for (const int open : {0, 1, 2, 3}) {
        Regular r;
        NumberRange range;
        range.raise_low(Decimal::from(bounds[i]), (open & 1) != 0);
        range.lower_high(Decimal::from(bounds[j]), (open & 2) != 0);
        const Expr fractions = numbers_in(r, range);
        range.whole = true;
        const Expr integers = numbers_in(r, range);
        bool right = true;
        for (const std::string& text : texts) {
          const bool plain = !text.empty() && text.find('e') == std::string::npos && text != "01" && text != "-0" &&
                             text != "-" && text.back() != '.';
          const double value = plain ? std::stod(text) : 0;
          const bool inside = plain && (value > bounds[i] || ((open & 1) == 0 && value == bounds[i])) &&
                              (value < bounds[j] || ((open & 2) == 0 && value == bounds[j]));
          right = right && matches(r, fractions, text) == inside;
          right = right && matches(r, integers, text) == (inside && text.find('.') == std::string::npos);
        }
        CHECK_MESSAGE(right, bounds[i], " to ", bounds[j], " open ", open);
      }
    }
  }
}

TEST_CASE("multiples: of integers by remainders, of fractions from a list that doubles agree with") {
  Regular r;
  NumberRange sevens{.multiples_of = {Decimal::from(7)}, .whole = true};
  sevens.raise_low(Decimal::from(-100), false);
  const Expr e = numbers_in(r, sevens);
  for (int i = -150; i < 1000; ++i) CHECK(matches(r, e, std::to_string(i)) == (i >= -100 && i % 7 == 0));
  NumberRange cents{.multiples_of = {Decimal::from(0.01)}};
  cents.raise_low(Decimal::from(0), false);
  const Expr price = numbers_in(r, cents);
  CHECK(matches(r, price, "19.5"));
  CHECK(matches(r, price, "3"));
  CHECK_FALSE(matches(r, price, "0.005"));
  CHECK_FALSE(matches(r, price, "0.07"));  // 0.07 / 0.01 is 7.000000000000001
  NumberRange large{.multiples_of = {Decimal::from(1000000)}, .whole = true};
  CHECK(matches(r, numbers_in(r, large), "-3000000"));
  CHECK_FALSE(matches(r, numbers_in(r, large), "3000001"));
}

TEST_CASE("decimals are the shortest texts of their doubles") {
  const auto text = [](const Json& j) {
    const Decimal d = Decimal::from(j);
    return (d.negative ? "-" : "") + d.whole + "." + d.fraction;
  };
  CHECK(text(1e21) == "1000000000000000000000.");
  CHECK(text(-0.1) == "-0.1");
  CHECK(text(1.5e-7) == "0.00000015");
  CHECK(text(18446744073709551615u) == "18446744073709551615.");
  CHECK(text(-0.0) == "0.");
}
