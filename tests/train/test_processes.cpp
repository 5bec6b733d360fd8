// Several processes of one run: that they meet, agree and sum, and what becomes of those whose companions end.
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>

#include "base/stop.h"
#include "train/processes.h"

#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/scratch.h"

namespace {

using namespace atelier;
using base::ExitCode;
using train::Launch;
using train::Processes;

/// Runs `work` in so many processes; their exit codes by rank. What throws an Error ends with its code.
std::vector<int> together(int size, const std::function<int(const Launch&)>& work) {
  std::vector<pid_t> children;
  for (int rank = 0; rank < size; ++rank) {
    const pid_t child = fork();
    if (child == 0) {
      int code = 1;
      try {
        code = work({.rank = rank, .size = size, .one_machine = true, .key = "test"});
      } catch (const base::Error& error) {
        code = static_cast<int>(error.code());
      }
      _exit(code);
    }
    children.push_back(child);
  }
  std::vector<int> codes;
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    codes.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  }
  return codes;
}

/// Environment variables for as long as it lives, those of launchers removed.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& variables) {
    for (const char* name : {"RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK",
                             "PMI_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"})
      unsetenv(name);
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
    for (const auto& [name, value] : variables) names_.push_back(name);
  }
  ~Environment() {
    for (const std::string& name : names_) unsetenv(name.c_str());
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  std::vector<std::string> names_;
};

}  // namespace

TEST_CASE("three processes: sums in the order of ranks, the largest, what the first has, in turn") {
  const test::Scratch scratch;
  const auto codes = together(3, [&](const Launch& launch) {
    Processes all(launch, scratch.path(), 20);
    at::Tensor numbers = at::arange(1000, at::kFloat) * 0.1 + launch.rank;
    const at::Tensor wanted = (at::arange(1000, at::kFloat) * 0.1 + (at::arange(1000, at::kFloat) * 0.1 + 1)) +
                              (at::arange(1000, at::kFloat) * 0.1 + 2);
    all.sum(numbers);
    if (!at::equal(numbers, wanted)) return 11;
    at::Tensor turned = at::arange(6, at::kDouble).view({2, 3}).t() * (launch.rank + 1);
    all.sum(turned);
    if (!at::equal(turned, at::arange(6, at::kDouble).view({2, 3}).t() * 6)) return 12;
    if (all.largest(launch.rank * 7) != 14) return 13;
    if (all.from_first(40 + launch.rank) != 40) return 14;
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(launch.rank), 9);
    if (launch.rank == 0) bytes = {1, 2, 3};
    all.from_first(bytes);
    if (bytes != std::vector<std::uint8_t>{1, 2, 3}) return 15;
    bool first_was_here = false;
    all.in_turn([&] {
      first_was_here = std::filesystem::exists(scratch.file("done"));
      if (launch.rank == 0) test::put_file(scratch.file("done"), "x");
    });
    return first_was_here == (launch.rank > 0) ? 0 : 16;
  });
  CHECK(codes == std::vector<int>{0, 0, 0});
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path()))
    CHECK(entry.path().filename() == "done");  // the meeting's file is gone
}

TEST_CASE("an older run's meeting file does not keep them apart; who does not come is waited for no longer than said") {
  const test::Scratch scratch;
  test::put_file(scratch.file(".meeting-test"), "127.0.0.1 1 " + std::string(32, 'x') + "\n");
  const auto met =
      together(2, [&](const Launch& launch) { return Processes(launch, scratch.path(), 20).size() == 2 ? 0 : 11; });
  CHECK(met == std::vector<int>{0, 0});
  for (const int rank : {0, 1}) {
    CAPTURE(rank);
    const Launch alone{.rank = rank, .size = 2, .one_machine = true, .key = "test"};
    const auto error = test::error_of(ExitCode::unavailable, [&] { Processes(alone, scratch.path(), 0.2); });
    CHECK(test::contains(error,
                         rank == 0 ? "0 of the 1 other processes have come" : "the process of rank 0 has not come"));
  }
}

