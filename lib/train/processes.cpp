#include "train/processes.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <random>
#include <sstream>
#include <thread>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/stop.h"
#include "base/stopwatch.h"
#include "io/file_system.h"

namespace atelier::train {
namespace {

using base::Error;
using base::ExitCode;

constexpr std::size_t kTokenSize = 32;
constexpr auto kPause = std::chrono::milliseconds(20);
constexpr const char* kLoopback = "127.0.0.1";

std::string draw_token() {
  std::random_device device;
  std::string token;
  while (token.size() < kTokenSize) token += fmt::format("{:08x}", device());
  return token;
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

std::string meeting_path(const Launch& launch, const std::string& folder) { return folder + "/.meeting-" + launch.key; }

/// Where the first process waits, and what tells that who comes belongs to the run.
struct Meeting {
  std::string host, token;
  int port = 0;
};

void set_low_delay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/// A listening socket on a free port: (descriptor, port).
std::pair<int, int> listen_somewhere(bool one_machine, int backlog) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(one_machine ? INADDR_LOOPBACK : INADDR_ANY);
  socklen_t length = sizeof address;
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(fd, backlog) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    const std::string reason = std::strerror(errno);
    if (fd >= 0) ::close(fd);
    throw Error(ExitCode::unavailable, "no port to meet the other processes at: " + reason);
  }
  return {fd, ntohs(address.sin_port)};
}

/// A connected socket, or -1.
int connect_to(const std::string& host, int port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return -1;
  int fd = -1;
  for (const addrinfo* one = found; one != nullptr && fd < 0; one = one->ai_next) {
    fd = ::socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, one->ai_protocol);
    if (fd >= 0 && ::connect(fd, one->ai_addr, one->ai_addrlen) != 0) {
      ::close(fd);
      fd = -1;
    }
  }
  ::freeaddrinfo(found);
  return fd;
}

bool readable_within(int fd, std::chrono::milliseconds time) {
  pollfd one{fd, POLLIN, 0};
  return ::poll(&one, 1, static_cast<int>(time.count())) > 0;
}

bool read_meeting(const std::string& path, Meeting& meeting) {
  try {
    std::istringstream words(io::read_file(path, 4096));
    return static_cast<bool>(words >> meeting.host >> meeting.port >> meeting.token) &&
           meeting.token.size() == kTokenSize;
  } catch (const Error&) {
    return false;  // not there yet
  }
}

}  // namespace

