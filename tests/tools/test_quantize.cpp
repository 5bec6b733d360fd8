// gemma-quantize, and --quantize of the tools that generate: what a user sees.
#include <filesystem>

#include "base/json.h"
#include "tools/generate.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

const std::string calibration =
    "<start_of_turn>user\nWrite a caption for a picture of a red circle.<end_of_turn>\n<start_of_turn>model\na red "
    "circle<end_of_turn>\n<start_of_turn>user\nDraw me a big green square on "
    "white<end_of_turn>\n<start_of_turn>model\na large "
    "green square on a white background<end_of_turn>\n";

Result quantize(std::vector<std::string> args) {
  return run({.program = tool("gemma-quantize"), .args = std::move(args)});
}

/// What does not depend on the clock.
Json steady(Json record) {
  record.erase("timings");
  return record;
}

std::vector<std::string> prompt(std::vector<std::string> more) {
  std::vector<std::string> args = {
      "-p", "Write a caption for a picture of a red circle.", "--json", "--temperature", "0", "--logprobs", "2", "--seed", "1"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

bool empty_or_missing(const std::string& folder) {
  return !std::filesystem::exists(folder) || std::filesystem::is_empty(folder);
}

}  // namespace

TEST_CASE("--quantize gives the same whatever the threads; a folder of gemma-quantize gives what --quantize gives") {
  const TempFolder folder;
  for (const char* bits : {"8", "4"}) {
    CAPTURE(bits);
    const std::string name = std::string("int") + bits, output = folder.file(name);
    const Json two = steady(record(generate(prompt({"--quantize", name, "--threads", "2"}))));
    CHECK(two["text"].get<std::string>().find("red circle") != std::string::npos);
    CHECK(steady(record(generate(prompt({"--quantize", name, "--threads", "1"})))) == two);
    CHECK(two["logprobs"] != record(generate(prompt({})))["logprobs"]);

    const Json made = record(quantize({"--bits", bits, "--output", output, "--json", "--seed", "1"}));
    CHECK(made["bits"] == std::stoi(bits));
    CHECK(made["group"] == 32);
    CHECK(made["kl_divergence"].get<double>() > 0);
    CHECK(made["kl_divergence"].get<double>() < (bits[0] == '8' ? 1e-3 : 0.2));
    CHECK(made["bits_per_weight"].get<double>() < std::stoi(bits) + 0.9);
    CHECK(made["evaluated_on"] == "samples of the original");
    CHECK(steady(record(generate(prompt({"--model", output})))) == two);
  }
}

TEST_CASE("rows of a batch do not depend on one another with packed weights") {
  const std::string jobs = R"({"id":1,"prompt":"Hello!","seed":1}
{"id":2,"prompt":"Who are you?","seed":2}
{"id":3,"prompt":"Draw me a big green square on white","seed":3}
)";
  for (const char* name : {"int8", "int4"}) {
    const auto one = records(generate({"--jobs", "-", "--quantize", name, "--batch-size", "1"}, jobs));
    const auto three = records(generate({"--jobs", "-", "--quantize", name, "--batch-size", "3"}, jobs));
    REQUIRE(one.size() == 3);
    for (int i = 0; i < 3; ++i) CHECK(reply(one[i]) == reply(three[i]));
  }
}

TEST_CASE("gemma-chat reads both") {
  const TempFolder folder;
  const std::string output = folder.file("four"), history = R"([{"role":"user","content":"Who are you?"}])";
  REQUIRE(quantize({"--output", output, "--evaluate", folder.write("text.txt", calibration)}).code == 0);
  const auto chat = [&](std::vector<std::string> more) {
    std::vector<std::string> args = {"--messages", history, "--temperature", "0", "--quiet"};
    args.insert(args.end(), more.begin(), more.end());
    return run({.program = tool("gemma-chat"), .args = std::move(args)});
  };
  const Result read = chat({"--model", output}), rounded = chat({"--quantize", "int4"});
  CHECK(read.code == 0);
  CHECK(read.out.find("Tiny Gemma") != std::string::npos);
  CHECK(read.out == rounded.out);
}

TEST_CASE("--calibrate: the record says on what, and the result is nearer to the original") {
  const TempFolder folder;
  const std::string text = folder.write("text.txt", calibration);
  const Json plain = record(quantize({"--output", folder.file("a"), "--evaluate", text, "--json"}));
  const Json fitted = record(quantize({"--output", folder.file("b"), "--calibrate", text, "--json"}));
  CHECK(plain["evaluated_on"] == text);
  CHECK(fitted["evaluated_on"] == text);
  CHECK(fitted["calibrated_on"]["path"] == text);
  CHECK(fitted["calibrated_on"]["tokens"] == fitted["tokens"]);
  CHECK(fitted["tokens"] == plain["tokens"]);
  CHECK(fitted["reference_perplexity"] == plain["reference_perplexity"]);
  CHECK(fitted["kl_divergence"].get<double>() < 0.5 * plain["kl_divergence"].get<double>());
  CHECK(fitted["same_top"].get<double>() <= 1);
  const Result words = quantize({"--output", folder.file("c"), "--calibrate", text, "--group", "128"});
  CHECK(words.out.find("KL divergence") != std::string::npos);
  CHECK(words.out.starts_with(folder.file("c") + "\n"));
}

