// --speculate, --draft, --kv-cache, and GGUF files as models.
#include <filesystem>

#include "tools/generate.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;
namespace fs = std::filesystem;

const std::string repeated = "Repeat: a small red circle on a blue square, a small red circle on a blue square";

std::vector<std::string> ask(std::vector<std::string> more) {
  std::vector<std::string> args = {"--model", shipped, "--json", "--seed", "4", "-n", "40", "-p", repeated};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

/// The shipped model cut down to its first layer, as a draft.
std::string draft_in(const TempFolder& folder) {
  fs::create_directory(folder.file("draft"));
  for (const auto& file : fs::directory_iterator(shipped))
    fs::copy_file(file.path(), folder.file("draft/" + file.path().filename().string()));
  Json config = base::read_json_file(shipped + "/config.json");
  config["num_hidden_layers"] = 1;
  folder.write("draft/config.json", config.dump());
  return folder.file("draft");
}

}  // namespace

TEST_CASE("speculation changes nothing but the time, and says what it did") {
  const TempFolder folder;
  const std::string draft = draft_in(folder);
  for (const char* temperature : {"0", "1"}) {
    const Json plain = record(generate(ask({"--temperature", temperature})));
    CHECK_FALSE(plain["timings"].contains("proposed_tokens"));
    for (const std::vector<std::string>& how :
         {std::vector<std::string>{"--speculate", "8"}, {"--draft", draft}, {"--draft", draft, "--speculate", "3"}}) {
      auto args = ask({"--temperature", temperature});
      args.insert(args.end(), how.begin(), how.end());
      const Json fast = record(generate(args));
      CHECK(reply(fast) == reply(plain));
      // A draft of nearly the model's own size is not worth asking.
      if (how[0] == "--speculate") CHECK(fast["timings"]["proposed_tokens"].get<int>() > 0);
      CHECK(fast["timings"]["accepted_tokens"] <= fast["timings"]["proposed_tokens"]);
    }
  }
}

TEST_CASE("jobs choose how much is proposed; batches and candidates stay what they are") {
  std::string jobs;
  for (int i = 0; i < 6; ++i)
    jobs += Json{{"id", i}, {"prompt", repeated + std::to_string(i)}, {"speculate", i % 3 * 4}}.dump() + "\n";
  const auto with = records(
      generate({"--model", shipped, "--jobs", "-", "--seed", "2", "-n", "30", "--raw", "--batch-size", "4"}, jobs));
  const auto without = records(generate(
      {"--model", shipped, "--jobs", "-", "--seed", "2", "-n", "30", "--raw", "--batch-size", "1", "--speculate", "0"},
      [&] {
        std::string plain;
        for (int i = 0; i < 6; ++i) plain += Json{{"id", i}, {"prompt", repeated + std::to_string(i)}}.dump() + "\n";
        return plain;
      }()));
  REQUIRE(with.size() == 6);
  REQUIRE(without.size() == 6);
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(reply(with[i]) == reply(without[i]));
    CHECK(with[i]["timings"].contains("proposed_tokens") == (i % 3 != 0));
  }
  const TempFolder folder;
  const auto candidates = records(generate(ask({"--count", "3", "--draft", draft_in(folder)})));
  const auto plain = records(generate(ask({"--count", "3"})));
  REQUIRE(candidates.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(reply(candidates[i]) == reply(plain[i]));
}

TEST_CASE("what cannot draft is refused") {
  check_failure(generate(ask({"--speculate", "64"})), 64, "--speculate");
  check_failure(generate(ask({"--draft", "/nonexistent"})), 66, "/nonexistent");
  check_failure(generate(ask({"--draft", std::string(ATELIER_TEST_DATA) + "/gguf/tiny.gguf"})), 65,
                "its vocabulary has");
}

TEST_CASE("keys and values in 8 bits: half the memory, and other texts are other cache entries") {
  const auto plan = [](std::vector<std::string> more) {
    std::vector<std::string> args = {"--model", shipped, "--plan", "--dtype", "bf16"};
    args.insert(args.end(), more.begin(), more.end());
    return record(generate(args))["bytes"]["cache"].get<double>();
  };
  const double full = plan({}), coded = plan({"--kv-cache", "int8"});
  CHECK(coded / full == doctest::Approx((32 + 4) / 64.0));
  CHECK(plan({"--kv-cache", "bf16"}) == full);
  const Json one = record(generate(ask({"--kv-cache", "int8", "--temperature", "0"})));
  CHECK(reply(record(generate(ask({"--kv-cache", "int8", "--temperature", "0", "--speculate", "8"})))) == reply(one));
  check_failure(generate(ask({"--kv-cache", "bf16", "--dtype", "fp32"})), 64, "--kv-cache bf16");
  check_failure(generate(ask({"--kv-cache", "int3"})), 64, "--kv-cache");

  const TempFolder folder;
  std::vector<std::string> cached = {"--model",
                                     shipped,
                                     "--json",
                                     "--seed",
                                     "4",
                                     "-n",
                                     "10",
                                     "--raw",
                                     "-p",
                                     [] {
                                       std::string text;
                                       for (int i = 0; i < 40; ++i)
                                         text += "a red circle and a blue square " + std::to_string(i) + " ";
                                       return text;
                                     }(),
                                     "--prompt-cache",
                                     folder.file("c")};
  const Json first = record(generate(cached));
  cached.insert(cached.end(), {"--kv-cache", "int8"});
  const Json missed = record(generate(cached)), hit = record(generate(cached));
  CHECK(first["usage"]["cached_tokens"] == 0);
  CHECK(missed["usage"]["cached_tokens"] == 0);
  CHECK(hit["usage"]["cached_tokens"].get<int>() >= 128);
  CHECK(reply(hit) == reply(missed));
}

TEST_CASE("a GGUF file is a model") {
  const std::string tiny = std::string(ATELIER_TEST_DATA) + "/gguf/tiny.gguf";
  const Json said = record(generate({"--model", tiny, "--json", "-p", "hello", "-n", "5", "--seed", "1"}));
  CHECK(said["usage"]["completion_tokens"].get<int>() <= 5);
  const Json plan = record(generate({"--model", tiny, "--plan"}));
  CHECK(plan["model"]["family"] == "gemma3_text");
  CHECK(plan["missing"].empty());
  CHECK(plan["unused"].empty());
  const TempFolder folder;
  const std::string bytes = get_file(tiny);
  check_failure(generate({"--model", folder.write("cut.gguf", bytes.substr(0, bytes.size() / 2)), "-p", "x"}), 65,
                "cut.gguf");
  check_failure(generate({"--model", folder.write("not.gguf", "GGUF"), "-p", "x"}), 65, "not.gguf");
}
