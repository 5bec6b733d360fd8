#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace atelier::base {

enum class ProgressMode { automatic, always, never };
/// Where stderr is a terminal (or with `always`) a bar that is redrawn; otherwise a plain line at most every 10 s.
void set_progress_mode(ProgressMode mode);

/// Erases a bar that stands on the terminal, so that something else can be written there; the next update draws it anew.
/// The log functions do so themselves.
void hide_progress();

/// Replaces the clock in tests; null brings the real one back.
void set_progress_clock(std::chrono::steady_clock::time_point (*now)());

/// Progress of one task, drawn on stderr with speed and time left. The destructor leaves the last state standing.
/// Silent with --quiet and with ProgressMode::never. Never writes to stdout. For use by one thread.
class Progress {
 public:
  /// `total` 0 = unknown. `unit` e.g. "tok", "steps", "files".
  Progress(std::string label, std::uint64_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Absolute position; `note` stands behind the bar ("loss 1.234").
  void update(std::uint64_t done, const std::string& note = {});

 private:
  void draw(bool final);
  std::string facts() const;

  std::string label_, unit_, note_;
  std::uint64_t total_, done_ = 0;
  std::chrono::steady_clock::time_point start_, last_;
  bool drawn_ = false;
};

}  // namespace atelier::base
