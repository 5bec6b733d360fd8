#include "support/process.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace atelier::test {

namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void failed(const char* what) {
  throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

struct Pipe {
  int read = -1, write = -1;
};

Pipe make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) failed("pipe");
  return {ends[0], ends[1]};
}

// argv and envp are built before fork(): between fork() and exec only async-signal-safe calls are made.
struct Image {
  explicit Image(const Process& p) {
    words.push_back(p.program);
    words.insert(words.end(), p.args.begin(), p.args.end());
    for (char** e = environ; *e != nullptr; ++e) {
      const std::string entry = *e;
      if (!p.env.contains(entry.substr(0, entry.find('=')))) settings.push_back(entry);
    }
    for (const auto& [name, value] : p.env) {
      if (!value.empty()) settings.push_back(name + "=" + value);
    }
    for (std::string& word : words) argv.push_back(word.data());
    for (std::string& setting : settings) envp.push_back(setting.data());
    argv.push_back(nullptr);
    envp.push_back(nullptr);
  }

  std::vector<std::string> words, settings;
  std::vector<char*> argv, envp;
};

int child_descriptor(Wire wire, int number, int pipe_end, const std::string& file) {
  switch (wire) {
    case Wire::pipe: return pipe_end;
    case Wire::null: return open("/dev/null", number == 0 ? O_RDONLY : O_WRONLY);
    case Wire::full: return open("/dev/full", O_WRONLY);
    case Wire::file:
      return number == 0 ? open(file.c_str(), O_RDONLY) : open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    case Wire::closed: return -1;
  }
  return -1;
}

void limit(int resource, std::uint64_t bytes) {
  const rlimit value{static_cast<rlim_t>(bytes), static_cast<rlim_t>(bytes)};
  if (bytes != 0) setrlimit(static_cast<__rlimit_resource>(resource), &value);
}

void set_up_child(const Process& p) {
  if (!p.folder.empty() && chdir(p.folder.c_str()) != 0) _exit(126);
  signal(SIGPIPE, p.ignore_sigpipe ? SIG_IGN : SIG_DFL);
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  if (p.max_file != 0) signal(SIGXFSZ, SIG_IGN);
  limit(RLIMIT_AS, p.max_memory);
  limit(RLIMIT_FSIZE, p.max_file);
}

[[noreturn]] void run_child(const Process& p, const Image& image, const int (&ends)[3]) {
  if (!p.pty) {
    const Wire wires[3] = {p.in, p.out, p.err};
    int from[3];
    for (int i = 0; i < 3; ++i) {
      // Above 2, so that none of the three is overwritten while the others are put in place.
      const int descriptor = child_descriptor(wires[i], i, ends[i], i == 0 ? p.stdin_file : p.stdout_file);
      from[i] = descriptor < 0 ? -1 : fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    }
    for (int i = 0; i < 3; ++i) {
      if (from[i] < 0)
        close(i);
      else
        dup2(from[i], i);
    }
  }
  set_up_child(p);
  execve(p.program.c_str(), image.argv.data(), image.envp.data());
  _exit(127);
}

void close_if_open(int& descriptor) {
  if (descriptor >= 0) close(descriptor);
  descriptor = -1;
}

}  // namespace

Session::Session(const Process& process) : process_(process), start_(Clock::now()) {
  // Writing to a child that has ended must be an error here, not the end of the tests.
  signal(SIGPIPE, SIG_IGN);
  start();
}

void Session::start() {
  const Image image(process_);
  if (process_.pty) {
    const winsize size{40, 120, 0, 0};
    pid_ = forkpty(&out_fd_, nullptr, nullptr, &size);
    if (pid_ < 0) failed("forkpty");
    if (pid_ == 0) run_child(process_, image, {-1, -1, -1});
    fcntl(out_fd_, F_SETFD, FD_CLOEXEC);
    return;
  }
  Pipe in = make_pipe(), out = make_pipe(), err = make_pipe();
  pid_ = fork();
  if (pid_ < 0) failed("fork");
  if (pid_ == 0) run_child(process_, image, {in.read, out.write, err.write});
  close_if_open(in.read), close_if_open(out.write), close_if_open(err.write);
  in_ = in.write, out_fd_ = out.read, err_fd_ = err.read;
  fcntl(in_, F_SETFL, O_NONBLOCK);
  if (process_.in != Wire::pipe) close_if_open(in_);
}

Session::~Session() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  close_descriptors();
}

void Session::close_descriptors() { close_if_open(in_), close_if_open(out_fd_), close_if_open(err_fd_); }

void Session::send(const std::string& bytes) {
  pending_ += bytes;
  feed();
}

void Session::close_input() {
  close_when_fed_ = true;
  feed();
}

