// --adapter of gemma-generate and gemma-chat, with adapters made for the model that ships.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>

#include "base/sha256.h"
#include "io/safetensors.h"
#include "tools/chat.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;
namespace fs = std::filesystem;

/// A folder with a LoRA of rank 2 on the first layer's q_proj and o_proj. `width` 0: the model's.
std::string make_adapter(const TempFolder& folder, const std::string& name, std::int64_t width = 0) {
  const Json config = base::read_json_file(shipped + "/config.json");
  const std::int64_t hidden = width ? width : config["hidden_size"].get<std::int64_t>();
  const auto heads = config["num_attention_heads"].get<std::int64_t>() * config["head_dim"].get<std::int64_t>();
  const std::string path = folder.file(name);
  fs::create_directories(path);
  std::ofstream(path + "/adapter_config.json") << Json{{"peft_type", "LORA"},
                                                       {"task_type", "CAUSAL_LM"},
                                                       {"r", 2},
                                                       {"lora_alpha", 4},
                                                       {"target_modules", {"q_proj", "o_proj"}},
                                                       {"layers_to_transform", {0}}};
  std::vector<std::vector<float>> kept;
  std::vector<io::TensorBytes> list;
  const auto add = [&](const std::string& module, std::vector<std::int64_t> shape) {
    const std::string tensor = "base_model.model.model.layers.0.self_attn." + module + ".weight";
    const std::string text = name + tensor;
    std::seed_seq seed(text.begin(), text.end());
    std::mt19937 numbers(seed);
    auto& values = kept.emplace_back(static_cast<std::size_t>(shape[0] * shape[1]));
    for (float& value : values) value = static_cast<float>(numbers() / 4294967296.0 - 0.5) * 0.6F;
    list.push_back({{tensor, io::DType::F32, std::move(shape)}, std::as_bytes(std::span(values))});
  };
  kept.reserve(4);
  add("q_proj.lora_A", {2, hidden});
  add("q_proj.lora_B", {heads, 2});
  add("o_proj.lora_A", {2, heads});
  add("o_proj.lora_B", {hidden, 2});
  io::write_safetensors(path + "/adapter_model.safetensors", list, {{"format", "pt"}});
  return path;
}

