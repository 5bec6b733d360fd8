#pragma once

#include <string>
#include <string_view>

namespace atelier::base {

enum class LogLevel { quiet, normal, verbose };

/// Name that starts every line on stderr, e.g. "gemma-generate".
void set_tool_name(std::string name);
const std::string& tool_name();

void set_log_level(LogLevel level);
LogLevel log_level();

/// One line on stderr: "TOOL: error: MESSAGE". Control characters in MESSAGE are shown escaped, so that a hostile file
/// name or tensor name cannot drive the terminal. Errors are printed at every level.
void log_error(std::string_view message);
/// "hint: MESSAGE".
void log_hint(std::string_view message);
/// "TOOL: warning: MESSAGE"; not with --quiet.
void log_warning(std::string_view message);
/// "TOOL: MESSAGE"; not with --quiet.
void log_info(std::string_view message);
/// "TOOL: MESSAGE"; only with --verbose.
void log_verbose(std::string_view message);

/// The text with C0, DEL and C1 control characters and invalid UTF-8 written as \xNN.
std::string printable(std::string_view text);
/// The same in quotation marks, cut where it is long: a name from a file, for an error message.
std::string in_quotes(std::string_view text);

}  // namespace atelier::base
