// sd-train-lora and sd-dreambooth in several processes, as torchrun starts them.
#include <csignal>
#include <thread>

#include <ATen/TensorOperators.h>

#include "image_tools/trainers.h"

namespace {

using namespace atelier;
using namespace atelier::test;

/// The same command in two processes; the second one's result is checked here.
Result two(const Studio& studio, const Way& w, const std::string& name, int steps,
           const std::vector<std::string>& more = {}) {
  std::vector<Process> processes;
  for (const char* rank : {"0", "1"}) {
    processes.push_back(studio.process(w, name, steps, more));
    processes.back().env = {{"RANK", rank},
                            {"WORLD_SIZE", "2"},
                            {"LOCAL_RANK", rank},
                            {"LOCAL_WORLD_SIZE", "2"},
                            {"MASTER_ADDR", "127.0.0.1"},
                            {"MASTER_PORT", "29517"}};
  }
  Session second(processes[1]);
  const Result first = run(processes[0]);
  const Result other = second.wait();
  CAPTURE(other.err);
  CHECK(other.code == first.code);
  CHECK(other.out.empty());
  return first;
}

/// The largest difference of two checkpoints' weights, and whether they are the same tensors.
double difference(const Studio& studio, const Way& w, const std::string& a, const std::string& b, int step) {
  const std::string path = "/checkpoint-" + std::to_string(step) + "/weights.safetensors";
  const auto first = io::read_tensors(studio.run_of(w, a) + path),
             second = io::read_tensors(studio.run_of(w, b) + path);
  REQUIRE(first.size() == second.size());
  double largest = 0;
  for (const auto& [name, tensor] : first)
    largest = std::max(largest, (tensor - second.at(name)).abs().max().item<double>());
  return largest;
}

}  // namespace

TEST_CASE("two processes make of it what one with twice the accumulation makes, but for the order of sums") {
  for (const Way& w : ways()) {
    if (w.name == "lora, all caches") continue;  // its dropout is drawn otherwise
    CAPTURE(w.name);
    const Studio studio;
    const bool accumulates = std::find(w.args.begin(), w.args.end(), "--grad-accum") != w.args.end();
    const std::vector<std::string> twice{"--grad-accum", accumulates ? "4" : "2"}, more{"--json", "--ema", "0.9"};
    std::vector<std::string> alone = more;
    alone.insert(alone.end(), twice.begin(), twice.end());
    studio.finish(w, "one", 5, alone);
    const Result r = two(studio, w, "two", 5, more);
    CAPTURE(r.err);
    REQUIRE(r.code == 0);
    CHECK(one_record(r)["end"] == "finished");
    CHECK(studio.has_output(w, "two"));
    // Adam's steps of a rate of 1e-3 are all of one size at first: what rounds otherwise may go another way where a gradient is almost 0.
    CHECK(difference(studio, w, "one", "two", 5) < 1e-4);
    CHECK(studio.litter("two").empty());
  }
}

TEST_CASE("a run of two processes is gone on with by one, and by two again") {
  const Studio studio;
  const Way& w = way("dreambooth, all weights");
  const std::vector<std::string> fixed{"--scheduler", "constant", "--warmup", "0"};
  std::vector<std::string> alone = fixed;
  alone.insert(alone.end(), {"--grad-accum", "2"});
  studio.finish(w, "one", 6, alone);
  REQUIRE(two(studio, w, "two", 2, fixed).code == 0);
  studio.finish(w, "two", 4, alone);
  REQUIRE(two(studio, w, "two", 6, fixed).code == 0);
  CHECK(difference(studio, w, "one", "two", 6) < 1e-4);
}

TEST_CASE("SIGTERM to one of them stops both after the same step") {
  const Studio studio;
  const Way& w = way("lora, text encoder");
  const std::vector<std::string> more{"--save-every", "5"};
  std::vector<Process> processes;
  for (const char* rank : {"0", "1"}) {
    processes.push_back(studio.process(w, "stopped", 60, more));
    processes.back().env = {{"RANK", rank}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "29518"}};
  }
  Session second(processes[1]);
  Session first(processes[0]);
  for (int i = 0; i < 3000 && !std::filesystem::exists(studio.file("stopped.run/checkpoint-5")); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  second.kill(SIGTERM);
  const Result a = first.wait(), b = second.wait();
  CAPTURE(a.err);
  CAPTURE(b.err);
  CHECK(a.code == 75);
  CHECK(b.code == 75);
  CHECK(!studio.has_output(w, "stopped"));
  REQUIRE(two(studio, w, "stopped", 60, more).code == 0);
  CHECK(studio.has_output(w, "stopped"));
}