/// A socket to another process.
struct Processes::Connection {
  explicit Connection(int descriptor, int of_rank) : fd(descriptor), rank(of_rank) { set_low_delay(fd); }
  ~Connection() { ::close(fd); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void send(const void* data, std::size_t size) const {
    const char* bytes = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t sent = ::send(fd, bytes, size, MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;  // a stop is for the loop to see
      if (sent <= 0) gone();
      bytes += sent;
      size -= static_cast<std::size_t>(sent);
    }
  }

  void receive(void* data, std::size_t size) const {
    char* bytes = static_cast<char*>(data);
    while (size > 0) {
      const ssize_t got = ::recv(fd, bytes, size, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) gone();
      bytes += got;
      size -= static_cast<std::size_t>(got);
    }
  }

  [[noreturn]] void gone() const {
    base::throw_if_stopped();  // all were told, and the other one was faster
    throw Error(ExitCode::io, fmt::format("the process of rank {} has ended", rank), "what it said tells why");
  }

  int fd, rank;
};

Processes::Processes() = default;
Processes::~Processes() = default;

Processes::Processes(const Launch& launch, const std::string& folder, double patience_s) : launch_(launch) {
  if (alone()) return;
  io::file_system().create_folders(folder);
  first() ? meet_as_first(folder, patience_s) : meet_first(folder, patience_s);
  wait();
}

void Processes::meet_as_first(const std::string& folder, double patience_s) {
  const std::string path = meeting_path(launch_, folder), token = draw_token();
  const auto [listener, port] = listen_somewhere(launch_.one_machine, launch_.size);
  struct Cleanup {
    int fd;
    std::string path;
    ~Cleanup() {
      ::close(fd);
      io::file_system().remove(path);
    }
  } const cleanup{listener, path};
  const std::string host = launch_.one_machine ? kLoopback : launch_.address.empty() ? host_name() : launch_.address;
  io::write_atomically(path, fmt::format("{} {} {}\n", host, port, token));
  others_.resize(static_cast<std::size_t>(launch_.size) - 1);
  const base::Stopwatch watch;
  for (std::size_t met = 0; met < others_.size();) {
    base::throw_if_stopped();
    if (watch.seconds() > patience_s)
      throw Error(ExitCode::unavailable,
                  fmt::format("after {:.0f} s {} of the {} other processes have come", patience_s, met, others_.size()),
                  "all must see the same run folder");
    if (!readable_within(listener, kPause)) continue;
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    auto connection = std::make_unique<Connection>(fd, 0);
    char said[kTokenSize];
    std::int32_t rank = 0;
    if (!readable_within(fd, std::chrono::seconds(5))) continue;  // nobody of ours
    try {
      connection->receive(said, sizeof said);
      if (std::memcmp(said, token.data(), sizeof said) != 0) continue;
      connection->receive(&rank, sizeof rank);
    } catch (const Error&) {
      continue;
    }
    const auto place = static_cast<std::size_t>(rank) - 1;
    if (rank < 1 || rank >= launch_.size || others_[place])
      throw Error(ExitCode::unavailable, fmt::format("two processes of rank {} have come", rank));
    connection->rank = rank;
    others_[place] = std::move(connection);
    ++met;
  }
}

void Processes::meet_first(const std::string& folder, double patience_s) {
  const base::Stopwatch watch;
  while (true) {
    base::throw_if_stopped();
    if (watch.seconds() > patience_s)
      throw Error(ExitCode::unavailable, fmt::format("after {:.0f} s the process of rank 0 has not come", patience_s),
                  "all must see the same run folder");
    Meeting meeting;
    if (read_meeting(meeting_path(launch_, folder), meeting)) {
      // A name that does not lead back to this machine must not part processes that are on it.
      const int fd = connect_to(meeting.host == host_name() ? kLoopback : meeting.host, meeting.port);
      if (fd >= 0) {
        auto connection = std::make_unique<Connection>(fd, 0);
        const std::int32_t rank = launch_.rank;
        try {
          connection->send(meeting.token.data(), kTokenSize);
          connection->send(&rank, sizeof rank);
          others_.push_back(std::move(connection));
          return;
        } catch (const Error&) {  // what listens there is none of ours: the file is an older run's
        }
      }
    }
    std::this_thread::sleep_for(kPause);
  }
}

void Processes::in_turn(const std::function<void()>& work) {
  if (!first()) wait();
  work();
  if (first()) wait();
}

void Processes::sum(at::Tensor& tensor) {
  if (alone()) return;
  const bool in_place = tensor.device().is_cpu() && tensor.is_contiguous();
  at::Tensor own = in_place ? tensor : tensor.to(at::kCPU).contiguous();
  const auto bytes = static_cast<std::size_t>(own.nbytes());
  if (first()) {
    at::Tensor theirs = at::empty_like(own);
    for (const auto& other : others_) {
      other->receive(theirs.mutable_data_ptr(), bytes);
      own.add_(theirs);
    }
    for (const auto& other : others_) other->send(own.const_data_ptr(), bytes);
  } else {
    others_[0]->send(own.const_data_ptr(), bytes);
    others_[0]->receive(own.mutable_data_ptr(), bytes);
  }
  if (!in_place) tensor.copy_(own);
}

std::int64_t Processes::largest(std::int64_t number) {
  if (alone()) return number;
  if (first()) {
    for (const auto& other : others_) {
      std::int64_t theirs = 0;
      other->receive(&theirs, sizeof theirs);
      number = std::max(number, theirs);
    }
  } else {
    others_[0]->send(&number, sizeof number);
  }
  return from_first(number);
}

std::int64_t Processes::from_first(std::int64_t number) {
  if (alone()) return number;
  if (!first())
    others_[0]->receive(&number, sizeof number);
  else
    for (const auto& other : others_) other->send(&number, sizeof number);
  return number;
}

void Processes::from_first(std::vector<std::uint8_t>& bytes) {
  bytes.resize(static_cast<std::size_t>(from_first(static_cast<std::int64_t>(bytes.size()))));
  if (alone() || bytes.empty()) return;
  if (!first())
    others_[0]->receive(bytes.data(), bytes.size());
  else
    for (const auto& other : others_) other->send(bytes.data(), bytes.size());
}

}  // namespace atelier::train
