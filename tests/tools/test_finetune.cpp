// gemma-finetune: what it writes, and that a run can be stopped by anything at any moment.
#include <cmath>
#include <csignal>
#include <cstdlib>

#include "tools/finetune.h"
#include "tools/generate.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

Json json_record(const Result& result) {
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  const auto lines = result.out_lines();
  REQUIRE(lines.size() == 1);
  return base::parse_json(lines[0], "record");
}

std::vector<double> losses(const std::string& folder) {
  std::vector<double> found;
  for (const Json& line : metrics(folder))
    if (line.contains("loss")) found.push_back(line["loss"].get<double>());
  return found;
}

void check_refused(const Result& result, int code, const std::string& part) {
  CAPTURE(result.err);
  CHECK(result.code == code);
  CHECK(result.out.empty());
  CHECK(result.err.find("gemma-finetune: error: ") != std::string::npos);
  CHECK(result.err.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("a model from nothing: a folder that gemma-generate runs, records, and a second call that changes nothing") {
  const FinetuneFolder f;
  const auto args =
      f.full("out", {"--steps", "8", "--json", "--eval-data", f.data, "--manifest", f.file("manifest.json")});
  const Json record = json_record(finetune(args));
  CHECK(record["end"] == "finished");
  CHECK(record["steps"] == 8);
  CHECK(record["best_eval_loss"].get<double>() < record["first_eval_loss"].get<double>());
  CHECK(record["seed"] == 5);
  const auto lines = metrics(f.file("out"));
  CHECK(lines.size() == 10);  // 8 steps and 2 evaluations
  for (const char* key : {"loss", "lr", "grad_norm", "tokens", "tokens_per_s", "peak_rss_bytes"})
    CHECK(lines[1].contains(key));
  CHECK(lines.front().contains("eval_loss"));
  CHECK(entries_of(f.file("out"), "events.out.tfevents.").size() == 1);
  CHECK(entries_of(f.file("out"), "checkpoint-") == std::vector<std::string>{"checkpoint-8"});
  const Json manifest = base::read_json_file(f.file("manifest.json"));
  CHECK(manifest["exit_code"] == 0);
  CHECK(manifest["seeds"][0] == 5);
  CHECK(manifest["outputs"].size() >= 4);
  CHECK(generate({"--model", f.file("out"), "--raw", "-p", "count 3", "-n", "4"}).code == 0);

  const std::string weights = get_file(f.file("out/model.safetensors")),
                    records = get_file(f.file("out/metrics.jsonl"));
  const auto time = std::filesystem::last_write_time(f.file("out/model.safetensors"));
  CHECK(json_record(finetune(args))["end"] == "was_finished");
  CHECK(get_file(f.file("out/model.safetensors")) == weights);
  CHECK(std::filesystem::last_write_time(f.file("out/model.safetensors")) == time);
  CHECK(get_file(f.file("out/metrics.jsonl")) == records);
}

TEST_CASE("an adapter: trained, loaded, merged, gone on with") {
  const FinetuneFolder f;
  REQUIRE(finetune(f.full("base", {"--steps", "4"})).code == 0);
  const Json made = json_record(finetune(f.lora("base", "out", {"--steps", "6", "--json", "--merge", "--use-dora"})));
  CHECK(made["merged"] == f.file("out/merged"));
  const Json config = base::read_json_file(f.file("out/adapter_config.json"));
  CHECK(config["r"] == 2);
  CHECK(config["use_dora"] == true);
  CHECK(config["base_model_name_or_path"] == f.file("base"));
  CHECK(entries_of(f.file("out/checkpoint-6"), "adapter_") ==
        std::vector<std::string>{"adapter_config.json", "adapter_model.safetensors"});
  const auto score = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--raw", "--score", "--json", "-p", "count 3 hello hello"});
    return record(generate(more));
  };
  const Json adapted = score({"--model", f.file("base"), "--adapter", f.file("out")});
  const Json merged = score({"--model", f.file("out/merged")});
  const Json base = score({"--model", f.file("base")});
  CHECK(std::abs(adapted["perplexity"].get<double>() - merged["perplexity"].get<double>()) < 1e-3);
  CHECK(std::abs(adapted["perplexity"].get<double>() - base["perplexity"].get<double>()) > 1e-2);
  // Going on with it begins where it ended.
  auto more = f.lora("base", "more", {"--steps", "1", "--lr", "0", "--init-adapter", f.file("out")});
  for (const char* flag : {"--rank", "--alpha"}) {
    const auto at = std::find(more.begin(), more.end(), flag);
    more.erase(at, at + 2);
  }
  REQUIRE(finetune(more).code == 0);
  CHECK(get_file(f.file("more/adapter_model.safetensors")) == get_file(f.file("out/adapter_model.safetensors")));
}

TEST_CASE("resumed after every one of 20 steps, a run is the one that never stopped, bit for bit") {
  const FinetuneFolder f;
  const auto steps = [&](const char* folder, int n, std::vector<std::string> more = {}) {
    more.insert(more.end(), {"--steps", std::to_string(n), "--scheduler", "constant", "--ema", "0.9", "--keep", "30"});
    return finetune(f.full(folder, more));
  };
  REQUIRE(steps("whole", 20, {"--save-every", "1"}).code == 0);
  for (int n = 1; n <= 20; ++n) {
    CAPTURE(n);
    const Result r = steps("parts", n);
    CAPTURE(r.err);
    REQUIRE(r.code == 0);
    const std::string name = "/checkpoint-" + std::to_string(n);
    check_same_checkpoint(f.file("whole") + name, f.file("parts") + name);
  }
  CHECK(losses(f.file("whole")) == losses(f.file("parts")));
  CHECK(get_file(f.file("whole/model.safetensors")) == get_file(f.file("parts/model.safetensors")));
}

TEST_CASE("SIGTERM at any moment: exit 75 and a state that the same command goes on with, bit for bit") {
  const FinetuneFolder f;
  const auto args = [&](const std::string& folder) {
    return f.full(folder, {"--steps", "120", "--save-every", "7", "--eval-data", f.data, "--eval-every", "10"});
  };
  const Result whole = finetune(args("whole"));
  REQUIRE(whole.code == 0);
  const char* wanted = std::getenv("ATELIER_TEST_MOMENTS");  // 50 in a thorough run
  const int moments = wanted != nullptr ? std::atoi(wanted) : 5;
  int stopped = 0;
  for (int i = 0; i < moments; ++i) {
    CAPTURE(i);
    const std::string folder = "stopped" + std::to_string(i);
    const auto after = std::chrono::milliseconds(static_cast<int>(1000 * whole.seconds * (i + 0.5) / moments));
    const Result r = run({.program = tool("gemma-finetune"),
                          .args = args(folder),
                          .timeout = std::chrono::seconds(120),
                          .signal = i % 2 == 0 ? SIGTERM : SIGINT,
                          .signal_after = after});
    CAPTURE(r.err);
    // Before there was anything to resume: while libraries still load the system's own way of ending a program holds.
    const bool early = r.code == 130 || r.code == 143 || r.signal == SIGTERM || r.signal == SIGINT;
    CHECK((r.code == 75 || r.code == 0 || early));
    if (early) CHECK(entries_of(f.file(folder), "checkpoint-").empty());
    if (r.code == 75) {
      ++stopped;
      CHECK(entries_of(f.file(folder), "checkpoint-").size() >= 1);
      CHECK_FALSE(std::filesystem::exists(f.file(folder + "/config.json")));
    }
    REQUIRE(finetune(args(folder)).code == 0);
    check_same_checkpoint(f.file("whole/checkpoint-120"), f.file(folder + "/checkpoint-120"));
    CHECK(get_file(f.file("whole/model.safetensors")) == get_file(f.file(folder + "/model.safetensors")));
    std::filesystem::remove_all(f.file(folder));
  }
  CHECK(stopped > 0);
}

TEST_CASE("batch 4 and batch 1 with 4 accumulated give the same losses within 1e-5") {
  const FinetuneFolder f;
  const auto run_with = [&](const char* folder, const char* batch, const char* accumulated) {
    auto args = f.full(folder, {"--epochs", "3"});
    for (std::size_t i = 0; i + 1 < args.size(); ++i) {
      if (args[i] == "--batch-size") args[i + 1] = batch;
      if (args[i] == "--grad-accum") args[i + 1] = accumulated;
    }
    REQUIRE(finetune(args).code == 0);
    return losses(f.file(folder));
  };
  const auto together = run_with("together", "4", "1"), one_by_one = run_with("single", "1", "4");
  REQUIRE(together.size() == 12);  // 14 rows: 4 steps an epoch
  REQUIRE(one_by_one.size() == together.size());
  for (std::size_t i = 0; i < together.size(); ++i) CHECK(std::abs(together[i] - one_by_one[i]) < 1e-5);
}

TEST_CASE("no improvement: exit 4, no output, and the same again; --best writes the best one") {
  const FinetuneFolder f;
  const std::vector<std::string> worse{
      "--steps", "4", "--lr", "0", "--eval-data", f.data, "--eval-every", "1", "--require-improvement"};
  for (int i = 0; i < 2; ++i) {
    check_refused(finetune(f.full("out", worse)), 4, "no evaluation was better");
    CHECK_FALSE(std::filesystem::exists(f.file("out/config.json")));
    CHECK_FALSE(std::filesystem::exists(f.file("out/model.safetensors")));
    CHECK(entries_of(f.file("out"), "checkpoint-").size() == 1);
  }
  const Json best = json_record(finetune(f.full("best", {"--steps", "40", "--lr", "0.3", "--eval-data", f.data,
                                                         "--eval-every", "1", "--early-stop", "3", "--json"})));
  CHECK(best["written_step"] == best["best_step"]);
  CHECK(best["steps"].get<int>() <= 40);
}

TEST_CASE("a loss that is not finite ends the run with exit 4, the last good state kept") {
  const FinetuneFolder f;
  const Result r = finetune(f.full(
      "out", {"--steps", "30", "--lr", "1e3", "--max-grad-norm", "0", "--optimizer", "sgd", "--save-every", "1"}));
  check_refused(r, 4, "not finite");
  CHECK(r.err.find("the last good state is in") != std::string::npos);
  CHECK(entries_of(f.file("out"), "checkpoint-").size() == 1);
  CHECK_FALSE(std::filesystem::exists(f.file("out/config.json")));
}

TEST_CASE("a folder with another run is refused, unless --overwrite") {
  const FinetuneFolder f;
  REQUIRE(finetune(f.full("out", {"--steps", "3"})).code == 0);
  check_refused(finetune(f.full("out", {"--steps", "3", "--max-grad-norm", "2"})), 64, "max_grad_norm");
  check_refused(finetune(f.full("out", {"--steps", "3", "--resume", "never"})), 73, "holds another run");
  check_refused(finetune(f.lora("out", "out", {"--steps", "3"})), 73, "what the run begins with");
  const Result replaced = finetune(f.full("out", {"--steps", "2", "--max-grad-norm", "2", "--overwrite"}));
  CHECK(replaced.code == 0);
  CHECK(entries_of(f.file("out"), "checkpoint-") == std::vector<std::string>{"checkpoint-2"});
  std::filesystem::create_directory(f.file("foreign"));
  f.folder.write("foreign/config.json", "{}");
  check_refused(finetune(f.full("foreign", {"--steps", "2"})), 73, "of another run");
  // A checkpoint elsewhere can be gone on with.
  REQUIRE(
      finetune(f.full("on", {"--steps", "3", "--max-grad-norm", "2", "--resume", f.file("out/checkpoint-2")})).code ==
      0);
  CHECK(entries_of(f.file("on"), "checkpoint-") == std::vector<std::string>{"checkpoint-3"});
}

TEST_CASE("without --seed one is drawn, and the same command goes on with it") {
  const FinetuneFolder f;
  auto args = f.full("out", {"--steps", "3", "--json"});
  const auto seed = std::find(args.begin(), args.end(), "--seed");
  args.erase(seed, seed + 2);
  const Json first = json_record(finetune(args)), second = json_record(finetune(args));
  CHECK(second["end"] == "was_finished");
  CHECK(second["seed"] == first["seed"]);
}

TEST_CASE("a full disk: exit 74, no output, and room again finishes the run") {
  const FinetuneFolder f;
  for (const std::uint64_t limit : {300u, 5000u, 60000u}) {
    CAPTURE(limit);
    const std::string folder = "out" + std::to_string(limit);
    const Result r = run({.program = tool("gemma-finetune"),
                          .args = f.full(folder, {"--steps", "4", "--save-every", "1"}),
                          .timeout = std::chrono::seconds(60),
                          .max_file = limit});
    CAPTURE(r.err);
    CHECK(r.code == 74);
    CHECK_FALSE(std::filesystem::exists(f.file(folder + "/config.json")));
    CHECK(entries_of(f.file(folder), ".").empty());
    CHECK(finetune(f.full(folder, {"--steps", "4", "--save-every", "1"})).code == 0);
  }
}

TEST_CASE("--check reports on the data and needs no output") {
  const FinetuneFolder f;
  const Json report = json_record(finetune({"--model", f.file("model"), "--data", f.data, "--check", "--json"}));
  CHECK(report["kind"] == "prompt/completion");
  CHECK(report["rows"] == 14);
  CHECK(report["end_of_texts"] == 14);
  CHECK(report["supervised_share"].get<double>() > 0.1);
  const Result text = finetune({"--model", f.file("model"), "--data", f.data, "--check"});
  CHECK(text.code == 0);
  CHECK(text.out.find("14 prompt/completion rows") != std::string::npos);
}

TEST_CASE("bad rows: exit 65 with the line, before a model is loaded") {
  const FinetuneFolder f;
  const std::string good = "{\"prompt\":\"a\",\"completion\":\"b\"}\n";
  const std::pair<std::string, std::string> cases[] = {
      {good + "{\"text\":\"a\"}\n", "line 2: a text row"},
      {good + "\n{\"prompt\":\"a\",\"completion\":\"\"}\n", "line 3: \"completion\" is empty"},
      {"{\"prompt\":\"a\xc3\",\"completion\":\"b\"}\n", "line 1: not valid UTF-8"},
      {"{\"prompt\":\"a\",\"prompt\":\"a\",\"completion\":\"b\"}\n", "line 1"},
      {good + "{\"prompt\"", "line 2"},
      {"", "no rows"},
  };
  for (const auto& [rows, part] : cases) {
    const std::string data = f.folder.write("bad.jsonl", rows);
    for (const bool check : {true, false}) {
      std::vector<std::string> args{"--model", f.file("model"), "--data", data, check ? "--check" : "--json"};
      if (!check) args.insert(args.end(), {"--output", f.file("out"), "--init", "random", "--method", "full"});
      check_refused(finetune(args), 65, part);
      CHECK(entries_of(f.file("out")).empty());
    }
  }
  check_refused(finetune(f.full("out", {"--max-seq-len", "4", "--on-long", "error"})), 65, "--max-seq-len is 4");
  const Result cut = finetune(f.full("out", {"--steps", "1", "--max-seq-len", "9"}));
  CHECK(cut.code == 0);
  CHECK(cut.err.find("have more than 9 tokens and are cut") != std::string::npos);
}

TEST_CASE("wrong flags: 64 and the flag") {
  const FinetuneFolder f;
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{}, "--data is missing"},
      {{"--data", f.data}, "--output is missing"},
      {{"--data", f.data, "--output", "x", "--init", "random"}, "--init random needs --method full"},
      {{"--data", f.data, "--output", "x", "--method", "full", "--rank", "4"}, "--rank does not go with --method full"},
      {{"--data", f.data, "--output", "x", "--require-improvement"}, "--require-improvement needs --eval-data"},
      {{"--data", f.data, "--output", "x", "--early-stop", "2"}, "--early-stop needs --eval-data"},
      {{"--data", f.data, "--output", "x", "--rank", "0"}, "--rank"},
      {{"--data", f.data, "--output", "x", "--optimizer", "adamm"}, "--optimizer"},
      {{"--data", f.data, "--output", "x", "--rank-pattern", "q_proj"}, "--rank-pattern"},
      {{"--data", f.data, "--output", "x", "--precision", "fp16"}, "fp16"},
      {{"--data", f.data, "--output", "x", "--target-modules", "query"}, "the model has no such module"},
      {{"--data", f.data, "--output", "x", "--target-modules", "q_proj", "--rank-pattern", "(=3"}, "rank_pattern"},
      {{"--data", f.data, "--output", "x", "--steps", "3", "--epochs", "2"}, "--epochs"},
  };
  for (const auto& [args, part] : cases) {
    const Result r = finetune(args);
    CAPTURE(r.err);
    CHECK((r.code == 64 || (part == "fp16" && r.code == 69)));
    CHECK(r.err.find(part) != std::string::npos);
  }
  CHECK(finetune({"--data", f.file("none"), "--output", f.file("x")}).code == 66);
}

