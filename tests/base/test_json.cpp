#include "base/json.h"

#include <chrono>
#include <string>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "support/errors.h"
#include "support/scratch.h"

using namespace atelier::base;
using atelier::test::contains;
using atelier::test::error_of;

namespace {

std::string refusal(const std::string& text, const JsonLimits& limits = {}) {
  return error_of(ExitCode::data, [&] { parse_json(text, "x.json", limits); });
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_CASE("parse_json keeps values and the order of keys") {
  const Json value =
      parse_json(" {\"z\":1,\"a\":[true,null,\"\\u00e9\\ud83d\\ude00\",-2,1.5e3,{}],\"m\":{\"k\":\"v\"}}\n", "x");
  CHECK(value.dump() == "{\"z\":1,\"a\":[true,null,\"\u00e9\U0001F600\",-2,1500.0,{}],\"m\":{\"k\":\"v\"}}");
  CHECK(value["m"]["k"] == "v");
  CHECK(parse_json("7", "x") == 7);
  CHECK(parse_json("\"\"", "x") == "");
}

TEST_CASE("parse_json: integers of 64 bits stay exact, larger ones become doubles") {
  CHECK(parse_json("18446744073709551615", "x").get<std::uint64_t>() == UINT64_MAX);
  CHECK(parse_json("-9223372036854775808", "x").get<std::int64_t>() == INT64_MIN);
  CHECK(parse_json("18446744073709551616", "x").is_number_float());
}

TEST_CASE("parse_json refuses everything that RFC 8259 does not allow") {
  for (const char* text : {"",
                           " ",
                           "{",
                           "}",
                           "[1,]",
                           "{\"a\":1,}",
                           "{'a':1}",
                           "{a:1}",
                           "01",
                           "+1",
                           ".5",
                           "1.",
                           "0x1",
                           "NaN",
                           "Infinity",
                           "-",
                           "1e",
                           "1e999",
                           "-1e999",
                           "nul",
                           "True",
                           "\"\t\"",
                           "\"\\x\"",
                           "\"\\ud800\"",
                           "\"\\udc00\"",
                           "\"abc",
                           "[1 2]",
                           "{\"a\" 1}",
                           "{} {}",
                           "[]x",
                           "// c\n1",
                           "/**/1",
                           "\"\x80\"",
                           "\"\xC0\xAF\"",
                           "\"\xED\xA0\x80\"",
                           "\"\xF4\x90\x80\x80\"",
                           "\xFF"}) {
    CAPTURE(text);
    CHECK(contains(refusal(text), "x.json: malformed JSON: "));
  }
  using namespace std::string_literals;
  CHECK(contains(refusal("{}\0garbage"s), "zero byte at offset 2"));
  CHECK(contains(refusal("\"a\0b\""s), "zero byte at offset 2"));
}

TEST_CASE("parse_json: the message is one short printable line, whatever the text") {
  const std::string message = refusal("[\"" + std::string(100'000, 'a') + "\x1b[2J\n");
  CHECK(message.size() < 400);
  CHECK(message.find('\n') == std::string::npos);
  CHECK(message.find('\x1b') == std::string::npos);
  CHECK(contains(refusal("{\n\"a\": x}"), "line 2, column 6"));
}

TEST_CASE("parse_json refuses a key that stands twice, at any level and any size") {
  CHECK(contains(refusal("{\"a\":1,\"a\":2}"), "key \"a\" stands twice"));
  CHECK(contains(refusal("[{\"b\":{\"c\":1,\"d\":2,\"c\":3}}]"), "key \"c\" stands twice"));
  CHECK(contains(refusal("{\"a\\u0062\":1,\"ab\":2}"), "key \"ab\" stands twice"));
  CHECK(parse_json("{\"a\":{\"a\":1},\"b\":{\"a\":2}}", "x").size() == 2);
  const Json last = parse_json("{\"a\":1,\"b\":2,\"a\":[3]}", "x", {.allow_duplicate_keys = true});
  CHECK(last.dump() == "{\"a\":[3],\"b\":2}");
}

TEST_CASE("parse_json caps the depth; 512,000 brackets are refused in under a second") {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK(parse_json(nested(128), "x").is_array());
  CHECK(contains(refusal(nested(129)), "nested more than 128 levels"));
  CHECK(contains(refusal("{\"a\":[{\"b\":1}]}", {.max_depth = 2}), "nested more than 2 levels"));
  const auto start = std::chrono::steady_clock::now();
  CHECK(contains(refusal(std::string(512'000, '[')), "nested more than 128 levels"));
  std::string objects;
  for (int i = 0; i < 512'000; ++i) objects += "{\"a\":";
  CHECK(contains(refusal(objects), "nested more than 128 levels"));
  CHECK(seconds_since(start) < 1);
  const Json deep = parse_json(nested(100'000), "x", {.max_depth = 100'000});  // builds and goes away without recursion
  CHECK(deep.size() == 1);
}

TEST_CASE("parse_json takes a vocabulary of 256,000 keys in well under a second") {
  std::string text = "{";
  for (int i = 0; i < 256'000; ++i) text += fmt::format("{}\"piece {}\":{}", i == 0 ? "" : ",", i, i);
  text += "}";
  const auto start = std::chrono::steady_clock::now();
  const Json value = parse_json(text, "x");
  CHECK(seconds_since(start) < 5);  // quadratic insertion would take minutes; the margin is for the sanitizers
  CHECK(value.size() == 256'000);
  CHECK(value.back() == 255'999);
}

TEST_CASE("read_json_file: exit codes and the size limit") {
  const atelier::test::Scratch scratch;
  const std::string path = scratch.file("c.json");
  CHECK(contains(error_of(ExitCode::no_input, [&] { read_json_file(path); }), "c.json: No such file"));
  CHECK(contains(error_of(ExitCode::no_input, [&] { read_json_file(scratch.path()); }), "Is a directory"));
  atelier::test::put_file(path, "{\"a\":1}");
  CHECK(read_json_file(path)["a"] == 1);
  CHECK(contains(error_of(ExitCode::data, [&] { read_json_file(path, 6); }), "larger than 6 bytes"));
  CHECK(contains(error_of(ExitCode::data, [&] { read_json_file("/dev/zero", 1 << 20); }), "/dev/zero: larger"));
}

TEST_CASE("dump_json is one line and always UTF-8") {
  CHECK(dump_json({{"text", "a\nb\xFF"}, {"n", 1}}) == "{\"text\":\"a\\nb\uFFFD\",\"n\":1}");
}

TEST_CASE("JsonFields checks type and range and names file and key") {
  const Json object =
      parse_json(R"({"i":-1,"big":18446744073709551615,"d":2.5,"s":"x","b":true,"n":null,"l":[1],"o":{}})", "x");
  const JsonFields fields(object, "config.json");
  const auto bad = [](const auto& action) { return error_of(ExitCode::data, action); };
  CHECK(fields.integer("i", -1, 5) == -1);
  CHECK(bad([&] { fields.integer("i", 1, 4096); }) == "config.json: \"i\" is -1, expected 1 to 4096");
  CHECK(bad([&] { fields.integer("big", 1, INT64_MAX); }) ==
        "config.json: \"big\" is 18446744073709551615, expected 1 to 9223372036854775807");
  CHECK(bad([&] { fields.integer("d", 1, 9); }) == "config.json: \"d\" is 2.5, expected an integer from 1 to 9");
  CHECK(bad([&] { fields.integer("l", 1, 9); }) == "config.json: \"l\" is a list, expected an integer from 1 to 9");
  CHECK(bad([&] { fields.integer("none", 1, 9); }) == "config.json: \"none\" is missing");
  CHECK(bad([&] { fields.integer("n", 1, 9); }) == "config.json: \"n\" is missing");
  CHECK(fields.integer_or("n", 1, 9, 4) == 4);
  CHECK(bad([&] { fields.integer_or("i", 1, 9, 4); }) == "config.json: \"i\" is -1, expected 1 to 9");
  CHECK(fields.number("d", 0, 3) == 2.5);
  CHECK(fields.number("i", -3, 3) == -1);
  CHECK(bad([&] { fields.number("d", 0, 1); }) == "config.json: \"d\" is 2.5, expected 0 to 1");
  CHECK(bad([&] { fields.number("s", 0, 1); }) == "config.json: \"s\" is \"x\", expected a number from 0 to 1");
  CHECK(fields.number_or("none", 0, 1, 0.5) == 0.5);
  CHECK(fields.boolean_or("b", false));
  CHECK(fields.boolean_or("none", true));
  CHECK(bad([&] { fields.boolean_or("i", true); }) == "config.json: \"i\" is -1, expected true or false");
  CHECK(fields.string("s") == "x");
  CHECK(fields.string_or("none", "y") == "y");
  CHECK(bad([&] { fields.string("o"); }) == "config.json: \"o\" is an object, expected a string");
  CHECK(fields.has("s"));
  CHECK(!fields.has("n"));
  CHECK(fields.find("l")->size() == 1);
  CHECK(bad([] { JsonFields(Json::array(), "c.json"); }) == "c.json: expected a JSON object");
}
