#include <string>

#include <doctest/doctest.h>

#include "base/json.h"
#include "image/fixtures.h"
#include "image/parameters.h"

using namespace atelier::image;
using namespace atelier::test;

TEST_CASE("A1111's parameters are read as A1111 reads them") {
  const auto cases = atelier::base::read_json_file(image_file("parameters.json"));
  REQUIRE(cases.size() > 100);
  for (const auto& item : cases) {
    const std::string text = item["text"];
    CAPTURE(text);
    const Parameters parsed = parse_parameters(text);
    CHECK(parsed.prompt == item["prompt"].get<std::string>());
    CHECK(parsed.negative_prompt == item["negative"].get<std::string>());
    REQUIRE(parsed.fields.size() == item["fields"].size());
    for (std::size_t i = 0; i < parsed.fields.size(); ++i) {
      CHECK(parsed.fields[i].first == item["fields"][i][0].get<std::string>());
      CHECK(parsed.fields[i].second == item["fields"][i][1].get<std::string>());
    }
  }
}

TEST_CASE("what is written can be read") {
  Parameters parameters{"a cat,\n(hat:1.2) \"quoted\"", "dog\nblurry", {}};
  parameters.fields = {{"Steps", "20"}, {"Sampler", "Euler a"}, {"Size", "512x512"}, {"Lora hashes", "a: 1, b: \"2\""},
                       {"Odd", "\"x"},  {"Lines", "a\nb"}};
  const std::string text = format_parameters(parameters);
  CHECK(
      text.starts_with("a cat,\n(hat:1.2) \"quoted\"\nNegative prompt: dog\nblurry\nSteps: 20, Sampler: Euler a, Size: "
                       "512x512, Lora hashes: \"a: 1, b: \\\"2\\\"\", "));
  CHECK(parse_parameters(text) == parameters);
  REQUIRE(parameters.find("Sampler") != nullptr);
  CHECK(*parameters.find("Sampler") == "Euler a");
  CHECK(parameters.find("Seed") == nullptr);
  CHECK(format_parameters({"p", "", {{"Steps", "1"}}}) == "p\nSteps: 1");
}

TEST_CASE("long and hostile texts take linear time") {
  CHECK(parse_parameters(std::string(1'000'000, 'a')).fields.empty());
  CHECK(parse_parameters(std::string(1'000'000, '"')).fields.empty());
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += "Aa: \"";
  CHECK(parse_parameters(text).prompt.size() > 0);
}
