// gemma-generate with --json-object, --json-schema and --regex.
#include "tools/generate.h"

#include <cmath>

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

const std::string point =
    R"({"type":"object","properties":{"x":{"type":"integer","minimum":0,"maximum":9},"name":{"type":"string","maxLength":12}},)"
    R"("required":["x","name"],"additionalProperties":false})";

std::vector<std::string> drawn(const std::vector<std::string>& more) {
  std::vector<std::string> args = {"-p", "Give me a point.", "--seed", "3", "--temperature", "1.5"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

}  // namespace

TEST_CASE("--json-object: any number of tokens gives a whole object") {
  for (const char* n : {"2", "3", "7", "20", "60"}) {
    CAPTURE(n);
    const Json made = record(generate(drawn({"--json-object", "--json", "-n", n})));
    CAPTURE(made["text"]);
    CHECK(base::parse_json(made["text"].get<std::string>(), "text").is_object());
    CHECK(made["token_ids"].size() <= std::stoul(n));
    CHECK((made["finish_reason"] == "stop" || made["finish_reason"] == "length"));
  }
}

TEST_CASE("--json-schema: the text conforms, streamed or not, and stops by itself where nothing may follow") {
  const TempFolder folder;
  const std::string file = folder.write("point.json", point);
  for (const char* seed : {"1", "2", "3", "4", "5"}) {
    const Result streamed = generate({"-p", "A point", "--seed", seed, "--json-schema", file, "--temperature", "2"});
    CAPTURE(streamed.out);
    CHECK(streamed.code == 0);
    const Json value = base::parse_json(streamed.out, "text");
    CHECK(value.size() == 2);
    CHECK((value["x"] >= 0 && value["x"] <= 9));
    CHECK(value["name"].is_string());
    const Json made =
        record(generate({"-p", "A point", "--seed", seed, "--json-schema", file, "--temperature", "2", "--json"}));
    CHECK(made["text"].get<std::string>() + "\n" == streamed.out);
    CHECK(made["finish_reason"] == "stop");
  }
}

TEST_CASE("--regex: the whole text matches; a greedy run too") {
  const Json made = record(generate(drawn({"--regex", "[A-Z]{3}-\\d{4}", "--json", "--temperature", "0"})));
  const std::string text = made["text"];
  REQUIRE(text.size() == 8);
  CHECK(text[3] == '-');
  CHECK(std::isupper(static_cast<unsigned char>(text[0])));
  CHECK(text.find_first_not_of("0123456789", 4) == std::string::npos);
}

TEST_CASE("log-probabilities are the model's own, whatever the constraint left") {
  const std::vector<std::string> common = {"-p", "There are a", "--raw", "--json",     "--temperature",
                                           "0",  "-n",          "1",     "--logprobs", "1000"};
  auto args = common;
  args.insert(args.end(), {"--regex", " ?[xyz].*"});
  const Json open = record(generate(common)), made = record(generate(args));
  REQUIRE(open["logprobs"].size() == 1);  // the model does not end at once
  const Json& chosen = made["logprobs"][0];
  CHECK(made["token_ids"] != open["token_ids"]);
  CHECK(chosen["top"] == open["logprobs"][0]["top"]);  // of everything, not of what is allowed
  CHECK(chosen["logprob"] < open["logprobs"][0]["logprob"]);
}

TEST_CASE("too little room is exit 4 before anything is generated; a deadline that comes first too") {
  const TempFolder folder;
  const std::string file = folder.write("point.json", point);
  check_failure(generate(drawn({"--json-schema", file, "-n", "3"})), 4, "the shortest text that conforms takes");
  check_failure(generate(drawn({"--json-schema", file, "--deadline", "0"})), 4, "deadline");
  // The least room there is suffices.
  for (int n = 4; n < 40; ++n) {
    const Result result = generate(drawn({"--json-schema", file, "-n", std::to_string(n)}));
    if (result.code == 4) continue;
    CHECK(result.code == 0);
    CHECK(base::parse_json(result.out, "text").size() == 2);
    CHECK(n < 20);
    return;
  }
  FAIL("no budget was enough");
}

TEST_CASE("what is wrong with a constraint is said before the model is loaded") {
  const TempFolder folder;
  const auto schema = [&](const char* text) { return folder.write("schema.json", text); };
  check_failure(generate(drawn({"--json-schema", schema(R"({"items":{"contains":{}}})")})), 65,
                R"(schema.json: #/items: "contains" is not supported)");
  check_failure(generate(drawn({"--json-schema", schema(R"({"type":"integr"})")})), 65, R"("type" is "integr")");
  check_failure(generate(drawn({"--json-schema", schema("{")})), 65, "malformed JSON");
  check_failure(generate(drawn({"--json-schema", folder.file("missing")})), 66, "missing");
  check_failure(generate(drawn({"--regex", "(?=a)"})), 65, "look-around");
  check_failure(generate(drawn({"--regex", "a", "--json-object"})), 64, "do not go together");
  check_failure(generate(drawn({"--json-object", "--stop", "x"})), 64, "--stop");
  check_failure(generate(drawn({"--json-object", "--score"})), 64, "--score");
}

TEST_CASE("jobs: constraints of their own, schemas as files or in place, any batch size the same bytes") {
  const TempFolder folder;
  const std::string file = folder.write("point.json", point);
  std::string jobs;
  for (int i = 0; i < 12; ++i) {
    Json job = {{"id", i}, {"prompt", "Number " + std::to_string(i)}, {"max_tokens", 20 + 3 * i}};
    if (i % 4 == 0) job["json_schema"] = file;
    if (i % 4 == 1) job["json_schema"] = base::parse_json(point, "schema");
    if (i % 4 == 2) job["regex"] = "(ab|cd){2,5}";
    jobs += job.dump() + "\n";
  }
  jobs += R"({"id":"bad","prompt":"x","json_schema":{"contains":true}})"
          "\n";
  jobs += R"({"id":"small","prompt":"x","json_schema":{"type":"array","minItems":30},"max_tokens":9})"
          "\n";
  const auto one = records(generate({"--jobs", "-", "--seed", "5", "--temperature", "2", "--batch-size", "1"}, jobs));
  const Result result = generate({"--jobs", "-", "--seed", "5", "--temperature", "2", "--batch-size", "7"}, jobs);
  CHECK(result.code == 3);
  const auto many = records(result);
  REQUIRE(one.size() == 14);
  REQUIRE(many.size() == 14);
  for (std::size_t i = 0; i < 12; ++i) {
    CHECK(reply(one[i]) == reply(many[i]));
    if (i % 4 < 2) CHECK(base::parse_json(many[i]["text"].get<std::string>(), "text").size() == 2);
  }
  CHECK(many[12]["code"] == 65);
  CHECK(many[13]["code"] == 4);
}
