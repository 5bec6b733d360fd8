// Checkpoints: whole or not at all, whatever fails.
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "train/run_state.h"

#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/instrumented_file_system.h"
#include "support/scratch.h"
#include "support/seeded.h"
#include "support/unsynced_file_system.h"

namespace {

using namespace atelier;
using namespace atelier::train;
using base::Error;
using base::ExitCode;
using test::error_of;
using test::InstrumentedFileSystem;
namespace fs = std::filesystem;

// A state that is all of one number; some tensors so that there are many writes.
RunState make_state(std::int64_t step) {
  RunState state;
  state.step = step;
  for (int i = 0; i < 10; ++i) {
    const std::string name = "layer." + std::to_string(i);
    state.weights[name] = at::full({3, 4}, static_cast<double>(step), at::kBFloat16);
    state.optimizer[name + ".exp_avg"] = at::full({3, 4}, static_cast<double>(step), at::kFloat);
  }
  state.random = {{"cpu", at::full({100}, step, at::kByte)}};
  state.history = {{"losses", at::full({step}, 0.1, at::kDouble)}};
  state.position = {{"epoch", 1}, {"row", step}};
  state.loop = {{"tokens", 12}};
  state.settings = {{"rank", 16}};
  return state;
}

void check_state(const RunState& state, std::int64_t step) {
  const RunState expected = make_state(step);
  CHECK(state.step == step);
  for (const auto member :
       {&RunState::weights, &RunState::optimizer, &RunState::ema, &RunState::random, &RunState::history}) {
    REQUIRE((state.*member).size() == (expected.*member).size());
    for (const auto& [name, tensor] : expected.*member) {
      CHECK(((state.*member).at(name).scalar_type() == tensor.scalar_type()));
      CHECK(at::equal((state.*member).at(name), tensor));
    }
  }
  CHECK((state.position == expected.position && state.loop == expected.loop && state.settings == expected.settings));
}

std::vector<std::string> entries(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("a state comes back as it was, and its folder is readable") {
  const test::Scratch scratch;
  const Checkpoints checkpoints(scratch.file("run"));
  CHECK_FALSE(checkpoints.load_newest());
  const std::string folder = checkpoints.save(
      make_state(7), [](const std::string& inside) { test::put_file(inside + "/adapter_config.json", "{}"); });
  CHECK(folder == scratch.file("run/checkpoint-7"));
  check_state(Checkpoints::load(folder), 7);
  CHECK((entries(folder) == std::vector<std::string>{"adapter_config.json", "history.safetensors",
                                                     "optimizer.safetensors", "random.safetensors", "state.json",
                                                     "weights.safetensors"}));
  RunState not_contiguous;
  not_contiguous.weights["t"] = test::seeded("t", {4, 6}).t();
  const RunState back = Checkpoints::load(checkpoints.save(not_contiguous));
  CHECK(at::equal(back.weights.at("t"), not_contiguous.weights.at("t")));
}

TEST_CASE("--keep: the newest ones and the best one stay") {
  const test::Scratch scratch;
  const Checkpoints checkpoints(scratch.path());
  for (std::int64_t step = 1; step <= 12; ++step) checkpoints.save(make_state(step));
  CHECK(checkpoints.steps().back() == 12);  // by number, not by name
  checkpoints.prune(11, 3, 4);
  CHECK((checkpoints.steps() == std::vector<std::int64_t>{4, 9, 10, 11}));
  checkpoints.prune(11, 0);
  CHECK((checkpoints.steps() == std::vector<std::int64_t>{11}));
  for (const char* other : {"checkpoint-", "checkpoint-x", "checkpoint-007", "checkpoint--1", "notes"}) {
    fs::create_directory(scratch.path() / other);
  }
  CHECK((checkpoints.steps() == std::vector<std::int64_t>{11}));
  checkpoints.clear();
  CHECK(checkpoints.steps().empty());
  CHECK(entries(scratch.path()).size() == 5);
}

TEST_CASE("a damaged newest checkpoint falls back to the one before") {
  for (const char* file : {"state.json", "weights.safetensors", "optimizer.safetensors", "random.safetensors"}) {
    for (const char* damage : {"bit", "cut", "missing", "digit"}) {
      CAPTURE(file);
      CAPTURE(damage);
      const test::Scratch scratch;
      const Checkpoints checkpoints(scratch.path());
      checkpoints.save(make_state(10));
      const std::string path = checkpoints.save(make_state(20)) + "/" + file;
      std::string bytes = test::get_file(path);
      if (*damage == 'm') {
        fs::remove(path);
      } else {
        if (*damage == 'c') bytes.resize(bytes.size() / 2);
        if (*damage == 'd')
          bytes[bytes.find_first_of("0123456789", std::string(file) == "state.json" ? bytes.find("row") : 0)] ^= 1;
        if (*damage == 'b') bytes[bytes.size() - 3] ^= 4;
        test::put_file(path, bytes);
      }
      const auto state = checkpoints.load_newest();
      REQUIRE(state);
      check_state(*state, 10);
      fs::remove_all(checkpoints.path(10));
      CHECK(test::contains(error_of(ExitCode::data, [&] { checkpoints.load_newest(); }), "no checkpoint is whole"));
    }
  }
}

TEST_CASE("a state.json that is not ours is refused") {
  const test::Scratch scratch;
  for (const char* text :
       {"", "[]", "{}", R"({"format":2,"step":1,"files":{}})", R"({"format":1,"step":1,"files":{},"sha256":"0"})",
        R"({"format":1,"step":1})", R"({"format":1,"step":1,"files":{"../x":{}}})",
        R"({"format":1,"step":1,"files":{"weights.safetensors":3}})"}) {
    CAPTURE(text);
    test::put_file(scratch.file("state.json"), text);
    CHECK(error_of(ExitCode::data, [&] { Checkpoints::load(scratch.path()); }) != "(no error)");
  }
  CHECK(error_of(ExitCode::no_input, [&] { Checkpoints::load(scratch.file("none")); }) != "(no error)");
}

TEST_CASE("disk full at every point of saving: an error, and the old checkpoint or the new one whole") {
  test::UnsyncedFileSystem unsynced;
  const io::ScopedFileSystem quick(unsynced);
  int moments = 1, after = 0;
  for (int k = 0; k < moments; ++k) {
    CAPTURE(k);
    const test::Scratch scratch;
    const Checkpoints checkpoints(scratch.path());
    checkpoints.save(make_state(1));
    InstrumentedFileSystem faulty([&](int moment, InstrumentedFileSystem::Kind) {
      if (moment == k) throw Error(ExitCode::io, "disk full");
    });
    {
      const io::ScopedFileSystem scope(faulty);
      CHECK(error_of(ExitCode::io, [&] { checkpoints.save(make_state(2)); }) == "disk full");
    }
    const std::vector<std::int64_t> steps = checkpoints.steps();
    const bool renamed = steps.back() == 2;
    after += renamed;
    const auto state = checkpoints.load_newest();
    REQUIRE(state);
    check_state(*state, renamed ? 2 : 1);
    CHECK(entries(scratch.path()).size() == steps.size());  // no litter
    if (k == 0) {
      InstrumentedFileSystem counting([](int, InstrumentedFileSystem::Kind) {});
      const io::ScopedFileSystem scope(counting);
      checkpoints.save(make_state(2));
      moments = counting.moments();
    }
  }
  MESSAGE("moments of saving: " << moments);
  CHECK(moments > 130);
  CHECK(after == 3);  // after the rename, around the folder's sync
}

TEST_CASE("SIGKILL at every point of saving and replacing leaves the old or the new checkpoint, bit for bit") {
  test::UnsyncedFileSystem unsynced;
  const io::ScopedFileSystem quick(unsynced);
  for (const std::int64_t next : {2, 1}) {  // a new one; the same step again
    int killed = 0, kept_old = 0;
    for (bool done = false; !done; ++killed) {
      const test::Scratch scratch;
      const Checkpoints checkpoints(scratch.path());
      RunState old = make_state(1), fresh = make_state(next);
      fresh.loop["tokens"] = 13;
      checkpoints.save(old);
      const pid_t child = fork();
      if (child == 0) {
        InstrumentedFileSystem deadly([&](int moment, InstrumentedFileSystem::Kind) {
          if (moment == killed) raise(SIGKILL);
        });
        const io::ScopedFileSystem scope(deadly);
        checkpoints.save(fresh);
        _exit(0);
      }
      int status = 0;
      waitpid(child, &status, 0);
      done = WIFEXITED(status);
      auto state = checkpoints.load_newest();
      REQUIRE(state);
      const bool is_old = state->loop["tokens"] == 12;
      kept_old += is_old;
      state->loop["tokens"] = 12;
      check_state(*state, is_old ? 1 : next);
      checkpoints.save(fresh);  // what the dead left behind is in nobody's way
      CHECK(entries(scratch.path()).size() == (next == 1 ? 1 : 2));
    }
    MESSAGE("killed at " << killed - 1 << " points, the old one stood after " << kept_old);
    CHECK(killed > 130);
    CHECK(kept_old > 120);
    CHECK(kept_old < killed);
  }
}

TEST_CASE("random states come back") {
  const TensorMap states = capture_random();
  const at::Tensor first = at::rand({20});
  CHECK_FALSE(at::equal(at::rand({20}), first));
  restore_random(states);
  CHECK(at::equal(at::rand({20}), first));
  CHECK(test::contains(error_of(ExitCode::data,
                                [] {
                                  restore_random({{"cpu", at::zeros({3}, at::kByte)}});
                                }),
                       "\"cpu\""));
}