TEST_CASE("--plan loads nothing and --max-ram refuses") {
  const FinetuneFolder f;
  const Json plan = json_record(finetune({"--plan", "--data", f.data, "--method", "lora"}));
  CHECK(plan["bytes"]["optimizer"].get<std::int64_t>() > 0);
  CHECK(plan["missing"].empty());
  CHECK(finetune({"--plan", "--data", f.data, "--max-ram", "1M"}).code == 71);
  check_refused(finetune({"--data", f.data, "--output", f.file("x"), "--max-ram", "1M"}), 71, "--max-ram");
}

TEST_CASE("sample prompts are answered at every evaluation") {
  const FinetuneFolder f;
  const std::string prompts = f.folder.write("prompts.txt", "count 3\n{\"prompt\":\"count 4\"}\n\n");
  REQUIRE(finetune(
              f.full("out", {"--steps", "4", "--eval-every", "2", "--sample-prompts", prompts, "--sample-tokens", "3"}))
              .code == 0);
  CHECK(entries_of(f.file("out/samples")) == std::vector<std::string>{"step-0.jsonl", "step-2.jsonl", "step-4.jsonl"});
  const auto lines = lines_of(get_file(f.file("out/samples/step-4.jsonl")));
  REQUIRE(lines.size() == 2);
  CHECK(base::parse_json(lines[1], "sample")["prompt"] == "count 4");
}

