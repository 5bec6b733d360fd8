// Drives a fuzz target where libFuzzer is not at hand:
//   fuzz_safetensors [--runs N] [--seed S]    N inputs, run i made from seed S + i alone
//   fuzz_safetensors FILE...                  replays inputs
// A crash names the run, so that `--runs 1 --seed S+i` shows it again, and keeps its input in ./fuzz-crash.bin.
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz/inputs.h"
#include "support/scratch.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

std::uint64_t number(const char* text) {
  std::uint64_t value = 0;
  std::from_chars(text, text + std::strlen(text), value);
  return value;
}

// Runs in a child, which leaves the number of its current run where the parent can see it after a crash.
int run_all(std::uint64_t runs, std::uint64_t seed) {
  auto* current = static_cast<volatile std::uint64_t*>(
      mmap(nullptr, sizeof(std::uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const pid_t child = fork();
  if (child == 0) {
    for (std::uint64_t i = 0; i < runs; ++i) {
      *current = i;
      run(atelier::test::fuzz_input(seed + i));
    }
    std::exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    std::printf("%llu runs from seed %llu, 0 crashes\n", static_cast<unsigned long long>(runs),
                static_cast<unsigned long long>(seed));
    return 0;
  }
  const std::uint64_t bad = seed + *current;
  atelier::test::put_file("fuzz-crash.bin", atelier::test::fuzz_input(bad));
  std::fprintf(stderr, "crash; again with --runs 1 --seed %llu, or with the file fuzz-crash.bin\n",
               static_cast<unsigned long long>(bad));
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t runs = 50'000, seed = 1;
  bool replayed = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--runs" && i + 1 < argc) {
      runs = number(argv[++i]);
    } else if (argument == "--seed" && i + 1 < argc) {
      seed = number(argv[++i]);
    } else {
      run(atelier::test::get_file(argv[i]));
      replayed = true;
    }
  }
  return replayed ? 0 : run_all(runs, seed);
}
