#include "cli/preset_option.h"

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/toml.h"
#include "cli/arguments.h"
#include "cli/default_model.h"
#include "cli/values.h"
#include "io/file_system.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;

constexpr std::size_t kMaxBytes = 1u << 20;

std::string find_preset(const std::string& name) {
  const bool plain = name.find('/') == std::string::npos && !name.empty();
  const std::string path = plain ? shipped_path("presets", name + ".toml") : "";
  if (!path.empty()) return path;
  const auto known = shipped_names("presets");
  const std::string near = did_you_mean(name, known);
  throw Error(ExitCode::usage, fmt::format("--preset {}: there is no such one", name),
              !near.empty()    ? near
              : !known.empty() ? fmt::format("one of {}; --config reads a file of your own", fmt::join(known, ", "))
                               : "set ATELIER_PRESETS to the folder that holds them");
}

/// Gives a flag another default, and its variable that value.
void set_default(CLI::App& app, const std::string& path, const std::string& key, const base::Json& value) {
  std::string name = key;
  std::replace(name.begin(), name.end(), '_', '-');
  CLI::Option* option = name.empty() ? nullptr : app.get_option_no_throw("--" + name);
  if (option == nullptr || !option->get_configurable())
    throw Error(ExitCode::usage, fmt::format("{}: unknown key \"{}\"", path, key), did_you_mean(name, long_names(app)));
  const auto texts = option_texts(*option, value, key);
  if (texts.size() != 1) throw Error(ExitCode::usage, fmt::format("{}: \"{}\" takes several values", path, key));
  option->run_callback_for_default();
  option->default_val(texts.front());
  option->run_callback_for_default(false);
}

}  // namespace

CLI::Option* add_preset_option(CLI::App& app) {
  const auto apply = [&app](const CLI::results_t& values) {
    const std::string path = find_preset(values.back());
    const base::Json settings = base::parse_toml(io::read_file(path, kMaxBytes), path);
    for (const auto& [key, value] : settings.items()) set_default(app, path, key, value);
    return true;
  };
  return app
      .add_option("--preset", apply,
                  "Settings for a kind of machine: cpu-small, gpu-8gb, gpu-16gb, gpu-24gb, gpu-80gb; every flag can "
                  "still be given")
      ->type_name("NAME")
      ->configurable(false)
      ->trigger_on_parse();
}

}  // namespace atelier::cli
