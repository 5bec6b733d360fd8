// How fast this machine reads memory at the moment, the measure beside which scripts/bench puts decoding: read_bandwidth
// [threads] [MiB] [rounds] prints GB/s of each round, one a line.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

namespace {

/// Sums n numbers, several at a time, so that only the memory is waited for.
std::uint64_t read_all(const std::uint64_t* from, std::size_t n) {
  std::uint64_t sums[16] = {};
  for (std::size_t i = 0; i + 16 <= n; i += 16)
    for (int k = 0; k < 16; ++k) sums[k] ^= from[i + k];
  std::uint64_t sum = 0;
  for (const std::uint64_t s : sums) sum ^= s;
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  const auto number = [&](int i, long fallback) { return argc > i ? std::strtol(argv[i], nullptr, 10) : fallback; };
  const long threads = number(1, 2), mebibytes = number(2, 1024), rounds = number(3, 5);
  if (threads < 1 || mebibytes < 1 || rounds < 1) return 64;
  const std::size_t share = (static_cast<std::size_t>(mebibytes) << 20) / 8 / static_cast<std::size_t>(threads);
  std::vector<std::unique_ptr<std::uint64_t[]>> memory(static_cast<std::size_t>(threads));
  std::vector<std::uint64_t> results(memory.size());
  const auto in_threads = [&](const auto& work) {
    std::vector<std::thread> all;
    for (std::size_t t = 0; t < memory.size(); ++t) all.emplace_back([&, t] { work(t); });
    for (auto& thread : all) thread.join();
  };
  in_threads([&](std::size_t t) {  // each its own pages
    memory[t].reset(new std::uint64_t[share]);
    std::memset(memory[t].get(), 1, share * 8);
  });
  for (long round = 0; round < rounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    in_threads([&](std::size_t t) { results[t] ^= read_all(memory[t].get(), share); });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%.2f\n", static_cast<double>(share * 8 * memory.size()) / seconds / 1e9);
  }
  volatile std::uint64_t keep = results[0];  // what is read must be needed
  static_cast<void>(keep);
  return 0;
}
