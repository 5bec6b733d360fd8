#include "base/log.h"

#include <cstdio>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/progress.h"

namespace atelier::base {
namespace {

std::string g_tool_name;
LogLevel g_level = LogLevel::normal;

// One fwrite a line, so that lines of several processes on one terminal do not mix.
void write_line(std::string_view kind, std::string_view message) {
  hide_progress();
  const std::string_view tool = kind == "hint: " ? std::string_view{} : std::string_view{g_tool_name};
  const std::string line = fmt::format("{}{}{}{}\n", tool, tool.empty() ? "" : ": ", kind, printable(message));
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

struct CodePoint {
  char32_t value;
  std::size_t size;
};

// Decodes one well-formed UTF-8 sequence (Unicode 15, table 3-7); nothing for anything else.
std::optional<CodePoint> decode(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return CodePoint{lead, 1};
  const std::size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < size) return std::nullopt;
  char32_t value = lead & (0x7Fu >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return std::nullopt;
    value = value << 6 | (byte(i) & 0x3Fu);
  }
  const char32_t smallest = size == 4 ? 0x10000 : size == 3 ? 0x800 : 0x80;
  if (value < smallest || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return std::nullopt;
  return CodePoint{value, size};
}

}  // namespace

void set_tool_name(std::string name) { g_tool_name = std::move(name); }
const std::string& tool_name() { return g_tool_name; }

void set_log_level(LogLevel level) { g_level = level; }
LogLevel log_level() { return g_level; }

void log_error(std::string_view message) { write_line("error: ", message); }
void log_hint(std::string_view message) { write_line("hint: ", message); }

void log_warning(std::string_view message) {
  if (g_level != LogLevel::quiet) write_line("warning: ", message);
}

void log_info(std::string_view message) {
  if (g_level != LogLevel::quiet) write_line("", message);
}

void log_verbose(std::string_view message) {
  if (g_level == LogLevel::verbose) write_line("", message);
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::optional<CodePoint> point = decode(text);
    const std::size_t size = point ? point->size : 1;
    const char32_t value = point ? point->value : static_cast<unsigned char>(text[0]);
    if (!point || value < 0x20 || (value >= 0x7F && value < 0xA0)) {
      out += fmt::format("\\x{:02X}", static_cast<unsigned>(value));
    } else {
      out.append(text.substr(0, size));
    }
    text.remove_prefix(size);
  }
  return out;
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kShown = 120;
  return fmt::format("\"{}{}\"", printable(text.substr(0, kShown)), text.size() > kShown ? "..." : "");
}

}  // namespace atelier::base
