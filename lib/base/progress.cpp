#include "base/progress.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"

namespace atelier::base {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kPlainLine = std::chrono::seconds(10);

ProgressMode g_mode = ProgressMode::automatic;
bool g_bar_on_screen = false;
Clock::time_point (*g_now)() = &Clock::now;

bool silent() { return g_mode == ProgressMode::never || log_level() == LogLevel::quiet; }

bool draws_bar() { return g_mode == ProgressMode::always || isatty(STDERR_FILENO) == 1; }

std::size_t terminal_width() {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

std::string duration(double seconds) {
  const auto s = static_cast<std::uint64_t>(std::clamp(seconds, 0.0, 3.6e6));
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

// The first `columns` code points; wide characters are rare in labels, and only cost a wrapped line.
std::string_view cut(std::string_view text, std::size_t columns) {
  std::size_t end = 0;
  for (; end < text.size(); ++end) {
    const bool starts = (static_cast<unsigned char>(text[end]) & 0xC0) != 0x80;
    if (starts && columns-- == 0) break;
  }
  return text.substr(0, end);
}

void put(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

void set_progress_mode(ProgressMode mode) { g_mode = mode; }

void set_progress_clock(Clock::time_point (*now)()) { g_now = now != nullptr ? now : &Clock::now; }

void hide_progress() {
  if (std::exchange(g_bar_on_screen, false)) put("\r\x1b[K");
}

Progress::Progress(std::string label, std::uint64_t total, std::string unit)
    : label_(printable(label)), unit_(printable(unit)), total_(total), start_(g_now()), last_(start_) {}

Progress::~Progress() {
  if (drawn_ && !silent() && draws_bar()) draw(true);
}

void Progress::update(std::uint64_t done, const std::string& note) {
  done_ = done;
  if (silent()) return;
  const Clock::time_point now = g_now();
  const bool bar = draws_bar();
  const bool due = bar ? !drawn_ || now - last_ >= kRedraw : now - last_ >= kPlainLine;
  if (!due) return;
  note_ = printable(note);
  last_ = now;
  drawn_ = true;
  draw(false);
}

std::string Progress::facts() const {
  const double seconds = std::chrono::duration<double>(g_now() - start_).count();
  const double speed = seconds > 0 ? static_cast<double>(done_) / seconds : 0;
  std::string text = total_ > 0 ? fmt::format("{}/{} {}", done_, total_, unit_) : fmt::format("{} {}", done_, unit_);
  if (speed >= 1) text += fmt::format(", {:.{}f} {}/s", speed, speed < 100 ? 1 : 0, unit_);
  if (speed > 0 && speed < 1) text += fmt::format(", {:.2g} {}/s", speed, unit_);
  if (speed > 0 && total_ > done_)
    text += fmt::format(", {} left", duration(static_cast<double>(total_ - done_) / speed));
  if (!note_.empty()) text += ", " + note_;
  return text;
}

void Progress::draw(bool final) {
  const double part = total_ > 0 ? std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_)) : 0;
  const std::string percent = total_ > 0 ? fmt::format("{:3.0f}% ", part * 100) : std::string{};
  if (!draws_bar()) {
    log_info(fmt::format("{}: {}{}", label_, percent, facts()));
    return;
  }
  std::string bar;
  if (total_ > 0) {
    constexpr std::size_t kCells = 24;
    const auto full = static_cast<std::size_t>(part * kCells);
    bar = fmt::format("[{:#<{}}{:.<{}}] ", "", full, "", kCells - full);
  }
  const std::string line = fmt::format("{} {}{}{}", label_, bar, percent, facts());
  put(fmt::format("\r{}\x1b[K{}", cut(line, terminal_width() - 1), final ? "\n" : ""));
  g_bar_on_screen = !final;
}

}  // namespace atelier::base