TEST_CASE("packing, checkpointing and bf16 train, too") {
  const FinetuneFolder f;
  REQUIRE(finetune(f.full("plain", {"--steps", "4"})).code == 0);
  REQUIRE(finetune(f.full("recomputed", {"--steps", "4", "--grad-checkpointing"})).code == 0);
  CHECK(get_file(f.file("plain/model.safetensors")) == get_file(f.file("recomputed/model.safetensors")));
  for (const std::vector<std::string>& more : {std::vector<std::string>{"--packing", "--max-seq-len", "40"},
                                               {"--group-by-length"},
                                               {"--precision", "bf16"},
                                               {"--no-shuffle"},
                                               {"--optimizer", "adamw8bit", "--scheduler", "wsd"},
                                               {"--optimizer", "adafactor", "--scheduler", "inverse_sqrt"}}) {
    const std::string folder = "out" + more[0] + more.back();
    auto args = f.full(folder, more);
    args.insert(args.end(), {"--steps", "6"});
    const Result r = finetune(args);
    CAPTURE(r.err);
    CHECK(r.code == 0);
    const auto found = losses(f.file(folder));
    REQUIRE(found.size() == 6);
    CHECK(found.back() < found.front());
  }
}

TEST_CASE("every method trains the shipped model a little") {
  const FinetuneFolder f;
  for (const std::string method : {"lora", "dora", "qlora"}) {
    CAPTURE(method);
    const Json record = json_record(finetune({"--data",
                                              f.data,
                                              "--output",
                                              f.file(method),
                                              "--method",
                                              method,
                                              "--rank",
                                              "4",
                                              "--steps",
                                              "12",
                                              "--batch-size",
                                              "4",
                                              "--lr",
                                              "3e-3",
                                              "--warmup",
                                              "0",
                                              "--seed",
                                              "1",
                                              "--json",
                                              "--quiet",
                                              "--grad-checkpointing",
                                              "--dropout",
                                              "0.1"}));
    CHECK(record["steps"] == 12);
    const auto found = losses(f.file(method));
    CHECK(found.back() < found.front());
    CHECK(generate({"--adapter", f.file(method), "-p", "count 3", "-n", "2", "--quiet"}).code == 0);
  }
}
