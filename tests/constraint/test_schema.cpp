// JSON Schemas as constraints: what they take, what is refused, and that every text is closed within its budget.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>

#include <fmt/format.h>

#include "base/error.h"
#include "constraint/drawing.h"

using namespace atelier::test;
using atelier::base::Error;
using atelier::base::ExitCode;
using atelier::base::Json;
namespace base = atelier::base;

namespace {

std::shared_ptr<Constraint> compiled(const std::string& schema, const std::shared_ptr<const Vocabulary>& vocabulary) {
  return Constraint::json_schema(vocabulary, base::parse_json(schema, "schema"), "schema");
}

bool takes(const std::string& schema, const std::string& text) {
  static const auto bytes = byte_vocabulary();
  return accepts(compiled(schema, bytes), text);
}

std::vector<std::string> lines(const std::string& name) {
  std::ifstream in(std::string(ATELIER_TEST_DATA) + "/constraint/" + name);
  std::vector<std::string> all;
  for (std::string line; std::getline(in, line);) all.push_back(line);
  return all;
}

}  // namespace

TEST_CASE("texts that a schema takes, and others") {
  struct Case {
    std::string schema;
    std::vector<std::string> in, out;
  };
  const std::vector<Case> cases = {
      {"true",
       {"1", "[]", R"({"a":{"b":[null,true,"x"]}})", R"("\n")", "-1.5e+3"},
       {"", "[1,]", "{\"a\":1,\"a\":2}", "01", "nul", " 1", "'a'"}},
      {R"({"type":["integer","null"]})", {"5", "null", "-3"}, {"5.5", "true", "\"5\""}},
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":true},"required":["a"]})",
       {R"({"a":1})", R"({"a":1,"b":[]})", R"({"a":1,"c":2,"d":3})", "{\n  \"a\": 1,\n  \"b\": 2\n}"},
       {"{}", R"({"b":1})", R"({"b":1,"a":1})", R"({"a":1,"c":2,"c":3})", R"({"a":"x"})", R"({"a":1,"a":1})"}},
      {R"({"type":"object","properties":{"a":{},"b":{}},"additionalProperties":false,"minProperties":1})",
       {R"({"a":1})", R"({"b":1})", R"({"a":1,"b":2})"},
       {"{}", R"({"c":1})", R"({"a":1,"c":1})"}},
      {R"({"type":"object","maxProperties":2})", {"{}", R"({"a":1,"b":2})"}, {R"({"a":1,"b":2,"c":3})"}},
      {R"({"type":"array","items":{"type":"string"},"uniqueItems":true,"maxItems":3})",
       {"[]", R"(["a","b","ab"])"},
       {R"(["a","a"])", R"(["a","b","a"])", R"(["a","b","c","d"])"}},
      {R"({"type":"array","items":{"type":"integer"},"uniqueItems":true})", {"[1,12,2]"}, {"[1,12,1]", "[3,3]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":{"type":"null"}})",
       {"[]", "[1]", R"([1,"a",null,null])"},
       {R"(["a"])", R"([1,"a",2])"}},
      {R"({"type":"array","items":[{"type":"integer"}],"additionalItems":false})", {"[]", "[1]"}, {"[1,2]"}},
      {R"({"enum":["a",1,{"x":[1]}]})", {"\"a\"", "1", R"({"x":[1]})"}, {"2", "\"b\"", "{}"}},
      {R"({"enum":["a",1,2,3],"type":"integer","minimum":2})", {"2", "3"}, {"1", "\"a\""}},
      {R"({"type":"string","minLength":2,"maxLength":3})",
       {"\"ab\"", "\"\xC3\xA9\xE2\x82\xAC\"", "\"\\n\\u0000x\""},
       {"\"a\"", "\"abcd\""}},
      {R"({"type":"object","patternProperties":{"^x":{"type":"integer"}},"additionalProperties":{"type":"string"}})",
       {R"({"x1":5,"y":"s"})"},
       {R"({"x1":"s"})", R"({"y":5})"}},
      {R"({"type":"object","propertyNames":{"maxLength":2}})", {R"({"ab":1})", "{}"}, {R"({"abc":1})"}},
      {R"({"allOf":[{"minimum":3},{"maximum":5},{"type":"integer"}]})", {"3", "5"}, {"2", "6", "\"x\""}},
      {R"({"anyOf":[{"type":"integer","minimum":10},{"type":"string"}]})", {"10", "\"x\""}, {"9", "null"}},
      {R"({"oneOf":[{"type":"integer","multipleOf":3},{"type":"integer","multipleOf":5,"maximum":12,"minimum":7}]})",
       {},
       {"4"}},
      {R"({"oneOf":[{"required":["a"]},{"required":["b"]}],"type":"object","properties":{"a":{},"b":{}}})",
       {R"({"a":1})", R"({"b":1})"},
       {"{}", R"({"a":1,"b":2})"}},
      {R"({"not":{"type":"string"}})", {"1", "[]"}, {"\"a\""}},
      {R"({"type":"string","not":{"pattern":"^a"}})", {"\"b\"", "\"\""}, {"\"ab\""}},
      {R"({"if":{"type":"string"},"then":{"maxLength":1},"else":{"type":"integer"}})",
       {"\"a\"", "7"},
       {"\"ab\"", "null"}},
      {R"({"$ref":"#/$defs/a%25b/properties/x~1y","$defs":{"a%b":{"properties":{"x/y":{"type":"null"}}}}})",
       {"null"},
       {"1"}},
      {R"({"$id":"https://e.org/s","$ref":"https://e.org/s#t","$defs":{"t":{"$anchor":"t","type":"boolean"}}})",
       {"true"},
       {"1"}},
      {R"({"type":"object","properties":{"n":{"$ref":"#"}},"additionalProperties":false})",
       {"{}", R"({"n":{"n":{"n":{}}}})"},
       {R"({"n":1})"}},
      {R"({"type":"string","format":"date"})",
       {"\"2024-02-29\"", "\"1999-12-31\""},
       {"\"2023-02-29\"", "\"1900-02-29\"", "\"2024-13-01\"", "\"2024-1-1\""}},
      {R"({"type":"string","format":"ipv4"})", {"\"0.10.255.1\""}, {"\"256.1.1.1\"", "\"01.1.1.1\"", "\"1.1.1\""}},
      {R"({"title":"t","description":"d","default":1,"examples":[2],"$comment":"c","type":"null"})", {"null"}, {"1"}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.schema);
    if (c.schema.find("\"multipleOf\":3") != std::string_view::npos) {
      CHECK_THROWS_AS(compiled(c.schema, byte_vocabulary()), Error);  // multiples of 3 and of 5 overlap: not separable
      continue;
    }
    for (const std::string& text : c.in) CHECK_MESSAGE(takes(c.schema, text), text);
    for (const std::string& text : c.out) CHECK_MESSAGE(!takes(c.schema, text), text);
  }
}