TEST_CASE("--plan knows what the weights will weigh") {
  const auto weights = [](std::vector<std::string> args) {
    args.insert(args.end(), {"--plan", "--max-tokens", "8", "-p", "a"});
    return record(generate(args))["bytes"]["weights"].get<double>();
  };
  const double dense = weights({});
  CHECK(weights({"--quantize", "int8"}) / dense < 8.4 / 16);
  CHECK(weights({"--quantize", "int4"}) / dense < 4.8 / 16);
  const TempFolder folder;
  const std::string output = folder.file("four");
  const Result plan = quantize({"--output", output, "--plan"});
  CHECK(record(plan)["bytes"]["weights"].get<double>() > dense);
  CHECK(!std::filesystem::exists(output));
  REQUIRE(quantize({"--output", output, "--evaluate", folder.write("text.txt", calibration)}).code == 0);
  CHECK(weights({"--model", output}) == weights({"--quantize", "int4"}));
  const Json all = record(generate({"--model", output, "--plan", "-p", "a"}));
  CHECK(all["missing"].empty());
  CHECK(all["unused"].empty());
}

TEST_CASE("gemma-quantize: what cannot be is refused, and nothing is left behind") {
  const TempFolder folder;
  const std::string output = folder.file("out"), text = folder.write("text.txt", calibration);
  const auto code = [&](std::vector<std::string> args) { return quantize(std::move(args)).code; };
  CHECK(code({}) == 64);
  CHECK(code({"--output", output, "--bits", "5"}) == 64);
  CHECK(code({"--output", output, "--group", "16"}) == 64);
  CHECK(code({"--output", output, "--device", "cuda"}) == 69);
  CHECK(code({"--output", output, "--calibrate", folder.file("none")}) == 66);
  CHECK(code({"--output", output, "--calibrate", folder.write("bad.txt", "\xff\xfe")}) == 65);
  CHECK(code({"--output", output, "--calibrate", folder.write("short.txt", "a")}) == 65);
  CHECK(code({"--output", text}) == 73);
  CHECK(code({"--output", folder.path().string()}) == 73);
  CHECK(code({"--output", text + "/below"}) == 73);
  CHECK(code({"--output", output, "--max-ram", "1M"}) == 71);
  CHECK(empty_or_missing(output));
  REQUIRE(code({"--output", output, "--evaluate", text}) == 0);
  CHECK(code({"--model", output, "--output", folder.file("again")}) == 64);
  check_failure(generate({"--model", output, "--quantize", "int8", "-p", "a"}), 64, "quantised already");
  check_failure(generate({"--quantize", "int3", "-p", "a"}), 64, "int3");
}

TEST_CASE("hostile packed folders: exit 65, one line") {
  const TempFolder folder;
  const std::string output = folder.file("out");
  REQUIRE(quantize({"--output", output, "--evaluate", folder.write("text.txt", calibration)}).code == 0);
  const std::string good = folder.read("out/model.safetensors");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string bad = good;
    const auto place = bad.find(from);
    REQUIRE(place != std::string::npos);
    REQUIRE(from.size() == to.size());
    bad.replace(place, from.size(), to);
    folder.write("out/model.safetensors", bad);
    check_failure(generate({"--model", output, "-p", "a", "-n", "1"}), 65, "");
  };
  with("q_proj.weight.codes", "q_proj.weight.coded");
  with("q_proj.weight.scales", "q_proj.weight.scaled");
  with("q_proj.weight.units", "q_proj.weight.limit");
  with("embed_tokens.weight.codes", "embed_tokens.weight.coded");
  with("[16,8,256]", "[8,16,256]");
  with("[16,8,256]", "[16,8,128]");
  // A unit that is no number. The units are the first tensors, f32.
  std::string bad = good;
  std::uint64_t header = 0;
  for (int i = 0; i < 8; ++i) header |= static_cast<std::uint64_t>(static_cast<unsigned char>(good[i])) << (8 * i);
  bad.replace(8 + header, 4, "\xff\xff\xff\xff");
  folder.write("out/model.safetensors", bad);
  check_failure(generate({"--model", output, "-p", "a", "-n", "1"}), 65, "no finite number");
  folder.write("out/model.safetensors", good.substr(0, good.size() - 1));
  check_failure(generate({"--model", output, "-p", "a", "-n", "1"}), 65, "");
}

TEST_CASE("gemma-finetune: an adapter on packed weights, and what they cannot be trained by") {
  const TempFolder folder;
  const std::string output = folder.file("out"), adapter = folder.file("adapter");
  REQUIRE(quantize({"--output", output, "--evaluate", folder.write("text.txt", calibration)}).code == 0);
  const std::string rows = folder.write("rows.jsonl", R"({"prompt":"What is up?","completion":"The sky."})"
                                                      "\n");
  const auto finetune = [&](std::vector<std::string> more) {
    std::vector<std::string> args = {"--model", output, "--data", rows, "--output", adapter, "--quiet"};
    args.insert(args.end(), more.begin(), more.end());
    return run({.program = tool("gemma-finetune"), .args = std::move(args)});
  };
  CHECK(finetune({"--method", "full"}).code == 64);
  CHECK(finetune({"--method", "qlora"}).code == 64);
  const Result trained = finetune({"--steps", "2"});
  CAPTURE(trained.err);
  CHECK(trained.code == 0);
  CHECK(record(generate(prompt({"--model", output, "--adapter", adapter})))["text"].is_string());
}
