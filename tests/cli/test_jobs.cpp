// JSON Lines jobs and the records they leave.
#include <doctest/doctest.h>
#include <csignal>
#include <fstream>

#include "base/json.h"
#include "base/stop.h"
#include "cli/common.h"
#include "cli/jobs.h"
#include "support/process.h"

using namespace atelier::test;
using atelier::base::Error;
using atelier::base::ExitCode;
using atelier::base::Json;
namespace base = atelier::base;
namespace cli = atelier::cli;

namespace {

struct Options {
  std::string prompt = "default";
  int max_tokens = 256;
  double temperature = 1;
  bool chat = false;
  std::vector<std::string> stops = {"S"};
  std::optional<std::uint64_t> seed;
  std::string schema, required;
};

void define_flags(CLI::App& app, Options& o) {
  app.add_option("-p,--prompt", o.prompt);
  app.add_option("--max-tokens", o.max_tokens)->check(cli::whole_in_range(0, 1000));
  app.add_option("--temperature", o.temperature)->check(cli::in_range(0, 2));
  app.add_flag("--chat", o.chat);
  cli::add_list(app, "--stop", o.stops, "");
  app.add_option("--seed", o.seed);
  app.add_option("--json-schema", o.schema);
  app.add_option("--required", o.required)->required();
  app.add_option("--batch-size", o.max_tokens);
}

Options apply(const std::string& json, const Options& defaults = {}) {
  return cli::job_options(defaults, define_flags, Json::parse(json),
                          {.whole_run = {"batch-size"}, .json = {"json-schema"}});
}

void check_refused(const std::string& json, const std::string& message, const std::string& hint = "") {
  INFO(json);
  try {
    apply(json);
    FAIL("was accepted");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::usage);
    CHECK(error.what() == message);
    CHECK(error.hint() == hint);
  }
}

std::vector<cli::Job> read_all(const std::string& text, std::size_t max_line = cli::JobReader::kMaxLine) {
  TempFolder folder;
  cli::JobReader reader(folder.write("jobs", text), max_line);
  std::vector<cli::Job> jobs;
  while (auto job = reader.next()) jobs.push_back(std::move(*job));
  return jobs;
}

Result batch(std::vector<std::string> args, Process rest = {}) {
  rest.program = tool("cli-test-tool");
  rest.args = std::move(args);
  return run(rest);
}

}  // namespace

TEST_CASE("a job's fields replace the defaults, and only those") {
  const Options none = apply("{}");
  CHECK(none.prompt == "default");
  CHECK(none.stops == std::vector<std::string>{"S"});
  const Options all = apply(
      R"({"prompt":"-x","max_tokens":7,"temperature":1e-1,"chat":true,"stop":["[a]","","{}"],"seed":18446744073709551615})");
  CHECK(all.prompt == "-x");
  CHECK(all.max_tokens == 7);
  CHECK(all.temperature == 0.1);
  CHECK(all.chat);
  CHECK(all.stops == std::vector<std::string>{"[a]", "", "{}"});
  CHECK(all.seed == 18446744073709551615ull);
  CHECK(apply(R"({"prompt":null,"stop":null})").prompt == "default");
  CHECK(apply(R"({"stop":[]})").stops.empty());
  CHECK(apply(R"({"stop":"one"})").stops == std::vector<std::string>{"one"});
  CHECK(apply(R"({"prompt":""})").prompt.empty());
  CHECK(apply("{\"prompt\":\"a\\u0000b\"}").prompt == std::string("a\0b", 3));
  CHECK(apply(R"({"max_tokens":"010"})").max_tokens == 10);
  Options chatting;
  chatting.chat = true;
  CHECK_FALSE(apply(R"({"chat":false})", chatting).chat);
  CHECK(apply("{}", chatting).chat);
  CHECK(apply(R"({"json_schema":{"type":"object","a":[1]}})").schema == R"({"type":"object","a":[1]})");
}

TEST_CASE("a job's wrong keys and values are named") {
  check_refused(R"({"promt":"x"})", "unknown key \"promt\"", "did you mean \"prompt\"?");
  check_refused(R"({"max-tokens":1})", "unknown key \"max-tokens\"", "did you mean \"max_tokens\"?");
  check_refused(R"({"":1})", "unknown key \"\"");
  check_refused(R"({"p":1})", "unknown key \"p\"", "did you mean \"prompt\"?");
  for (const char* key : {"model", "device", "dtype", "threads", "config", "jobs", "json", "manifest", "plan",
                          "max_ram", "quiet", "verbose", "progress", "resume", "batch_size", "version", "help"}) {
    check_refused("{\"" + std::string(key) + "\":1}", "\"" + std::string(key) + "\" cannot be set per job",
                  "give it on the command line");
  }
  check_refused(R"({"prompt":true})", "\"prompt\" must be a text or a number, not true or false");
  check_refused(R"({"prompt":{"a":1}})", "\"prompt\" must be a text or a number, not object");
  check_refused(R"({"prompt":["a"]})", "\"prompt\" takes one value, not an array");
  check_refused(R"({"stop":[["a"]]})", "\"stop\" must be a text or a number, not array");
  check_refused(R"({"chat":"yes"})", "\"chat\" must be true or false");
  check_refused(R"({"chat":1})", "\"chat\" must be true or false");
  check_refused(R"({"max_tokens":1001})", "--max-tokens: 1001 is not between 0 and 1000");
  check_refused(R"({"max_tokens":1.5})", "--max-tokens: \"1.5\" is not a whole number");
  check_refused(R"({"temperature":-1})", "--temperature: -1 is not between 0 and 2");
  check_refused(R"({"seed":-1})", "--seed: -1 is negative");
}

