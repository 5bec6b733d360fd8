// gemma-generate in scripts: jobs, resuming, plans, manifests, pipes, signals, little memory.
#include <csignal>

#include "tools/generate.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

std::string jobs_of(int n) {
  std::string jobs;
  for (int i = 0; i < n; ++i)
    jobs += Json{{"id", "job-" + std::to_string(i)}, {"prompt", "Question " + std::to_string(i)}}.dump() + "\n";
  return jobs;
}

/// Records without their timings.
std::vector<Json> settled(std::vector<Json> all) {
  for (Json& record : all) record.erase("timings");
  return all;
}

std::vector<Json> records_of(const std::string& text) {
  Result result;
  result.out = text;
  return records(result);
}

}  // namespace

TEST_CASE("bad lines become error records, the rest goes on, in order, exit 3") {
  const std::string jobs =
      "{\"id\":\"a\",\"prompt\":\"Hello\"}\n"
      "not json\n"
      "{\"id\":\"b\",\"prompt\":\"\"}\n"
      "{\"id\":\"c\",\"prompt\":\"Hi\",\"temperature\":-1}\n"
      "{\"id\":\"d\",\"prompt\":\"Hi\",\"tempreature\":1}\n"
      "{\"id\":\"e\",\"prompt\":\"Hi\",\"model\":\"other\"}\n"
      "{\"id\":\"f\"}\n"
      "{\"id\":\"g\",\"file\":\"/nonexistent\"}\n"
      "{\"id\":\"h\",\"prompt\":\"Hello\",\"seed\":3,\"temperature\":0}\n";
  const Result result = generate({"--jobs", "-", "-n", "4"}, jobs);
  CHECK(result.code == 3);
  const auto all = records(result);
  REQUIRE(all.size() == 9);
  const std::string ids = "abcdefgh";
  CHECK(all[0]["id"] == "a");
  CHECK(all[0].contains("text"));
  for (const std::size_t i : {1, 2, 3, 4, 5, 6, 7}) {
    CAPTURE(i);
    CHECK(all[i].contains("error"));
    if (i > 1) CHECK(all[i]["id"] == std::string(1, ids[i - 1]));
  }
  CHECK(all[1]["id"] == 2);  // its line
  CHECK(all[4]["error"].get<std::string>().find("temperature") != std::string::npos);
  CHECK(all[8]["seed"] == 3);
}

TEST_CASE("resume: an output file is completed, what is there is not computed again") {
  const TempFolder folder;
  const std::string out = folder.file("out.jsonl"), ten = folder.write("ten.jsonl", jobs_of(10));
  const std::string four = folder.write("four.jsonl", jobs_of(4));
  CHECK(generate({"--jobs", ten, "-o", folder.file("whole.jsonl"), "--seed", "5", "-n", "6"}).code == 0);
  CHECK(generate({"--jobs", four, "-o", out, "--seed", "5", "-n", "6"}).code == 0);
  const auto first = records_of(folder.read("out.jsonl"));
  CHECK(generate({"--jobs", ten, "-o", out, "--resume", "--seed", "5", "-n", "6"}).code == 0);
  const auto all = records_of(folder.read("out.jsonl"));
  CHECK(settled(all) == settled(records_of(folder.read("whole.jsonl"))));
  for (std::size_t i = 0; i < 4; ++i) CHECK(all[i]["timings"] == first[i]["timings"]);  // not computed again
  CHECK(folder.entries() == std::vector<std::string>{"four.jsonl", "out.jsonl", "ten.jsonl", "whole.jsonl"});
}

TEST_CASE("a stopped batch keeps its records, says 75, and goes on") {
  const TempFolder folder;
  const std::string jobs = folder.write("jobs.jsonl", jobs_of(200)), out = folder.file("out.jsonl");
  // Nearly uniform draws, so that no reply ends early: the batch takes several seconds on the fastest machine.
  const std::vector<std::string> args = {"--jobs",  jobs, "-o",           out, "--resume", "--seed",        "9",
                                         "-n",      "80", "--batch-size", "2", "--raw",    "--temperature", "9",
                                         "--top-k", "0",  "--top-p",      "1"};
  const Process process{.program = tool("gemma-generate"),
                        .args = args,
                        .timeout = std::chrono::minutes(2),
                        .signal = SIGTERM,
                        .signal_after = std::chrono::milliseconds(2500)};
  CHECK(run(process).code == 75);
  CHECK_FALSE(std::filesystem::exists(out));
  const auto partial = folder.read("out.jsonl.partial");
  CHECK(!partial.empty());
  CHECK(partial.ends_with("\n"));
  CHECK(run({.program = tool("gemma-generate"), .args = args, .timeout = std::chrono::minutes(3)}).code == 0);
  CHECK(records_of(folder.read("out.jsonl")).size() == 200);
  CHECK_FALSE(std::filesystem::exists(out + ".partial"));
}