std::vector<std::string> base_args(std::vector<std::string> more) {
  std::vector<std::string> args{"--model", shipped, "--threads", "1", "--json"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

double perplexity(std::vector<std::string> adapters) {
  std::vector<std::string> args =
      base_args({"--score", "--raw", "--dtype", "fp32", "-p", "A small red circle at the top."});
  for (const std::string& adapter : adapters) args.insert(args.end(), {"--adapter", adapter});
  return record(generate(args))["perplexity"].get<double>();
}

}  // namespace

TEST_CASE("an adapter changes what the model says, by its scale and beside others") {
  const TempFolder folder;
  const std::string one = make_adapter(folder, "one"), other = make_adapter(folder, "other:2");
  const double plain = perplexity({});
  const double with = perplexity({one});
  CHECK(std::abs(with - plain) > 1e-3 * plain);
  CHECK(perplexity({one + ":0"}) == doctest::Approx(plain).epsilon(1e-6));
  CHECK(perplexity({one + ":0.5", one + ":0.5"}) == doctest::Approx(with).epsilon(1e-5));
  CHECK(perplexity({one, one + ":-1"}) == doctest::Approx(plain).epsilon(1e-5));
  CHECK(perplexity({other}) != doctest::Approx(with).epsilon(1e-4));
  CHECK(perplexity({other + ":1", one}) == doctest::Approx(perplexity({one, other})).epsilon(1e-5));
}

TEST_CASE("jobs run with the adapter of the command line, and a chat does") {
  const TempFolder folder;
  const std::string one = make_adapter(folder, "one");
  const Json alone = record(generate(base_args({"--adapter", one, "-p", "Hello!", "--seed", "1", "-n", "8"})));
  const Result jobs = generate(
      base_args({"--adapter", one, "--jobs", "-", "-n", "8"}),
      "{\"id\":1,\"prompt\":\"Hello!\",\"seed\":1}\n{\"id\":2,\"prompt\":\"x\",\"adapter\":\"" + one + "\"}\n");
  CHECK(jobs.code == 3);
  const auto found = records(jobs);
  REQUIRE(found.size() == 2);
  CHECK(reply(found[0]) == reply(alone));
  CHECK(found[1]["code"] == 64);
  const std::vector<std::string> ask{
      "--messages", R"([{"role":"user","content":"Hello!"}])", "--json", "--seed", "1", "-n", "8"};
  auto adapted = ask;
  adapted.insert(adapted.end(), {"--adapter", one + ":12"});  // enough to change what is sure
  CHECK(reply(record(chat(adapted))) != reply(record(chat(ask))));
}

TEST_CASE("plan, manifest and prompt cache know the adapter") {
  const TempFolder folder;
  const std::string one = make_adapter(folder, "one"), cache = folder.file("cache");
  const auto weights = [&](std::vector<std::string> more) {
    more.push_back("--plan");
    return record(generate(base_args(more)))["bytes"]["weights"].get<std::int64_t>();
  };
  const auto file = fs::file_size(one + "/adapter_model.safetensors");
  const std::int64_t more = weights({"--adapter", one}) - weights({});
  CHECK(more > 0);
  CHECK(more <= static_cast<std::int64_t>(file));
  CHECK(static_cast<std::int64_t>(file) - more < 1000);  // the header

  std::string prompt;
  for (int i = 0; i < 40; ++i) prompt += "Picture " + std::to_string(i) + " shows a small red circle. ";
  const auto ask = [&](std::vector<std::string> with) {
    with.insert(with.end(),
                {"-p", prompt, "--seed", "2", "-n", "4", "--prompt-cache", cache, "--manifest", folder.file("m.json")});
    return record(generate(base_args(with)));
  };
  CHECK(ask({})["usage"]["cached_tokens"] == 0);
  const Json missed = ask({"--adapter", one});
  CHECK(missed["usage"]["cached_tokens"] == 0);
  CHECK(ask({"--adapter", one + ":0.5"})["usage"]["cached_tokens"] == 0);
  const Json hit = ask({"--adapter", one});
  CHECK(hit["usage"]["cached_tokens"] >= 128);
  CHECK(reply(hit) == reply(missed));
  const Json manifest = base::read_json_file(folder.file("m.json"));
  REQUIRE(manifest["adapters"].size() == 1);
  const Json& entry = manifest["adapters"][0];
  CHECK(entry["path"] == one + "/adapter_model.safetensors");
  CHECK(entry["sha256"] == base::sha256_file(one + "/adapter_model.safetensors"));
  CHECK(entry["config_sha256"] == base::sha256_file(one + "/adapter_config.json"));
  CHECK(entry["scale"] == 1.0);
}

TEST_CASE("adapters that cannot be used are one clear line") {
  const TempFolder folder;
  const std::string one = make_adapter(folder, "one");
  const auto fails = [&](const std::string& adapter, int code, const std::string& part) {
    check_failure(generate({"--model", shipped, "-p", "x", "--adapter", adapter}), code, part);
    check_chat_failure(chat({"--messages", "[{\"role\":\"user\",\"content\":\"x\"}]", "--adapter", adapter}), code,
                       part);
  };
  fails(folder.file("nowhere"), 66, "no such folder");
  fails(folder.file("nowhere") + ":0.5", 66, "no such folder");
  fails(one + ":much", 64, "\"much\" is no scale");
  fails(one + ":1e9", 64, "a scale lies between");
  fails(shipped, 66, "no adapter_config.json");
  fails(make_adapter(folder, "wide", 24), 65,
        "o_proj.lora_B.weight\" has shape [24, 2], the model and the adapter's configuration want [");
  auto config = base::read_json_file(one + "/adapter_config.json");
  config["lora_bias"] = true;
  std::ofstream(one + "/adapter_config.json") << config;
  fails(one, 65, "\"lora_bias\": true is not supported");
}
