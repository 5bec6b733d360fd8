#include "cli/bench.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/output.h"
#include "metrics/metrics.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;

constexpr const char* kTool = "sd-bench";

std::vector<BenchCommand> all_commands() {
  std::vector<BenchCommand> commands{compare_command()};
  for (BenchCommand& command : metric_commands()) commands.push_back(std::move(command));
  commands.push_back(speed_command());
  commands.push_back(train_command());
  for (BenchCommand& command : vote_commands()) commands.push_back(std::move(command));
  return commands;
}

base::Json selftest_record(const metrics::SelfTest& test) {
  return {{"metric", test.metric},     {"variant", test.variant},     {"value", test.value},
          {"expected", test.expected}, {"tolerance", test.tolerance}, {"passed", test.passed()}};
}

/// Golden values of every metric, computed by this build on this machine.
int run_selftest(bool json) {
  Output output;
  std::vector<std::string> failed;
  for (const metrics::SelfTest& test : metrics::selftest()) {
    if (json)
      output.record(selftest_record(test));
    else
      output.text(fmt::format("{} ({}): {:.9g}, expected {:.9g} within {:.2g}: {}\n", test.metric, test.variant,
                              test.value, test.expected, test.tolerance, test.passed() ? "ok" : "FAILED"));
    if (!test.passed()) failed.push_back(test.metric + " (" + test.variant + ")");
  }
  if (failed.empty()) return 0;
  throw Error(ExitCode::internal,
              fmt::format("{} golden values do not hold, {} the first", failed.size(), failed.front()),
              "no figure of this build can be trusted on this machine");
}

struct RootOptions {
  bool selftest = false, json = false;
  std::vector<std::function<int()>> commands;  ///< own the options that the commands' flags are bound to
};

/// The parser without a command: it knows the commands' flags for --help and --completions.
std::function<int()> define_root(CLI::App& app, const std::vector<BenchCommand>& commands) {
  const auto options = std::make_shared<RootOptions>();
  for (const BenchCommand& command : commands)
    options->commands.push_back(command.define(*app.add_subcommand(command.name, command.description)));
  app.add_flag("--selftest", options->selftest,
               "Compute the golden values of every metric and compare; no file is needed")
      ->group("Checks");
  app.add_flag("--json", options->json, "Print one JSON object per golden value, one per line")->group("Checks");
  add_help_options(app,
                   "sd-bench compare --models A B --prompts prompts.txt --output report\n"
                   "  sd-bench fid real/ made/ --inception inception.safetensors --json\n"
                   "  sd-bench speed --model A --batch-sizes 1 4\n"
                   "  sd-bench train --model A --data photos --methods lora full\n"
                   "  sd-bench fid --help");
  return [options] {
    if (options->selftest) return run_selftest(options->json);
    throw Error(ExitCode::usage, "no command was given", "sd-bench --help lists them");
  };
}

}  // namespace

int bench_main(int argc, char** argv) {
  const auto commands = all_commands();
  // The first word that is a command; flags may stand before it too.
  for (int i = 1; i < argc; ++i) {
    const auto command = std::ranges::find(commands, std::string(argv[i]), &BenchCommand::name);
    if (command == commands.end()) continue;
    std::vector<char*> rest(argv, argv + argc);
    rest.erase(rest.begin() + i);
    return run_main(static_cast<int>(rest.size()), rest.data(), fmt::format("{} {}", kTool, command->name),
                    command->description, command->define);
  }
  return run_main(argc, argv, kTool, "Compare Stable Diffusion models: pictures' quality, speed and memory.",
                  [&commands](CLI::App& app) { return define_root(app, commands); });
}

}  // namespace atelier::cli