TEST_CASE("a signal without anything to resume: 130 and 143") {
  for (const int signal : {SIGINT, SIGTERM}) {
    const Result result = run({.program = tool("gemma-generate"),
                               .args = {"-p", "Tell me", "--raw", "-n", "100000", "--count", "5000"},
                               .signal = signal,
                               .signal_after = std::chrono::milliseconds(1200)});
    CHECK(result.code == 128 + signal);
    CHECK(result.seconds < 10);
  }
}

TEST_CASE("--plan reads headers only and says what a run needs; --max-ram holds it to that") {
  const Result plan = generate({"--plan", "-p", "Hello"});
  CHECK(plan.code == 0);
  const Json json = record(plan);
  CHECK(json["model"]["family"] == "gemma2");
  CHECK(json["model"]["parameters"].get<std::int64_t>() > 1000000);
  CHECK(json["missing"].empty());
  CHECK(json["unused"].empty());
  CHECK(json["fits"] == true);
  CHECK(json["bytes"]["total"] == json["bytes"]["weights"].get<std::int64_t>() +
                                      json["bytes"]["cache"].get<std::int64_t>() +
                                      json["bytes"]["activations"].get<std::int64_t>());
  const Result over = generate({"--plan", "-p", "Hello", "--max-ram", "1M"});
  CHECK(over.code == 71);
  CHECK(records(over)[0]["fits"] == false);
  check_failure(generate({"-p", "Hello", "--max-ram", "1M"}), 71, "--max-ram");
  CHECK(generate({"-p", "Hello", "--max-ram", "4G"}).code == 0);
}

TEST_CASE("the manifest says what ran") {
  const TempFolder folder;
  const std::string path = folder.file("manifest.json"), out = folder.file("text.txt");
  CHECK(generate({"-p", "Hello", "--seed", "8", "--count", "2", "--manifest", path, "-o", out}).code == 0);
  const Json json = base::read_json_file(path);
  CHECK(json["tool"] == "gemma-generate");
  CHECK(json["seeds"] == Json({8, 9}));
  CHECK(json["exit_code"] == 0);
  CHECK(json["device"] == "cpu");
  CHECK(json["outputs"][0]["sha256"].get<std::string>().size() == 64);
  CHECK(json["model"]["files"].size() >= 3);
  CHECK(json["options"]["temperature"] == 1);
  CHECK(json["peak_rss_bytes"].get<std::int64_t>() > 0);
  CHECK(generate({"-p", "", "--manifest", path}).code == 65);
  CHECK(base::read_json_file(path)["exit_code"] == 65);
}

TEST_CASE("options from a TOML file; flags win") {
  const TempFolder folder;
  const std::string config =
      folder.write("options.toml", "prompt = \"Hello\"\nseed = 4\nmax-tokens = 3\ntemperature = 0.5\n");
  const Json made = record(generate({"--config", config, "--json", "--seed", "6"}));
  CHECK(made["seed"] == 6);
  CHECK(made["token_ids"].size() <= 3);
  check_failure(generate({"--config", folder.write("bad.toml", "sede = 4\n"), "-p", "x"}), 64, "sede");
}

TEST_CASE("pipes: closed stdin, a reader that leaves, /dev/null, a full disk") {
  const std::string program = tool("gemma-generate");
  const Result closed = run({.program = program, .in = Wire::closed});
  CHECK((closed.code == 65 || closed.code == 66));
  const Result null = run({.program = program, .in = Wire::null});
  CHECK(null.code == 65);
  const Result left =
      run({.program = program, .args = {"-p", "Hello", "--count", "50", "--raw", "-n", "50"}, .close_out_after = 1});
  CHECK((left.signal == SIGPIPE || left.code == 0));
  const Result ignored = run({.program = program,
                              .args = {"-p", "Hello", "--raw", "-n", "200", "--temperature", "3"},
                              .ignore_sigpipe = true,
                              .close_out_after = 1});
  CHECK((ignored.code == 74 || ignored.code == 0));
  const Result full = run({.program = program, .args = {"-p", "Hello"}, .out = Wire::full});
  CHECK(full.code == 74);
  CHECK(full.err.find("gemma-generate: error: ") != std::string::npos);
  check_failure(generate({"-p", "Hello", "-o", "/nonexistent/out.txt"}), 73, "/nonexistent");
  check_failure(generate({"-p", "Hello", "-o", "/dev/full"}), 74, "/dev/full");
}
