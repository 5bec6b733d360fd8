#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

namespace atelier::cli {

/// One command of sd-bench. `define` binds its flags and gives what it does, as run_main wants it.
struct BenchCommand {
  std::string name, description;
  std::function<std::function<int()>(CLI::App&)> define;
};

/// A command of options of its own: `bind` puts the flags onto them, `run` does the work and returns the exit code.
template <class Options>
BenchCommand bench_command(std::string name, std::string description, void (*bind)(CLI::App&, Options&),
                           int (*run)(const Options&)) {
  return {std::move(name), std::move(description), [bind, run](CLI::App& app) -> std::function<int()> {
            const auto options = std::make_shared<Options>();
            bind(app, *options);
            return [options, run] { return run(*options); };
          }};
}

BenchCommand compare_command();
std::vector<BenchCommand> metric_commands();  ///< fid, kid, lpips, diversity, clip-score, preference
BenchCommand speed_command();
BenchCommand train_command();
std::vector<BenchCommand> vote_commands();  ///< vote, elo

/// The whole of sd-bench: `sd-bench COMMAND [FLAGS]`, or flags of its own.
int bench_main(int argc, char** argv);

}  // namespace atelier::cli