TEST_CASE("who does not know the run's word is sent away, and keeps nobody from coming") {
  const test::Scratch scratch;
  const auto wait_for = [](const std::string& path) {
    for (int i = 0; i < 1000 && !std::filesystem::exists(path); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  };
  const auto codes = together(3, [&](const Launch& launch) {
    if (launch.rank == 1) wait_for(scratch.file("stranger"));
    const Launch own{.rank = launch.rank, .size = 2, .one_machine = true, .key = "test"};
    if (launch.rank < 2) return Processes(own, scratch.path(), 20).size() == 2 ? 0 : 11;
    wait_for(scratch.file(".meeting-test"));
    std::string host;
    int port = 0;
    std::ifstream(scratch.file(".meeting-test")) >> host >> port;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return 12;
    const std::string said = std::string(32, 'x') + std::string("\1\0\0\0", 4);  // "I am rank 1"
    if (::send(fd, said.data(), said.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(said.size())) return 13;
    test::put_file(scratch.file("stranger"), "x");
    char heard = 0;
    return ::recv(fd, &heard, 1, 0) > 0 ? 14 : 0;
  });
  CHECK(codes == std::vector<int>{0, 0, 0});
}

TEST_CASE("where one has ended the others end, too: with an error, or as they were told to") {
  const test::Scratch scratch;
  const auto codes = together(3, [&](const Launch& launch) {
    Processes all(launch, scratch.path(), 20);
    if (launch.rank == 1) return 0;
    if (launch.rank == 2) base::request_stop(SIGTERM);
    all.wait();
    return 0;
  });
  CHECK(codes == std::vector<int>{static_cast<int>(ExitCode::io), 0, static_cast<int>(ExitCode::terminated)});
}

TEST_CASE("what launchers say") {
  {
    const Environment none({});
    CHECK(train::launch_from_environment().size == 1);
  }
  {
    const Environment torchrun({{"RANK", "3"},
                                {"WORLD_SIZE", "4"},
                                {"LOCAL_RANK", "1"},
                                {"LOCAL_WORLD_SIZE", "2"},
                                {"MASTER_ADDR", "node-1"},
                                {"MASTER_PORT", "29500"},
                                {"TORCHELASTIC_RUN_ID", "a/b"}});
    const Launch launch = train::launch_from_environment();
    CHECK(launch.rank == 3);
    CHECK(launch.size == 4);
    CHECK(launch.local_rank == 1);
    CHECK(!launch.one_machine);
    CHECK(launch.address == "node-1");
    CHECK(launch.key == "a-b--29500-run");
  }
  {
    const Environment mpirun({{"OMPI_COMM_WORLD_RANK", "1"},
                              {"OMPI_COMM_WORLD_SIZE", "2"},
                              {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                              {"PMIX_NAMESPACE", "prterun-7"}});
    const Launch launch = train::launch_from_environment();
    CHECK(launch.rank == 1);
    CHECK(launch.one_machine);
    CHECK(launch.key == "prterun-7--run");
  }
  {  // a batch script's shell is no step: there is one process
    const Environment script({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "5"}});
    CHECK(train::launch_from_environment().size == 1);
  }
  {
    const Environment srun(
        {{"SLURM_PROCID", "6"}, {"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_JOB_ID", "5"}, {"SLURM_STEP_ID", "0"}});
    CHECK(train::launch_from_environment().rank == 6);
    CHECK(train::launch_from_environment().key == "5-0-run");
  }
  for (const auto& [rank, size] : {std::pair{"2", "2"}, {"x", "2"}, {"0", "-1"}, {"0", "99999"}}) {
    const Environment wrong({{"RANK", rank}, {"WORLD_SIZE", size}});
    CHECK(test::error_of(ExitCode::usage, [] { train::launch_from_environment(); }) != "(no error)");
  }
}
