#pragma once

#include <sys/types.h>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace atelier::test {

/// What becomes of one of a process's standard descriptors.
enum class Wire {
  pipe,    ///< stdin: fed from `input`; stdout and stderr: collected
  null,    ///< /dev/null
  closed,  ///< not open at all
  full,    ///< stdout, stderr: /dev/full
  file,    ///< `stdin_file`, or `stdout_file` (opened for appending)
};

/// A process to run. Everything but `program` has a default that suits a plain call:
///
///     Result r = run({.program = tool("gemma-generate"), .args = {"-p", "Hello", "-n", "4"}});
///     CHECK(r.code == 0);
///     CHECK(r.out == "...");
struct Process {
  std::string program;                          ///< a path; not looked up in PATH
  std::vector<std::string> args = {};           ///< without the program's name
  std::string input = {};                       ///< bytes for stdin, which is closed after them
  std::map<std::string, std::string> env = {};  ///< set over this process's environment; a value of "" removes the name
  std::string folder = {};                      ///< working directory; empty: this process's
  std::chrono::milliseconds timeout{30000};     ///< then SIGKILL, and Result::timed_out

  Wire in = Wire::pipe, out = Wire::pipe, err = Wire::pipe;
  std::string stdin_file = {}, stdout_file = {};
  bool pty = false;             ///< stdin, stdout and stderr are one pseudo-terminal; Result::out has all (with \r\n)
  bool ignore_sigpipe = false;  ///< SIGPIPE ignored in the child, as under some supervisors
  std::int64_t close_out_after = -1;  ///< >= 0: stdout's reader goes away after so many bytes, as `head -c N` does

  std::uint64_t max_memory = 0;  ///< bytes of address space (ulimit -v); 0: no limit. Not under AddressSanitizer
  std::uint64_t max_file = 0;  ///< bytes of a written file (ulimit -f), SIGXFSZ ignored: writes then fail; 0: no limit

  int signal = 0;                             ///< sent once, when `signal_when` or else `signal_after` says so
  std::chrono::milliseconds signal_after{0};  ///< after the start
  std::function<bool(const std::string& out, const std::string& err)> signal_when = {};  ///< of what came so far
};

struct Result {
  int code = -1;   ///< exit code; -1 where a signal ended it
  int signal = 0;  ///< the signal that ended it, or 0
  bool timed_out = false;
  std::string out, err;        ///< bytes of stdout (or the pty) and stderr
  double seconds = 0;          ///< from start to end
  std::uint64_t peak_rss = 0;  ///< bytes

  std::vector<std::string> out_lines() const;
  std::vector<std::string> err_lines() const;
};

/// Runs it to its end. Fails only where the process cannot be made (std::runtime_error); a missing program is code 127.
/// No descriptor of this process leaks into it, and reading and writing go on together, so that no size of input or
/// output can hang.
Result run(const Process& process);

/// A program that stays alive while a test talks to it (gemma-chat, signals at a given moment).
class Session {
 public:
  explicit Session(const Process& process);
  ~Session();  ///< kills what still runs
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void send(const std::string& bytes);
  void close_input();
  void kill(int signal);
  /// Waits until stdout (or the pty) holds `text` after what earlier calls found; false at the timeout or the end.
  bool expect(const std::string& text, std::chrono::milliseconds timeout = std::chrono::seconds(20));
  const std::string& out() const { return out_; }
  /// Waits for the end, at most the process's own timeout, and reads the rest.
  Result wait();

 private:
  friend Result run(const Process& process);
  void start();
  bool pump(int milliseconds);
  void feed();
  void drain(int& descriptor, std::string& into);
  void maybe_signal();
  void close_descriptors();

  Process process_;
  pid_t pid_ = -1;
  int in_ = -1, out_fd_ = -1, err_fd_ = -1;
  std::string pending_, out_, err_;
  std::size_t seen_ = 0;
  bool close_when_fed_ = false, signalled_ = false;
  std::chrono::steady_clock::time_point start_;
};

/// Path of an executable of this build (ATELIER_BIN).
std::string tool(const std::string& name);

/// Whether this is an AddressSanitizer build, where ulimit -v cannot be used.
constexpr bool with_address_sanitizer() {
#ifdef __SANITIZE_ADDRESS__
  return true;
#else
  return false;
#endif
}

/// A folder of its own under the system's temporary folder, removed at the end.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string file(const std::string& name) const { return (path_ / name).string(); }
  /// Writes a file and returns its path.
  std::string write(const std::string& name, const std::string& bytes) const;
  /// Its bytes; "" where it is missing.
  std::string read(const std::string& name) const;
  /// Names of the entries, sorted.
  std::vector<std::string> entries() const;

 private:
  std::filesystem::path path_;
};

std::vector<std::string> lines_of(const std::string& text);

}  // namespace atelier::test
