// sd-train-lora and sd-dreambooth can be stopped by anything at any moment, and the same command makes of it what would have come
// of it without (RELIABILITY.md).
#include <csignal>
#include <cstdlib>
#include <functional>

#include "image_tools/trainers.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::test;

void check_refused(const Result& result, int code, const std::string& part) {
  CAPTURE(result.err);
  CHECK(result.code == code);
  CHECK(contains(result.err, part));
}

int moments() {
  const char* wanted = std::getenv("ATELIER_TEST_MOMENTS");  // 50 in a thorough run
  return wanted != nullptr ? std::atoi(wanted) : 4;
}

/// Sends `signal` at so many moments spread over a run; `after` sees what it left, then the same command finishes it.
void stop_at_moments(const Way& w, int signal,
                     const std::function<void(const Studio&, const std::string&, const Result&)>& after) {
  const Studio studio;
  const std::vector<std::string> more{"--save-every", "3"};
  const Result whole = run(studio.process(w, "whole", 24, more));
  REQUIRE(whole.code == 0);
  for (int i = 0; i < moments(); ++i) {
    CAPTURE(i);
    const std::string name = "stopped" + std::to_string(i);
    Process process = studio.process(w, name, 24, more);
    process.signal = signal;
    process.signal_after = std::chrono::milliseconds(static_cast<int>(1000 * whole.seconds * (i + 0.5) / moments()));
    const Result r = run(process);
    CAPTURE(r.err);
    after(studio, name, r);
    studio.finish(w, name, 24, more);
    studio.check_same_state(w, "whole", name, 24, /*ema=*/false);
    studio.check_same_output(w, "whole", name);
    // A killed process can leave a hidden file that it was writing in the cache, which other runs may share: nobody can tell that
    // its writer is gone. Those of checkpoints are removed (test_run_state).
    if (signal != SIGKILL) CHECK(studio.litter(name).empty());
  }
}

}  // namespace

TEST_CASE("resumed after every one of 12 steps, a run is the one that never stopped, bit for bit") {
  for (const Way& w : ways()) {
    CAPTURE(w.name);
    const Studio studio;
    const auto steps = [&](const std::string& name, int n, std::vector<std::string> more = {}) {
      more.insert(more.end(), {"--scheduler", "constant", "--warmup", "0", "--ema", "0.9", "--keep", "30"});
      studio.finish(w, name, n, more);
    };
    steps("whole", 12, {"--save-every", "1"});
    for (int n = 1; n <= 12; ++n) {
      CAPTURE(n);
      steps("parts", n);
      studio.check_same_state(w, "whole", "parts", n);
    }
    studio.check_same_output(w, "whole", "parts");
  }
}

TEST_CASE("SIGTERM, SIGINT at any moment: exit 75 and a state that the same command goes on with, bit for bit") {
  for (const Way& w : ways()) {
    CAPTURE(w.name);
    for (const int signal : {SIGTERM, SIGINT}) {
      if (signal == SIGINT && &w != &ways().back()) continue;  // the handler is the same
      stop_at_moments(w, signal, [&](const Studio& studio, const std::string& name, const Result& r) {
        // Before there was anything to resume: while libraries load the system's own way of ending a program holds.
        const bool early = r.code == 130 || r.code == 143 || r.signal == signal;
        CHECK((r.code == 75 || r.code == 0 || early));
        if (r.code == 75) CHECK(!studio.has_output(w, name));
        CHECK(studio.litter(name).empty());
      });
    }
  }
}

TEST_CASE("SIGKILL at any moment: no output or a whole one, and the same command finishes") {
  for (const char* name : {"lora, all caches", "dreambooth, all weights"}) {
    const Way& w = way(name);
    CAPTURE(w.name);
    stop_at_moments(w, SIGKILL, [&](const Studio& studio, const std::string& run_name, const Result& r) {
      CHECK((r.signal == SIGKILL || r.code == 0));
      if (studio.has_output(w, run_name)) studio.check_same_output(w, "whole", run_name);
    });
  }
}

TEST_CASE("a full disk: exit 74, no output, no litter, and room again finishes the run") {
  for (const Way& w : ways()) {
    CAPTURE(w.name);
    const Studio studio;
    studio.finish(w, "whole", 4, {"--save-every", "2"});
    for (const std::uint64_t limit : {200u, 2000u, 6000u, 30000u, 100000u}) {
      CAPTURE(limit);
      const std::string name = "full" + std::to_string(limit);
      Process process = studio.process(w, name, 4, {"--save-every", "2"});
      process.max_file = limit;
      const Result r = run(process);
      CAPTURE(r.err);
      CHECK(r.code == 74);
      CHECK(!studio.has_output(w, name));
      CHECK(studio.litter(name).empty());
      studio.finish(w, name, 4, {"--save-every", "2"});
      studio.check_same_output(w, "whole", name);
    }
    Process process = studio.process(w, "whole", 4, {"--save-every", "2"});
    process.out = Wire::full;
    CHECK(run(process).code == 74);
  }
}

TEST_CASE("a run over other pictures is not gone on with") {
  for (const Way& w : ways()) {
    CAPTURE(w.name);
    const Studio studio;
    studio.finish(w, "run", 2);
    const std::string checkpoint = studio.file("run.run/checkpoint-2/weights.safetensors"), before = get_file(checkpoint);
    std::filesystem::remove(studio.file("data/4.png"));
    check_refused(run(studio.process(w, "run", 4)), 64, "the run there has data");
    CHECK(get_file(checkpoint) == before);
    CHECK(!std::filesystem::exists(studio.file("run.run/checkpoint-4")));
  }
}

TEST_CASE("a loss that is not finite: exit 4, no output, and the last good state stays") {
  for (const Way& w : ways()) {
    CAPTURE(w.name);
    const Studio studio;
    // Each step takes the weights a million times.
    const std::vector<std::string> more{"--unet-lr",      "1e3", "--scheduler", "constant", "--warmup", "0",
                                        "--weight-decay", "1e3", "--save-every", "1"};
    const Result r = run(studio.process(w, "run", 12, more));
    check_refused(r, 4, "not finite");
    CHECK(contains(r.err, "checkpoint-"));
    CHECK(!studio.has_output(w, "run"));
    CHECK(std::filesystem::exists(studio.file("run.run/checkpoint-1/state.json")));
    CHECK(studio.litter("run").empty());
    check_refused(run(studio.process(w, "run", 12, more)), 4, "not finite");  // from the state that was kept
  }
}
