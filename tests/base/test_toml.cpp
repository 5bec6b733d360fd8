// The part of TOML that files of settings are read in.
#include <doctest/doctest.h>

#include <string>

#include "base/error.h"
#include "base/json.h"
#include "base/toml.h"

using atelier::base::Error;
using atelier::base::ExitCode;
using atelier::base::parse_toml;
using atelier::base::TomlTables;

namespace {

void check_refused(const std::string& text, const std::string& message, TomlTables tables = TomlTables::refused) {
  INFO(text);
  try {
    parse_toml(text, "f.toml", tables);
    FAIL("was accepted");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::data);
    CHECK(std::string(error.what()).find(message) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("TOML values") {
  CHECK(parse_toml("", "f").dump() == "{}");
  CHECK(parse_toml("a = 1\r\n b-c_D9=\"x # y, z\" # comment\n\n'q r' = true", "f").dump() ==
        R"({"a":1,"b-c_D9":"x # y, z","q r":true})");
  CHECK(parse_toml("a = 'C:\\n'\nb = \"t\\tq\\\"\\u00e9\\U0001F600\"", "f").dump() ==
        R"({"a":"C:\\n","b":"t\tq\"é😀"})");
  CHECK(parse_toml("a = \"\"\"\none\ntwo \\\n   three\"\"\"\nb = '''\nx\\\n'y''''", "f").dump() ==
        R"({"a":"one\ntwo three","b":"x\\\n'y'"})");
  CHECK(parse_toml("a = [1, 2,\n # c\n 'x' ,]\nb=[]\nc=[[1],[2]]", "f").dump() ==
        R"({"a":[1,2,"x"],"b":[],"c":[[1],[2]]})");
  CHECK(parse_toml("a=+1_000\nb=0xFF\nc=0o17\nd=0b101\ne=-3\nf=18446744073709551615", "f").dump() ==
        R"({"a":1000,"b":255,"c":15,"d":5,"e":-3,"f":18446744073709551615})");
  CHECK(parse_toml("a=1.5\nb=-2e-3\nc=1_0.5", "f").dump() == R"({"a":1.5,"b":-0.002,"c":10.5})");
  CHECK(parse_toml("\xEF\xBB\xBF"
                   "a=1",
                   "f")
            .dump() == R"({"a":1})");
}

TEST_CASE("TOML that is refused, with its line") {
  check_refused("a = 1\nb = x", "f.toml: line 2: \"x\" is not a value (texts stand in quotes)");
  check_refused("a = 1\na = 2", "line 2: \"a\" is there twice");
  check_refused("a = 1 b = 2", "line 1: one `flag = value` per line");
  check_refused("a", "expected `flag = value`");
  check_refused("= 1", "expected `flag = value`");
  check_refused("a =", "a value is missing");
  check_refused("a = ", "a value is missing");
  check_refused("[table]\na=1", "tables are not used here");
  check_refused("a.b = 1", "dotted keys are not used here");
  check_refused("a = {b = 1}", "inline tables are not used here");
  check_refused("a = \"x\nb = 1", "line 1: a text must end on its line");
  check_refused("a = \"x", "the file ends in the middle of a value");
  check_refused("a = '''x\n\n", "the file ends in the middle of a value");
  check_refused("a = [1, 2", "the file ends");
  check_refused("a = [1 2]", "expected `,` or `]`");
  check_refused("a = \"\\q\"", "unknown escape \\q");
  check_refused("a = \"\\ud800\"", "names no character");
  check_refused("a = \"\\u12g4\"", "expected hexadecimal digits");
  check_refused(std::string("a = \"x\0y\"", 9), "a control character");
  check_refused("a = 010", "is not a value");
  check_refused("a = 1__0", "is not a value");
  check_refused("a = _1", "is not a value");
  check_refused("a = nan", "is not a value");
  check_refused("a = 1979-05-27", "is not a value");
  check_refused("a = 99999999999999999999999", "");
  check_refused("a = " + std::string(100000, '['), "nested too deep");
}

TEST_CASE("TOML: no random text crashes the reader") {
  const std::string alphabet = "ab=\"'\\\n#[],{}.-_01exu \t";
  std::uint64_t state = 1;
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (int k = 0; k < 24; ++k) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      text += alphabet[(state >> 33) % alphabet.size()];
    }
    try {
      parse_toml(i % 2 ? text : "a=" + text, "f", i % 3 ? TomlTables::refused : TomlTables::allowed);
    } catch (const Error&) {
    }
  }
}

TEST_CASE("TOML tables, and arrays of them, where they are allowed") {
  const auto dump = [](const std::string& text) { return parse_toml(text, "f", TomlTables::allowed).dump(); };
  CHECK(dump("a = 1\n[b]\nc = 2\n[d.'e f']\ng = 3") == R"({"a":1,"b":{"c":2},"d":{"e f":{"g":3}}})");
  CHECK(dump("[a.b]\nx = 1\n[a]\ny = 2") == R"({"a":{"b":{"x":1},"y":2}})");
  CHECK(dump("[[s]] # first\n x = 1\n[[s.t]]\ny = 2\n[[s.t]]\n[[s]]\n[[s.t]]\ny = 3\n[s.u]\nz = 4") ==
        R"({"s":[{"x":1,"t":[{"y":2},{}]},{"t":[{"y":3}],"u":{"z":4}}]})");
  CHECK(dump("[[s]]\n[s.u]\n[[s]]\n[s.u]\nz=1") == R"({"s":[{"u":{}},{"u":{"z":1}}]})");
  const auto refused = [](const std::string& text, const std::string& message) {
    check_refused(text, message, TomlTables::allowed);
  };
  refused("[a]\n[a]", "line 2: the table \"a\" is there twice");
  refused("a = 1\n[a]", "\"a\" is no table");
  refused("a = [1]\n[[a]]", "\"a\" is no array of tables");
  refused("a = []\n[a.b]", "\"a\" is no table");
  refused("[a]\n[[a]]", "no array of tables");
  refused("[a", "must end in a bracket");
  refused("[a b]", "must end in a bracket");
  refused("[[a]", "must end in a bracket");
  refused("[]", "a table's name is missing");
  refused("[a.]", "a table's name is missing");
  refused("[a] x = 1", "something follows the value");
  refused("[a]\nx = {y = 1}", "inline tables are not used here");
  std::string deep = "[a";
  for (int i = 0; i < 100; ++i) deep += ".a";
  refused(deep + "]", "nested too deep");
}