TEST_CASE("lines become jobs; bad ones are told apart from good ones") {
  const auto jobs = read_all(
      "\xEF\xBB\xBF{\"id\":\"a\",\"prompt\":\"x\"}\r\n\n   \n{\"prompt\":\"y\"}\n{\"id\":-3}\nnot "
      "json\n[1]\n{\"id\":1.5}\n{\"id\":null}\n"
      "{\"a\":1,\"a\":2}\n{\"id\":\"last\"}");
  REQUIRE(jobs.size() == 9);
  CHECK(jobs[0].id == "a");
  CHECK(jobs[0].fields == Json({{"prompt", "x"}}));
  CHECK(jobs[1].id == 4);
  CHECK(jobs[1].line == 4);
  CHECK(jobs[2].id == -3);
  for (const std::size_t i : {3u, 4u, 5u, 6u, 7u}) {
    REQUIRE(jobs[i].error.has_value());
    CHECK(jobs[i].error->code() == ExitCode::data);
    CHECK(std::string(jobs[i].error->what()).find("line " + std::to_string(i + 3)) == 0);
    CHECK(jobs[i].id == i + 3);
  }
  CHECK(jobs[8].id == "last");
  CHECK_FALSE(jobs[8].error.has_value());
  CHECK(read_all("").empty());
  CHECK(read_all("\n\n").empty());
}

TEST_CASE("a line that is too long is one error, and the next line is read") {
  const auto jobs =
      read_all("{\"prompt\":\"" + std::string(200000, 'x') + "\"}\n{\"id\":2}\n" + std::string(300000, 'y'), 100000);
  REQUIRE(jobs.size() == 3);
  CHECK(std::string(jobs[0].error->what()) == "line 1: longer than 100000 bytes");
  CHECK_FALSE(jobs[1].error.has_value());
  CHECK(jobs[2].error.has_value());
  CHECK(read_all(std::string(512000, '['))[0].error.has_value());
}

TEST_CASE("no random bytes crash the reader") {
  std::uint64_t state = 3;
  const std::string alphabet = "{}[]\",:1eE-.tfn\\u\n\r \xff\xc3\xa9";
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (int k = 0; k < 200; ++k) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      text += alphabet[(state >> 33) % alphabet.size()];
    }
    for (const auto& job : read_all(text)) CHECK((job.error.has_value() || job.fields.is_object()));
  }
}

TEST_CASE("missing files of jobs") {
  for (const char* path : {"/no/such/file", "/tmp"}) {
    try {
      cli::JobReader reader(path);
      FAIL("was opened");
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::no_input);
    }
  }
}

TEST_CASE("a batch: records in input order, bad lines among them, exit code 3") {
  const Result r =
      batch({"--jobs", "-", "--seed", "5", "-n", "9", "--quiet"},
            {.program = "",
             .input = "{\"id\":\"a\",\"prompt\":\"x\",\"max_tokens\":3}\nbroken\n{\"prompt\":\"y\",\"seed\":6}\n"
                      "{\"id\":7,\"promt\":\"z\"}\n{\"id\":8,\"fault\":\"data\"}\n{\"id\":9,\"model\":\"m\"}\n"});
  CHECK(r.code == 3);
  const auto lines = r.out_lines();
  REQUIRE(lines.size() == 6);
  CHECK(lines[0] == R"({"id":"a","index":0,"prompt":"x","max_tokens":3,"stops":[],"seed":5,"chat":false})");
  const Json second = Json::parse(lines[1]);
  CHECK(second["id"] == 2);
  CHECK(second["code"] == 65);
  CHECK(second["error"].get<std::string>().find("line 2") == 0);
  CHECK(lines[2] == R"({"id":3,"index":0,"prompt":"y","max_tokens":9,"stops":[],"seed":6,"chat":false})");
  CHECK(lines[3] == R"x({"id":7,"error":"unknown key \"promt\" (did you mean \"prompt\"?)","code":64})x");
  CHECK(Json::parse(lines[4])["code"] == 65);
  CHECK(lines[5] == R"x({"id":9,"error":"\"model\" cannot be set per job (give it on the command line)","code":64})x");
  CHECK(batch({"--jobs", "-", "--quiet"}).code == 0);
  CHECK(batch({"--jobs", "/no/such/file", "--quiet"}).code == 66);
}
