// A small tool over lib/cli, driven by tests/cli as a process: what every executable of the project has in common.
#include <cstdio>
#include <iostream>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include <unistd.h>

#include "base/log.h"
#include "base/stop.h"
#include "cli/common.h"
#include "cli/default_model.h"
#include "cli/jobs.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/preset_option.h"
#include "cli/records.h"
#include "cli/validators.h"

using atelier::base::Json;
namespace base = atelier::base;
namespace cli = atelier::cli;

namespace {

struct Options {
  cli::CommonOptions common;
  std::string prompt, output, fault, schema;
  int max_tokens = 256, delay = 0, count = 1;
  double temperature = 1;
  bool chat = false, raw = false, no_stream = false;
  std::vector<std::string> stops;
};

void define_flags(CLI::App& app, Options& o) {
  app.add_option("-p,--prompt", o.prompt, "Text to go on from")->group("Text");
  app.add_option("-n,--max-tokens", o.max_tokens, "Most tokens to generate")
      ->check(cli::whole_in_range(0, 1000000))
      ->group("Text");
  app.add_option("--count", o.count, "Candidates")->group("Text");
  app.add_option("--temperature", o.temperature, "Spread of the choice; 0 is greedy")
      ->check(cli::in_range(0, 100))
      ->group("Text");
  app.add_flag("--raw", o.raw, "No template")
      ->group("Text")
      ->excludes(app.add_flag("--chat", o.chat, "Template")->group("Text"));
  app.add_flag("--no-stream", o.no_stream, "Wait for the end")->group("Text");
  cli::add_list(app, "--stop", o.stops, "Stop text")->group("Text");
  app.add_option("--schema", o.schema, "JSON text")->group("Text");
  app.add_option("-o,--output", o.output, "Write records here")->type_name("FILE")->group("Text");
  app.add_option("--delay", o.delay, "Milliseconds a job takes")->group("Text");
  app.add_option("--fault", o.fault, "What goes wrong")->group("Text");
  cli::add_common_options(app, o.common, "test-tool -p \"Once upon a time\"");
}

[[noreturn]] void fault(const std::string& kind) {
  if (kind == "data")
    throw base::Error(base::ExitCode::data, "model.safetensors: tensor \"x\"\x1b[31m ends early", "download it again");
  if (kind == "bad_alloc") throw std::bad_alloc();
  if (kind == "torch")
    throw std::runtime_error(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 8000000000 bytes. Error code 12 (Cannot allocate memory)\nframe #0: x");
  if (kind == "bug") throw std::logic_error("index out of range\nframe #0: secret");
  if (kind == "int") throw 42;
  if (kind == "stop") base::request_stop(15), base::throw_if_stopped();
  throw base::Error(base::ExitCode::unavailable, "no such fault");
}

void wait(int milliseconds) {
  for (int i = 0; i < milliseconds; ++i) {
    base::throw_if_stopped();
    usleep(1000);
  }
}

int run_jobs(const Options& defaults) {
  cli::Output output;
  cli::RecordWriter writer(output, defaults.output, defaults.common.resume);
  try {
    cli::JobReader reader(defaults.common.jobs);
    while (const auto job = reader.next()) {
      const auto place = writer.reserve();
      try {
        if (job->error) throw *job->error;
        const Options o =
            cli::job_options(defaults, define_flags, job->fields, {.whole_run = {"output"}, .json = {"schema"}});
        if (writer.done(job->id, static_cast<std::size_t>(o.count))) {
          writer.skip(place, job->id);
          continue;
        }
        if (!o.fault.empty()) fault(o.fault);
        wait(o.delay);
        std::vector<Json> records;
        for (int i = 0; i < o.count; ++i) {
          Json record = {
              {"id", job->id}, {"index", i}, {"prompt", o.prompt}, {"max_tokens", o.max_tokens}, {"stops", o.stops}};
          if (!o.schema.empty()) record["schema"] = o.schema;
          if (o.common.seed) record["seed"] = *o.common.seed;
          record["chat"] = o.chat;
          records.push_back(std::move(record));
        }
        writer.put(place, records);
      } catch (const base::Stopped&) {
        throw;
      } catch (const base::Error& error) {
        writer.fail(place, job->id, cli::describe_failure(error));
      }
    }
    return writer.finish();
  } catch (const base::Stopped&) {
    writer.stop();
  }
}

int run_once(Options& o) {
  auto& record = *o.common.record;
  record.device = "cpu";
  record.timings["load_s"] = 0.5;
  record.seeds = {o.common.seed.value_or(7)};
  record.options["seed"] = record.seeds[0];
  if (!o.common.model.empty()) record.model_path = o.common.model, record.model_files = {o.common.model};
  if (o.prompt == "default-model") {
    std::cout << cli::model_or_default("") << "\n";
    return 0;
  }
  if (o.common.plan || o.common.max_ram_bytes()) {
    const cli::Plan plan{.family = "gemma2",
                         .files = {"m.safetensors"},
                         .tensors = 3,
                         .parameters = 12,
                         .missing = {},
                         .unused = {"u"},
                         .weights = 4ull << 30,
                         .cache = 1ull << 30,
                         .activations = 900ull << 20,
                         .max_ram = o.common.max_ram_bytes()};
    if (o.common.plan) {
      cli::Output().record(cli::plan_json(plan));
      return cli::plan_exit_code(plan);
    }
    cli::require_fit(plan);
  }
  base::log_info("info line");
  base::log_verbose("verbose line");
  wait(o.delay);
  if (!o.fault.empty()) fault(o.fault);
  if (o.common.json) {
    cli::Output().record({{"prompt", o.prompt},
                          {"max_tokens", o.max_tokens},
                          {"temperature", o.temperature},
                          {"stops", o.stops},
                          {"chat", o.chat},
                          {"no_stream", o.no_stream},
                          {"threads", o.common.threads},
                          {"device", o.common.device}});
  } else if (o.prompt.starts_with("repeat:")) {
    cli::Output out;
    for (int i = 0; i < o.max_tokens; ++i) out.write(o.prompt.substr(7) + "\n");
  } else if (o.prompt.starts_with("stdio:")) {
    std::printf("%s\n", o.prompt.c_str() + 6);
  } else {
    cli::Output out;
    for (const char c : o.prompt) out.text({&c, 1});
    out.end_text();
    out.write("\n");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return cli::run_main(argc, argv, "test-tool", "Echoes what it is told, as the tests want it.", [](CLI::App& app) {
    auto options = std::make_shared<Options>();
    define_flags(app, *options);
    cli::add_preset_option(app);
    return [options] { return options->common.jobs.empty() ? run_once(*options) : run_jobs(*options); };
  });
}
