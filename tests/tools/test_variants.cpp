// FunctionGemma, TranslateGemma, MedGemma and ShieldGemma as gemma-generate and gemma-chat ask them, on the model that ships.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "text/tokenizer.h"
#include "tools/chat.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;
namespace fs = std::filesystem;

const Json draw = {{"type", "function"},
                   {"function",
                    {{"name", "draw_shape"},
                     {"description", "Draw a shape."},
                     {"parameters",
                      {{"type", "object"},
                       {"properties",
                        {{"colour", {{"type", "string"}, {"description", "The colour."}}},
                         {"shape", {{"type", "string"}, {"description", "The kind of shape."}}}}},
                       {"required", {"colour", "shape"}}}}}}};

std::vector<std::string> plain(std::vector<std::string> args) {
  args.insert(args.end(), {"--model", shipped, "--threads", "1"});
  return args;
}

/// The shipped model under another folder's name.
std::string named(const TempFolder& folder, const std::string& name) {
  const std::string path = folder.file(name);
  fs::create_directory(path);
  for (const auto& entry : fs::directory_iterator(shipped)) fs::create_symlink(fs::canonical(entry.path()), path + "/" + entry.path().filename().string());
  return path;
}

std::int64_t prompt_tokens(const Json& record) { return record["usage"]["prompt_tokens"].get<std::int64_t>(); }

}  // namespace

TEST_CASE("functions: declarations go in, calls come out as JSON") {
  const TempFolder folder;
  const std::string tools = folder.write("tools.json", Json::array({draw}).dump());
  const std::vector<std::string> args = plain({"-p", "Draw a red circle.", "--tools", tools, "--temperature", "0"});
  auto json = args;
  json.push_back("--json");
  const Json one = record(generate(json));
  CHECK(prompt_tokens(one) > prompt_tokens(record(generate(plain({"-p", "Draw a red circle.", "--json", "-n", "1"})))) + 20);
  CHECK(one["text"].get<std::string>().find("call:") == std::string::npos);
  if (one.contains("tool_calls")) {  // the model is small; what it writes is not ours to promise
    const Json& call = one["tool_calls"][0];
    CHECK(call["type"] == "function");
    CHECK(call["function"]["name"].is_string());
    CHECK(call["function"]["arguments"].is_object());
    const Result lines = generate(args);
    CHECK(lines.out.find(call["function"].dump()) != std::string::npos);
  } else {
    MESSAGE("the model called no function: " << one.dump());
  }
  // Per job, and the same.
  const std::string job = Json{{"prompt", "Draw a red circle."}, {"tools", Json::array({draw})}}.dump() + "\n";
  CHECK(reply(records(generate(plain({"--jobs", "-", "--temperature", "0", "--seed", std::to_string(one["seed"].get<std::uint64_t>())}), job))[0]) == reply(one));
}