TEST_CASE("keywords that are unknown, unsupported or malformed are refused by name and path") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"contains":{}})", R"(schema: #: "contains" is not supported)"},
      {R"({"properties":{"a":{"unevaluatedProperties":false}}})",
       R"(#/properties/a: "unevaluatedProperties" is not supported)"},
      {R"({"items":{"propertys":{}}})", R"(#/items: "propertys" is no keyword)"},
      {R"({"anyOf":[{"type":"strnig"}]})", R"(#/anyOf/0: "type" is "strnig")"},
      {R"({"type":7})", R"(#: "type" must be)"},
      {R"({"minLength":-1})", R"(#: "minLength" must be)"},
      {R"({"maxItems":1.5})", R"(#: "maxItems" must be)"},
      {R"x({"pattern":"(?=a)"})x", R"x(#: "pattern" "(?=a)": look-around)x"},
      {R"({"patternProperties":{"[":{}}})", R"(#: "patternProperties")"},
      {R"({"format":"phone"})", R"(#: "format" is "phone")"},
      {R"({"$ref":"other.json"})", R"(#: "$ref" is "other.json": only parts)"},
      {R"({"$ref":"#/nowhere"})", R"("$ref" is "#/nowhere", which is nowhere)"},
      {R"({"$ref":"#"})", R"("$ref" leads back to itself)"},
      {R"({"multipleOf":0})", R"("multipleOf" must be above 0)"},
      {R"({"required":"a"})", R"("required" must be a list)"},
      {R"({"enum":5})", R"("enum" must be a list)"},
      {R"({"properties":{"a":5}})", R"(#/properties/a: a schema is an object)"},
      {R"({"type":"array","uniqueItems":true})", R"("uniqueItems" is supported for)"},
      {R"({"oneOf":[{"type":"number"},{"type":"integer"}]})", R"(#: "oneOf" has alternatives)"},
      {R"({"then":{}})", R"("then" needs an "if")"},
      {R"({"type":"integer","minimum":5,"maximum":4})", "no text satisfies it"},
      {"false", "no text satisfies it"},
      {R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})", "no text satisfies it"},
      {R"({"type":"array","items":{"enum":[1,2]},"uniqueItems":true,"minItems":3})", "no text satisfies it"},
      {R"({"type":"string","pattern":"^(a|b|ab)*(a|b){14}a(a|b){14}$","maxLength":400})", "too complex"},
  };
  for (const auto& [schema, part] : cases) {
    CAPTURE(schema);
    try {
      compiled(schema, byte_vocabulary());
      FAIL_CHECK("was taken");
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::data);
      CHECK_MESSAGE(std::string_view(error.what()).find(part) != std::string_view::npos, error.what());
    }
  }
}

