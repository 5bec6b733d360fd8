#include <cctype>
#include <cstring>
#include <new>
#include <system_error>

#include <fmt/format.h>

#include "base/log.h"
#include "base/progress.h"
#include "base/stop.h"
#include "cli/arguments.h"
#include "cli/common.h"
#include "cli/output.h"
#include "cli/tool_parser.h"
#include "cli/validators.h"
#include "cli/values.h"

namespace atelier::cli {

using base::ExitCode;

namespace {

std::string first_line(const std::string& text) { return text.substr(0, text.find_first_of("\r\n")); }

// LibTorch's exceptions are known by their text, so that this file needs none of its headers.
bool says_out_of_memory(const std::string& text) {
  for (const char* phrase : {"DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory",
                             "Out of Memory", "out of memory", "Cannot allocate memory", "std::bad_alloc"}) {
    if (text.find(phrase) != std::string::npos) return true;
  }
  return false;
}

// "out of memory (8000000000 bytes more were asked for)", where the text tells the size.
std::string out_of_memory_message(const std::string& text) {
  const std::size_t at = text.find("you tried to allocate ");
  std::string digits;
  for (std::size_t i = at + 22;
       at != std::string::npos && i < text.size() && std::isdigit(static_cast<unsigned char>(text[i])); ++i) {
    digits += text[i];
  }
  return digits.empty() ? "out of memory" : fmt::format("out of memory ({} bytes more were asked for)", digits);
}

void apply_message_options(const CommonOptions& options) {
  base::set_log_level(options.quiet     ? base::LogLevel::quiet
                      : options.verbose ? base::LogLevel::verbose
                                        : base::LogLevel::normal);
  base::set_progress_mode(options.progress == "always"                   ? base::ProgressMode::always
                          : options.progress == "never" || options.quiet ? base::ProgressMode::never
                                                                         : base::ProgressMode::automatic);
}

int report(const Failure& failure) {
  base::log_error(failure.message);
  if (!failure.hint.empty()) base::log_hint(failure.hint);
  return static_cast<int>(failure.code);
}

// Runs one step; an exception becomes its report and exit code.
int guarded(const std::function<int()>& step) {
  try {
    return step();
  } catch (const PrintAndExit& request) {
    return guarded([&request] {
      Output().write(request.text);
      return 0;
    });
  } catch (const std::exception& error) {
    return report(describe_failure(error));
  } catch (...) {
    return report({ExitCode::internal, "internal error: an exception of unknown type", {}});
  }
}

void write_run_manifest(const ToolParser& app, int argc, char** argv, int code) {
  Manifest& record = *app.common->record;
  record.tool = base::tool_name();
  record.version = ATELIER_VERSION;
  record.command.assign(argv, argv + argc);
  base::Json options = effective_options(app);
  for (const auto& [key, value] : record.options.items()) options[key] = value;  // what the body decided counts
  record.options = std::move(options);
  record.exit_code = code;
  write_manifest(app.common->manifest, record, !base::stop_requested());
}

}  // namespace

Failure describe_failure(const std::exception& error) {
  if (const auto* own = dynamic_cast<const base::Error*>(&error)) return {own->code(), own->what(), own->hint()};
  const std::string text = error.what();
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return {ExitCode::out_of_memory, "out of memory", {}};
  if (const auto* system = dynamic_cast<const std::system_error*>(&error);
      system != nullptr &&
      (system->code() == std::errc::not_enough_memory || system->code() == std::errc::resource_unavailable_try_again)) {
    return {ExitCode::out_of_memory, "out of memory: " + first_line(text), {}};
  }
  if (says_out_of_memory(text)) {
    return {ExitCode::out_of_memory, out_of_memory_message(text), "--plan shows what a run needs"};
  }
  return {ExitCode::internal, "internal error: " + first_line(text), {}};
}

int run_main(int argc, char** argv, const std::string& name, const std::string& description,
             const std::function<std::function<int()>(CLI::App&)>& define) {
  guard_standard_descriptors();
  base::set_tool_name(name.substr(0, name.find(' ')));
  base::install_stop_handlers();
  ToolParser app(description, name);
  std::function<int()> body;
  bool parsed = false;
  int code = guarded([&] {
    app.option_defaults()->always_capture_default();
    body = define(app);
    harden(app);
    parse_arguments(app, {argv + std::min(argc, 1), argv + argc});
    if (app.common != nullptr) apply_message_options(*app.common);
    parsed = true;
    return 0;
  });
  if (parsed) code = guarded(body);

  // A failure that was reported already stands; one that comes on top of a success replaces it.
  const auto then = [&code](const std::function<int()>& step) {
    const int later = guarded(step);
    if (code == 0 || code == static_cast<int>(ExitCode::some_failed)) code = later != 0 ? later : code;
  };
  if (code == 0 || code == static_cast<int>(ExitCode::some_failed)) then([] { return flush_standard_output(), 0; });
  if (parsed && app.common != nullptr && !app.common->manifest.empty()) {
    then([&] { return write_run_manifest(app, argc, argv, code), 0; });
  }
  return code;
}

}  // namespace atelier::cli