TEST_CASE("a call's result goes back in") {
  const TempFolder folder;
  const std::string tools = folder.write("tools.json", Json{{"tools", Json::array({draw})}}.dump());
  const Json user = {{"role", "user"}, {"content", "Draw a red circle."}};
  const Json call = {{"type", "function"}, {"function", {{"name", "draw_shape"}, {"arguments", {{"colour", "red"}, {"shape", "circle"}}}}}};
  const Json result = {{"role", "tool"}, {"name", "draw_shape"}, {"content", {{"status", "ok"}}}};
  const auto answer = [&](const Json& calls) {
    return record(chat({"--messages", Json::array({user, {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", calls}}, result}).dump(),
                        "--tools", tools, "--temperature", "0", "--json", "--seed", "1"}));
  };
  const Json one = answer(Json::array({call}));
  Json text = call;
  text["function"]["arguments"] = R"({"colour": "red", "shape": "circle"})";
  CHECK(reply(answer(Json::array({text}))) == reply(one));
  check_chat_failure(chat({"--messages", Json::array({user, {{"role", "model"}, {"content", "x"}}, result}).dump()}), 65,
                     "a tool message must follow a call");
}

TEST_CASE("functions that are none") {
  const TempFolder folder;
  const auto with = [&](const std::string& text) { return generate(plain({"-p", "x", "--tools", folder.write("t.json", text)})); };
  check_failure(with("{"), 65, "t.json");
  check_failure(with("3"), 65, "t.json: expected a list of functions");
  check_failure(with("[{}]"), 65, "t.json: function 1 has no \"name\"");
  check_failure(generate(plain({"-p", "x", "--tools", folder.file("missing")})), 66, "missing");
  check_failure(generate(plain({"-p", "x", "--raw", "--tools", "[]"})), 64, "--raw does not go with --tools");
}

TEST_CASE("translations, one and many") {
  const std::string text = "a large yellow diamond";
  const Json one = record(generate(plain({"-p", text, "--translate", "en:de", "--temperature", "0", "--json", "--seed", "1"})));
  CHECK(prompt_tokens(one) > 60);
  // It is a user's message: --chat with the whole prompt says the same.
  const std::string whole =
      "You are a professional English (en) to German (de) translator. Your goal is to accurately convey the meaning and nuances "
      "of the original English text while adhering to German grammar, vocabulary, and cultural sensitivities.\nProduce only the "
      "German translation, without any additional explanations or commentary. Please translate the following English text into "
      "German:\n\n\n" + text;
  CHECK(reply(record(generate(plain({"-p", whole, "--temperature", "0", "--json", "--seed", "1"})))) == reply(one));
  const std::string jobs = Json{{"id", 1}, {"prompt", text}}.dump() + "\n" + Json{{"id", 2}, {"prompt", text}, {"translate", "en:xx"}}.dump() +
                           "\n" + Json{{"id", 3}, {"prompt", text}, {"translate", "en:fr"}}.dump() + "\n";
  const Result batch = generate(plain({"--jobs", "-", "--translate", "en:de", "--temperature", "0"}), jobs);
  CHECK(batch.code == 3);
  const auto all = records(batch);
  REQUIRE(all.size() == 3);
  CHECK(all[0]["text"] == one["text"]);
  CHECK(all[1]["code"] == 64);
  CHECK(all[2]["text"] != one["text"]);
  CHECK(chat({"--translate", "en:de", "--temperature", "0", "--quiet"}, text + "\n" + text + "\n").out ==
        one["text"].get<std::string>() + "\n" + one["text"].get<std::string>() + "\n");
}

TEST_CASE("unknown languages are exit 64, and the nearest is named") {
  check_failure(generate(plain({"-p", "x", "--translate", "en:dee"})), 64, "\"de\" (German)");
  check_failure(generate(plain({"-p", "x", "--translate", "englsh:de"})), 64, "\"en\" (English)");
  check_failure(generate(plain({"-p", "x", "--translate", "en"})), 64, "FROM:TO");
  check_failure(generate(plain({"-p", "x", "--translate", "en:de", "--raw"})), 64, "--raw");
  check_chat_failure(chat({"--translate", "q1:de"}), 64, "unknown language \"q1\"");
}

TEST_CASE("MedGemma is greedy unless told otherwise, and has its system text") {
  const TempFolder folder;
  const std::string model = named(folder, "medgemma-27b-text-it");
  const auto ask = [&](std::vector<std::string> more) {
    std::vector<std::string> args = {"-p", "Hello!", "--json", "--model", model, "--threads", "1"};
    args.insert(args.end(), more.begin(), more.end());
    return record(generate(args));
  };
  const Json one = ask({"--seed", "1"});
  Json other = ask({"--seed", "2"});
  other["seed"] = one["seed"];
  CHECK(reply(one) == reply(other));
  const Json system = ask({"--seed", "1", "--variant", "plain", "--temperature", "0", "--system", "You are a helpful medical assistant."});
  CHECK(reply(system) == reply(one));
  CHECK(prompt_tokens(ask({"--variant", "plain"})) < prompt_tokens(one));
  const Json said = record(chat({"--messages", R"([{"role":"user","content":"Hello!"}])", "--seed", "1", "--json", "--variant", "medgemma"}));
  CHECK(reply(said) == reply(one));
}

TEST_CASE("safety: ratings in the record, blocked is exit 4 or finish_reason safety") {
  const std::vector<std::string> rated = plain({"-p", "Hello!", "--safety-model", shipped, "--temperature", "0", "--seed", "1"});
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> args = rated;
    args.insert(args.end(), more.begin(), more.end());
    return generate(args);
  };
  const Json passed = record(with({"--safety", "all:none", "--json"}));
  REQUIRE(passed["safety_ratings"].size() == 8);  // four policies, of prompt and reply
  CHECK(passed["finish_reason"] != "safety");
  for (const Json& r : passed["safety_ratings"]) {
    CHECK(r["probability"].get<double>() > 0);
    CHECK(r["blocked"] == false);
  }
  CHECK(reply(passed) == reply(record(generate(plain({"-p", "Hello!", "--temperature", "0", "--seed", "1", "--json"})))));

  // Whatever the small model thinks of a policy: the threshold decides.
  const double of_prompt = passed["safety_ratings"][0]["probability"].get<double>();
  const bool blocks = of_prompt >= 0.25;
  const Result plain_text = with({"--safety", "dangerous_content:low"});
  const Json one = record(with({"--safety", "dangerous_content:low", "--json"}));
  CHECK(one["safety_ratings"][0]["blocked"] == blocks);
  if (blocks || one["finish_reason"] == "safety") {
    CHECK(plain_text.code == 4);
    CHECK(plain_text.out.empty());
    CHECK(plain_text.err.find("violates the safety policy dangerous_content") != std::string::npos);
    CHECK(one["finish_reason"] == "safety");
    CHECK(one["text"] == "");
    CHECK(one["token_ids"].empty());
  } else {
    CHECK(plain_text.code == 0);
  }
  MESSAGE("the shipped model's rating of \"Hello!\": " << of_prompt);
  check_failure(generate(plain({"-p", "x", "--safety", "all"})), 64, "--safety needs --safety-model");
  check_failure(with({"--safety", "hatespeech"}), 64, "hate_speech");
  check_failure(generate(plain({"-p", "x", "--safety", "all", "--safety-model", "/nonexistent"})), 66, "/nonexistent");
}

TEST_CASE("safety: a model that always says Yes blocks, one that says No does not") {
  // The head is tied to the embedding: a checkpoint whose rows for Yes and No are swapped answers the other way round.
  const TempFolder folder;
  const std::string swapped = named(folder, "swapped");
  std::string weights = test::get_file(shipped + "/model.safetensors");
  const std::uint64_t header = *reinterpret_cast<const std::uint64_t*>(weights.data());
  const Json tensors = base::parse_json(weights.substr(8, header), "header");
  const Json& embedding = tensors["model.embed_tokens.weight"];
  const std::size_t begin = 8 + header + embedding["data_offsets"][0].get<std::size_t>();
  const std::size_t row = embedding["shape"][1].get<std::size_t>() * 2;
  const auto tokenizer = text::Tokenizer::open(shipped);
  REQUIRE((tokenizer->find("Yes") && tokenizer->find("No")));
  const auto yes = static_cast<std::size_t>(*tokenizer->find("Yes")), no = static_cast<std::size_t>(*tokenizer->find("No"));
  std::swap_ranges(weights.begin() + static_cast<std::ptrdiff_t>(begin + yes * row),
                   weights.begin() + static_cast<std::ptrdiff_t>(begin + (yes + 1) * row),
                   weights.begin() + static_cast<std::ptrdiff_t>(begin + no * row));
  fs::remove(swapped + "/model.safetensors");
  test::put_file(swapped + "/model.safetensors", weights);
  const auto probability = [&](const std::string& model) {
    const Json r = record(generate(plain({"-p", "Hello!", "-n", "1", "--json", "--safety", "harassment:none", "--safety-model", model})));
    return r["safety_ratings"][0]["probability"].get<double>();
  };
  const double one = probability(shipped), other = probability(swapped);
  CHECK(std::abs(one + other - 1) < 0.4);  // the question spells both words, so not exactly 1
  REQUIRE(std::max(one, other) >= 0.25);
  const std::string blocking = one > other ? shipped : swapped;
  const Result blocked = generate(plain({"-p", "Hello!", "--safety", "harassment:low", "--safety-model", blocking}));
  CHECK(blocked.code == 4);
  CHECK(blocked.out.empty());
  const Json record_of = record(generate(plain({"-p", "Hello!", "--json", "--count", "2", "--safety", "harassment:low", "--safety-model", blocking, "--jobs", "-"}), "{\"prompt\":\"Hello!\",\"count\":1}\n"));
  CHECK(record_of["finish_reason"] == "safety");
  const Result said = chat({"--quiet", "--safety", "harassment:low", "--safety-model", blocking}, "Hello!\n");
  CHECK(said.code == 4);
}