TEST_CASE("the masks are exact: a token is allowed just where its bytes lead to a text") {
  const auto pieces = made_up_vocabulary(1500, 7);
  for (const std::string& schema : lines("schemas.jsonl")) {
    CAPTURE(schema);
    const auto masked = compiled(schema, pieces);
    const auto bytes = compiled(schema, byte_vocabulary());
    base::Generator generator(11);
    ConstraintState state(masked, 100000), by_bytes(bytes, 100000);
    for (int step = 0; step < 12; ++step) {
      const auto mask = state.allowed();
      std::vector<atelier::text::TokenId> open;
      for (std::size_t i = 0; i < pieces->size(); ++i) {
        const auto id = static_cast<atelier::text::TokenId>(i);
        if (is_allowed(mask, id)) open.push_back(id);
      }
      if (open.empty()) break;
      // Every allowed token goes on byte by byte; single bytes also the other way round.
      for (int b = 0; b < 256; ++b) CHECK(is_allowed(mask, 3 + b) == is_allowed(by_bytes.allowed(), 3 + b));
      const auto chosen = open[generator() % open.size()];
      bool fits = true;
      for (const char c : pieces->bytes(chosen)) {
        const auto id = 3 + static_cast<unsigned char>(c);
        fits = fits && is_allowed(by_bytes.allowed(), id);
        if (!fits) break;
        by_bytes.advance(id);
      }
      CHECK(fits);
      if (!fits) break;
      state.advance(chosen);
      CHECK(state.accepts() == by_bytes.accepts());
    }
  }
}

TEST_CASE("every budget: the text is whole, or it is refused at once") {
  const auto pieces = made_up_vocabulary(1500, 7);
  for (const std::string& schema : lines("schemas.jsonl")) {
    CAPTURE(schema);
    const auto constraint = compiled(schema, pieces), bytes = compiled(schema, byte_vocabulary());
    const std::int64_t shortest = [&] {
      for (std::int64_t budget = 0;; ++budget) {
        try {
          ConstraintState state(constraint, budget);
          return budget;
        } catch (const Error& error) {
          CHECK(error.code() == ExitCode::condition);
        }
      }
    }();
    CHECK(shortest < 400);
    for (std::int64_t more = 0; more < 12; ++more) {
      const std::int64_t budget = shortest + more * more;
      const Drawn drawn = draw(constraint, static_cast<std::uint64_t>(more), budget);
      CHECK(drawn.tokens <= budget);
      CHECK_MESSAGE(accepts(bytes, drawn.text), drawn.text);
    }
  }
}

TEST_CASE("the JSON Schema Test Suite: nothing invalid is taken, valid texts are") {
  // {"schema", "text", "expect"}: "take", "leave", or "narrow" for valid texts that are never written
  const auto bytes = byte_vocabulary();
  int cases = 0;
  std::string last_schema;
  std::shared_ptr<Constraint> constraint;
  for (const std::string& line : lines("suite.jsonl")) {
    CAPTURE(line);
    const Json test = base::parse_json(line, "suite");
    ++cases;
    if (const std::string schema = test["schema"].dump(); schema != last_schema) {
      last_schema = schema;
      constraint = nullptr;
      try {
        constraint = Constraint::json_schema(bytes, test["schema"], "schema");
      } catch (const Error& error) {
        CHECK(std::string_view(error.what()).find("no text satisfies it") != std::string_view::npos);
      }
    }
    CHECK((constraint && accepts(constraint, test["text"].get<std::string>())) == (test["expect"] == "take"));
  }
  CHECK(cases > 400);
}

TEST_CASE("a tokenizer whose decoding takes a blank away gets one") {
  const auto vocabulary = Vocabulary::from_pieces(all_bytes(), true);
  const auto constraint = Constraint::regex(vocabulary, "ab");
  ConstraintState state(constraint, 10);
  CHECK(is_allowed(state.allowed(), 3 + ' '));
  CHECK_FALSE(is_allowed(state.allowed(), 3 + 'a'));
}

TEST_CASE("pieces that span lexemes count when room is short") {
  auto pieces = all_bytes();
  pieces.emplace_back("{}");
  const auto constraint = Constraint::json_object(Vocabulary::from_pieces(pieces));
  ConstraintState state(constraint, 1);
  CHECK(is_allowed(state.allowed(), 259));
  state.advance(259);
  CHECK(state.finished());
  CHECK_THROWS_AS(ConstraintState(constraint, 0), Error);
}

TEST_CASE("control tokens are never allowed, nesting is finite, hostile expressions end") {
  const auto pieces = made_up_vocabulary(600, 3);
  const auto any = Constraint::json_schema(pieces, Json(true));
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    ConstraintState state(any, 400);
    for (int i = 0; i < 3; ++i) CHECK_FALSE(is_allowed(state.allowed(), i));
    base::parse_json(draw(any, seed, 400).text, "text");  // at most 128 deep
  }
  for (const std::string hostile :
       {"(a|aa)*(a|b){0,100000}c", "(.*a){500}", "((a{1,1000}){1,1000}){1,1000}", "(x+x+)+y", ".*.*.*.*=.*"}) {
    CAPTURE(hostile);
    try {
      draw(Constraint::regex(pieces, hostile), 1, 600);
    } catch (const Error& error) {
      CHECK((error.code() == ExitCode::data || error.code() == ExitCode::condition));
    }
  }
}