void Session::kill(int signal) {
  if (pid_ > 0) ::kill(pid_, signal);
}

void Session::feed() {
  const int descriptor = process_.pty ? out_fd_ : in_;
  if (descriptor < 0) return;
  while (!pending_.empty()) {
    const ssize_t written = write(descriptor, pending_.data(), pending_.size());
    if (written < 0) {
      if (errno == EPIPE) close_if_open(in_), pending_.clear();
      return;
    }
    pending_.erase(0, static_cast<std::size_t>(written));
  }
  if (!close_when_fed_) return;
  if (process_.pty) {
    close_when_fed_ = false;
    pending_ = "\x04";  // Ctrl-D: a terminal has no other end
    feed();
  } else {
    close_if_open(in_);
  }
}

void Session::drain(int& descriptor, std::string& into) {
  char block[1 << 16];
  std::size_t wanted = sizeof block;
  const bool stops = &descriptor == &out_fd_ && process_.close_out_after >= 0;
  if (stops) wanted = std::min(wanted, static_cast<std::size_t>(process_.close_out_after) - into.size());
  const ssize_t size = wanted == 0 ? 0 : read(descriptor, block, wanted);
  if (size > 0) into.append(block, static_cast<std::size_t>(size));
  const bool enough = stops && into.size() >= static_cast<std::size_t>(process_.close_out_after);
  if (enough || size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) close_if_open(descriptor);
}

void Session::maybe_signal() {
  if (process_.signal == 0 || signalled_ || pid_ <= 0) return;
  const bool now =
      process_.signal_when ? process_.signal_when(out_, err_) : Clock::now() - start_ >= process_.signal_after;
  if (!now) return;
  signalled_ = true;
  ::kill(pid_, process_.signal);
}

// One round of reading and writing; false when nothing is open any more.
bool Session::pump(int milliseconds) {
  pollfd waits[3] = {{out_fd_, POLLIN, 0}, {err_fd_, POLLIN, 0}, {in_, 0, 0}};
  if (!pending_.empty()) waits[process_.pty ? 0 : 2].events |= POLLOUT;
  if (process_.close_out_after == 0) close_if_open(out_fd_);
  if (out_fd_ < 0 && err_fd_ < 0) return false;
  if (process_.signal != 0 && !signalled_) milliseconds = std::min(milliseconds, 5);
  poll(waits, 3, milliseconds);
  if (out_fd_ >= 0 && (waits[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) drain(out_fd_, out_);
  if (err_fd_ >= 0 && (waits[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0) drain(err_fd_, err_);
  if (!pending_.empty()) feed();
  maybe_signal();
  return true;
}

bool Session::expect(const std::string& text, std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  for (;;) {
    const std::size_t at = out_.find(text, seen_);
    if (at != std::string::npos) {
      seen_ = at + text.size();
      return true;
    }
    if (Clock::now() >= deadline || !pump(50)) return false;
  }
}

Result Session::wait() {
  Result result;
  const auto deadline = start_ + process_.timeout;
  int status = 0;
  rusage usage{};
  bool open = true;
  for (;;) {
    if (open) open = pump(20);
    const pid_t ended = wait4(pid_, &status, WNOHANG, &usage);
    if (ended == pid_) break;
    if (!open) usleep(2000), maybe_signal();
    if (Clock::now() >= deadline && !result.timed_out) {
      result.timed_out = true;
      ::kill(pid_, SIGKILL);
    }
  }
  pid_ = -1;
  // What it wrote last. A grandchild may hold the pipe open: then only what is there counts.
  for (int quiet = 0; open && quiet < 3;) {
    const std::size_t before = out_.size() + err_.size();
    open = pump(20);
    quiet = out_.size() + err_.size() == before ? quiet + 1 : 0;
  }
  close_descriptors();
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  result.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  result.peak_rss = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
  result.out = std::move(out_);
  result.err = std::move(err_);
  return result;
}

Result run(const Process& process) {
  Session session(process);
  session.send(process.input);
  session.close_input();
  return session.wait();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

std::vector<std::string> Result::out_lines() const { return lines_of(out); }
std::vector<std::string> Result::err_lines() const { return lines_of(err); }

std::string tool(const std::string& name) { return std::string(ATELIER_BIN) + "/" + name; }

TempFolder::TempFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "atelier-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) failed("mkdtemp");
  path_ = pattern;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempFolder::write(const std::string& name, const std::string& bytes) const {
  std::ofstream(path_ / name, std::ios::binary) << bytes;
  return file(name);
}

std::string TempFolder::read(const std::string& name) const {
  std::ifstream in(path_ / name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> TempFolder::entries() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace atelier::test
