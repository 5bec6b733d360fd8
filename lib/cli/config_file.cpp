#include "cli/config_file.h"

#include <algorithm>
#include <istream>
#include <iterator>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "base/error.h"
#include "base/toml.h"
#include "cli/arguments.h"
#include "cli/values.h"
#include "io/file_system.h"

namespace atelier::cli {

using base::Error;
using base::ExitCode;

namespace {

constexpr std::size_t kMaxBytes = 4u << 20;

struct ConfigText {
  std::string path, text;  ///< read once: the file may be a pipe
};

/// CLI11's own reader cuts texts at '#' and ',' and knows no escapes, hence this one.
class TomlConfig : public CLI::Config {
 public:
  TomlConfig(const CLI::App& app, std::shared_ptr<const ConfigText> file) : app_(app), file_(std::move(file)) {}

  std::string to_config(const CLI::App*, bool, bool, std::string) const override { return {}; }

  std::vector<CLI::ConfigItem> from_config(std::istream&) const override {
    const base::Json settings = base::parse_toml(file_->text, file_->path);
    std::vector<CLI::ConfigItem> found;
    for (const auto& [key, value] : settings.items()) found.push_back(item(key, value));
    return found;
  }

 private:
  CLI::ConfigItem item(const std::string& key, const base::Json& value) const {
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', '-');
    const CLI::Option* option = name.empty() ? nullptr : app_.get_option_no_throw("--" + name);
    if (option == nullptr) {
      throw Error(ExitCode::usage, fmt::format("{}: unknown key \"{}\"", file_->path, key),
                  did_you_mean(name, long_names(app_)));
    }
    if (!option->get_configurable()) {
      throw Error(ExitCode::usage, fmt::format("{}: \"{}\" belongs on the command line", file_->path, key));
    }
    CLI::ConfigItem result;
    result.name = name;
    try {
      result.inputs = option_texts(*option, value, key);
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{}: {}", file_->path, error.what()), error.hint());
    }
    return result;
  }

  const CLI::App& app_;
  std::shared_ptr<const ConfigText> file_;
};

}  // namespace

CLI::Option* add_config_option(CLI::App& app) {
  auto file = std::make_shared<ConfigText>();
  CLI::Option* option = app.set_config("--config", "", "Read settings from a TOML file: flag names as keys", false);
  option->type_name("FILE")->configurable(false);
  option->check([file](const std::string& value) {
    if (file->path != value) *file = {value, io::read_file(value, kMaxBytes)};
    return std::string();
  });
  app.config_formatter(std::make_shared<TomlConfig>(app, file));
  app.allow_config_extras(CLI::config_extras_mode::error);
  return option;
}

}  // namespace atelier::cli
