// The training loop on a small network: exact resumes, whatever it was stopped by.
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/stop.h"
#include "train/loop.h"
#include "train/run_state.h"

#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/scratch.h"
#include "support/seeded.h"
#include "support/unsynced_file_system.h"

namespace {

using namespace atelier;
using namespace atelier::train;
using base::ExitCode;
using base::Json;
using test::error_of;
namespace fs = std::filesystem;

struct Rows : Batch {
  at::Tensor x, y, weights;  // (B, 5), (B, 3), (B, 1)
};

/// Two layers with dropout; rows weigh 1 to 4.
class Network final : public Task {
 public:
  explicit Network(std::int64_t batch = 2, double dropout = 0.2) : batch_(batch), dropout_(dropout) {
    const std::vector<std::pair<std::string, std::vector<std::int64_t>>> shapes{
        {"0.weight", {8, 5}}, {"0.bias", {8}}, {"1.weight", {3, 8}}, {"1.bias", {3}}};
    for (const auto& [name, shape] : shapes) {
      parameters_.push_back({name, test::seeded("network." + name, shape, 0.5).requires_grad_(true)});
    }
  }

  std::vector<Parameter> parameters() override { return parameters_; }

  std::unique_ptr<Batch> next() override {
    tick();
    auto rows = std::make_unique<Rows>();
    rows->x = test::seeded("rows.x", {kRows, 5}).roll(-row_, 0).narrow(0, 0, batch_);
    rows->y = test::seeded("rows.y", {kRows, 3}).roll(-row_, 0).narrow(0, 0, batch_);
    rows->weights = (test::seeded("rows.w", {kRows, 1}) * 1.99 + 2).floor().add(1).roll(-row_, 0).narrow(0, 0, batch_);
    rows->weight = unweighted ? 0 : rows->weights.sum().item<double>();
    rows->tokens = static_cast<std::uint64_t>(rows->weight);
    row_ = (row_ + batch_) % kRows;
    return rows;
  }

  at::Tensor loss(const Batch& batch) override {
    tick();
    const Rows& rows = static_cast<const Rows&>(batch);
    const at::Tensor sum = ((forward(rows.x, dropout_) - rows.y).square().mean(-1, true) * rows.weights).sum();
    return sum * loss_factor;
  }

  Json position() const override { return {{"row", row_}}; }
  void seek(const Json& position) override { row_ = position["row"]; }

  std::optional<double> evaluate() override {
    tick();
    at::rand({3});  // draws must not change the training
    ++evaluations;
    if (!evaluation.empty()) return evaluation[std::min(evaluations, evaluation.size()) - 1];
    const at::Tensor x = test::seeded("held.x", {6, 5}), y = test::seeded("held.y", {6, 3});
    const double value = (forward(x, 0) - y).square().mean().item<double>();
    tick();
    return value;
  }

  void write_checkpoint(const std::string& folder) override { test::put_file(folder + "/task", "mine"); }

  std::function<void(int)> at_call;  // with the number of the call, from 0
  std::vector<double> evaluation;    // what evaluate() says instead of the truth, the last one again and again
  std::size_t evaluations = 0;
  double loss_factor = 1;
  bool unweighted = false;
  int calls = 0;

 private:
  static constexpr std::int64_t kRows = 14;

  void tick() {
    if (at_call) at_call(calls);
    ++calls;
    base::throw_if_stopped();
  }

  at::Tensor forward(const at::Tensor& x, double dropout) const {
    at::Tensor hidden = at::tanh(at::linear(x, parameters_[0].tensor, parameters_[1].tensor));
    if (dropout > 0) hidden = at::dropout(hidden, dropout, true);
    return at::linear(hidden, parameters_[2].tensor, parameters_[3].tensor);
  }

  std::vector<Parameter> parameters_;
  std::int64_t batch_, row_ = 0;
  double dropout_;
};

LoopOptions make_options(const test::Scratch& scratch, const std::string& name = "run") {
  LoopOptions options;
  options.run_folder = scratch.file(name);
  options.steps = 20;
  options.accumulation = 2;
  options.lr = 1e-2;
  options.schedule = {.kind = ScheduleKind::cosine, .warmup_steps = 3};
  options.max_grad_norm = 1;
  options.settings = {{"model", "network"}, {"rank", 4}};
  return options;
}

void seed_torch(std::uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU);
  generator.set_current_seed(seed);
}

std::vector<Json> metrics_of(const LoopOptions& options) {
  std::vector<Json> lines;
  std::string text = test::get_file(options.run_folder + "/metrics.jsonl");
  for (std::size_t begin = 0, end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    lines.push_back(Json::parse(text.substr(begin, end - begin)));
  }
  return lines;
}

/// Weights, optimiser, average, losses and metrics of two finished runs are the same bits.
void check_equal(const LoopOptions& a, const LoopOptions& b, std::int64_t steps) {
  const RunState one = Checkpoints::load(Checkpoints(a.run_folder).path(steps));
  const RunState two = Checkpoints::load(Checkpoints(b.run_folder).path(steps));
  for (const auto member :
       {&RunState::weights, &RunState::optimizer, &RunState::ema, &RunState::random, &RunState::history}) {
    REQUIRE((one.*member).size() == (two.*member).size());
    for (const auto& [name, tensor] : one.*member) {
      CAPTURE(name);
      CHECK(at::equal(tensor, (two.*member).at(name)));
    }
  }
  CHECK((one.position == two.position && one.loop == two.loop));
  const std::vector<Json> lines = metrics_of(a), others = metrics_of(b);
  REQUIRE(lines.size() == others.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    for (const char* key : {"step", "loss", "lr", "grad_norm", "tokens", "eval_loss"}) {
      CHECK(lines[i].value(key, Json()) == others[i].value(key, Json()));
    }
  }
}

/// Runs until the task's call `at` is reached, stops there by a signal, and resumes with a fresh task. Returns the step
/// that the checkpoint had.
std::int64_t stop_and_resume(const LoopOptions& options, int at) {
  seed_torch(11);
  Network first;
  first.at_call = [at](int call) {
    if (call == at) base::request_stop(SIGTERM);
  };
  CHECK(test::contains(error_of(ExitCode::resumable, [&] { train::train(first, options); }),
                       "stopped by SIGTERM after step"));
  base::clear_stop();
  const std::int64_t step = Checkpoints(options.run_folder).steps().back();
  seed_torch(999);  // what the new process happens to have
  Network second;
  CHECK((train::train(second, options).end == RunResult::End::finished));
  return step;
}

/// For networks so small that threads only wait for one another; and a forked process has lost its parent's.
struct OneThread {
  const int before = at::get_num_threads();
  OneThread() { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(before); }
};

struct Quiet {
  Quiet() { base::set_log_level(base::LogLevel::quiet); }
  ~Quiet() { base::set_log_level(base::LogLevel::normal); }
};

}  // namespace

TEST_CASE("a run learns, and leaves its records") {
  const Quiet quiet;
  const test::Scratch scratch;
  LoopOptions options = make_options(scratch);
  options.steps = 60;
  options.eval_every = 30;
  Network network;
  seed_torch(11);
  const RunResult result = train::train(network, options);
  CHECK((result.end == RunResult::End::finished));
  CHECK(result.steps == 60);
  CHECK(result.losses.size() == 60);
  CHECK(result.losses.back() < 0.7 * result.losses.front());
  const std::vector<Json> lines = metrics_of(options);
  CHECK(lines.size() == 63);
  CHECK((lines[0]["step"] == 0 && lines[0]["eval_loss"] == *result.first_eval));
  CHECK(lines[1]["lr"] == 0);
  CHECK(lines[2]["lr"].get<double>() == doctest::Approx(1e-2 / 3));
  for (const char* key : {"step", "loss", "lr", "grad_norm", "tokens", "tokens_per_s", "peak_rss_bytes"})
    CHECK(lines[9].contains(key));
  CHECK(lines[9]["loss"] == result.losses[8]);
  CHECK((lines[31]["step"] == 30 && lines[31].contains("eval_loss")));
  CHECK(test::get_file(result.checkpoint + "/task") == "mine");
  Network again;
  const RunResult finished = train::train(again, options);
  CHECK((finished.end == RunResult::End::was_finished));
  CHECK((finished.losses == result.losses && finished.first_eval == result.first_eval));
  CHECK(at::equal(again.parameters()[0].tensor, network.parameters()[0].tensor));
  CHECK(again.calls == 0);
}

TEST_CASE("batch 4 x 1 equals batch 1 x 4, with rows that weigh differently") {
  const Quiet quiet;
  const test::Scratch scratch;
  std::vector<std::vector<double>> losses;
  std::vector<at::Tensor> weights;
  for (const std::int64_t batch : {4, 1}) {
    LoopOptions options = make_options(scratch, "batch" + std::to_string(batch));
    options.accumulation = 4 / batch;
    Network network(batch, 0);
    losses.push_back(train::train(network, options).losses);
    weights.push_back(network.parameters()[0].tensor.detach());
  }
  double largest = 0;
  for (std::size_t i = 0; i < 20; ++i) largest = std::max(largest, std::abs(losses[0][i] - losses[1][i]));
  MESSAGE("largest difference of the losses: " << largest);
  CHECK(largest < 1e-5);
  CHECK((weights[0] - weights[1]).abs().max().item<double>() < 1e-5);
}

TEST_CASE("stopped at any of 20 steps, in data, loss or evaluation, and resumed: the same bits") {
  const Quiet quiet;
  const OneThread one_thread;
  test::UnsyncedFileSystem unsynced;
  const io::ScopedFileSystem quick(unsynced);
  for (const char* kind : {"adamw", "adamw8bit", "adafactor", "lion", "sgd"}) {
    CAPTURE(kind);
    const test::Scratch scratch;
    LoopOptions whole = make_options(scratch, "whole");
    whole.optimizer = {.kind = optimizer_kind(kind), .weight_decay = 0.01, .beta1 = 0.9, .beta2 = {}};
    whole.ema_decay = 0.9;
    whole.eval_every = 4;
    whole.save_every = 7;
    whole.keep = 2;
    seed_torch(11);
    Network network;
    train::train(network, whole);
    std::map<std::int64_t, int> stopped;
    const int stride = std::string(kind) == "adamw" ? 1 : 9;
    for (int call = 0; call < network.calls; call += stride) {
      CAPTURE(call);
      LoopOptions parts = whole;
      parts.run_folder = scratch.file("parts" + std::to_string(call));
      ++stopped[stop_and_resume(parts, call)];
      check_equal(whole, parts, 20);
    }
    if (stride == 1) CHECK(stopped.size() == 21);  // before each step, and in the last evaluation
    if (stride == 1) MESSAGE("stopped at " << network.calls << " calls");
  }
}

TEST_CASE(
    "SIGTERM at 50 random moments: exit 75, no step lost, and in the end the losses of a run that was left alone") {
  const Quiet quiet;
  test::UnsyncedFileSystem unsynced;
  const io::ScopedFileSystem quick(unsynced);
  const test::Scratch scratch;
  LoopOptions options = make_options(scratch);
  options.steps = 1000000;
  options.schedule = {.kind = ScheduleKind::constant};
  options.save_every = 50;
  const OneThread one_thread;
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    CAPTURE(round);
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    const pid_t child = fork();
    if (child == 0) {
      base::install_stop_handlers();
      seed_torch(11);
      Network network;
      network.at_call = [&](int call) {
        if (call == 0 && write(ready[1], "", 1) != 1) _exit(1);
      };
      try {
        train::train(network, options);
      } catch (const base::Error& error) {
        _exit(static_cast<int>(error.code()));
      }
      _exit(0);
    }
    char byte = 0;
    CHECK(read(ready[0], &byte, 1) == 1);
    usleep(random() % 30000);
    kill(child, SIGTERM);
    int status = 0;
    waitpid(child, &status, 0);
    for (const int end : ready) close(end);
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 75));
    const auto state = Checkpoints(options.run_folder).load_newest();
    REQUIRE(state);
    CHECK(metrics_of(options).back()["step"] == state->step);
  }
  const RunState end = *Checkpoints(options.run_folder).load_newest();
  MESSAGE("steps: " << end.step);
  CHECK(end.step > 50);
  LoopOptions whole = options;
  whole.run_folder = scratch.file("whole");
  whole.steps = end.step;
  seed_torch(11);
  Network network;
  const std::vector<double> losses = train::train(network, whole).losses;
  CHECK(at::equal(end.history.at("losses"), at::tensor(losses, at::kDouble)));
  CHECK(at::equal(end.weights.at("0.weight"), network.parameters()[0].tensor));
}

TEST_CASE("a process that dies goes on from the last checkpoint, and its metrics with it") {
  const Quiet quiet;
  const test::Scratch scratch;
  LoopOptions whole = make_options(scratch, "whole"), parts = make_options(scratch, "parts");
  whole.save_every = parts.save_every = 4;
  for (LoopOptions* options : {&whole, &parts}) {
    seed_torch(11);
    Network network;
    if (options == &parts) {
      struct Death {};
      network.at_call = [](int call) {
        if (call == 60) throw Death();
      };
      CHECK_THROWS_AS(train::train(network, parts), Death);
      CHECK(metrics_of(parts).back()["step"] > 12);
      CHECK((Checkpoints(parts.run_folder).steps() == std::vector<std::int64_t>{12}));
      network.at_call = {};
    }
    Network fresh;
    train::train(fresh, *options);
  }
  check_equal(whole, parts, 20);
}

TEST_CASE("a damaged newest checkpoint is passed by, and does not count for --keep") {
  const Quiet quiet;
  const test::Scratch scratch;
  LoopOptions options = make_options(scratch);
  options.save_every = 5;
  options.keep = 2;
  seed_torch(11);
  Network network;
  const RunResult whole = train::train(network, options);
  test::put_file(scratch.file("run/checkpoint-20/weights.safetensors"), "damaged");
  options.keep = 1;
  options.save_every = 2;
  Network second;
  CHECK((train::train(second, options).losses == whole.losses));
  CHECK((Checkpoints(options.run_folder).steps() == std::vector<std::int64_t>{20}));
  CHECK(at::equal(second.parameters()[0].tensor, network.parameters()[0].tensor));
}

TEST_CASE("early stop, best checkpoint and what is kept") {
  const Quiet quiet;
  const test::Scratch scratch;
  LoopOptions options = make_options(scratch);
  options.steps = 100;
  options.eval_every = 2;
  options.early_stop = 3;
  Network network;
  network.evaluation = {5, 4, 3, 3, 3.5, 2.9, 3, 3, 3, 1};  // after steps 0, 2, 4, ...: best after 10
  const RunResult result = train::train(network, options);
  CHECK((result.end == RunResult::End::early_stopped));
  CHECK(result.steps == 16);
  CHECK((result.first_eval == 5 && result.best_eval == 2.9 && result.best_step == 10));
  CHECK((Checkpoints(options.run_folder).steps() == std::vector<std::int64_t>{10, 16}));
  Network again;
  CHECK((train::train(again, options).end == RunResult::End::was_finished));
  Network worse;
  worse.evaluation = {1, 2};
  options.run_folder = scratch.file("worse");
  const RunResult none = train::train(worse, options);
  CHECK((none.steps == 6 && none.best_step == 0 && none.best_eval == 1));
}

TEST_CASE("a loss that is not finite: exit 4, and the last good state is kept") {
  const Quiet quiet;
  const test::Scratch scratch;
  const LoopOptions options = make_options(scratch), whole = make_options(scratch, "whole");
  seed_torch(11);
  Network network;
  network.at_call = [&](int call) {
    if (call == 30) network.loss_factor = std::numeric_limits<double>::quiet_NaN();
  };
  CHECK(error_of(ExitCode::condition, [&] { train::train(network, options); }) == "step 8: the loss is not finite");
  CHECK((Checkpoints(options.run_folder).steps() == std::vector<std::int64_t>{7}));
  for (const Parameter& parameter : network.parameters()) CHECK(parameter.tensor.isfinite().all().item<bool>());
  Network repaired, untouched;
  train::train(repaired, options);
  seed_torch(11);
  train::train(untouched, whole);
  check_equal(options, whole, 20);
}

TEST_CASE("a gradient that is not finite, and weights that are not, take no good state's place") {
  const Quiet quiet;
  const test::Scratch scratch;
  LoopOptions options = make_options(scratch);
  Network network;
  network.at_call = [&](int call) {
    if (call == 30) network.loss_factor = 1e38;  // the loss fits f32, its gradient's norm does not
  };
  CHECK(error_of(ExitCode::condition, [&] { train::train(network, options); }) != "(no error)");
  check_equal(options, options, 7);
  options.run_folder = scratch.file("wild");
  options.lr = 1e38;
  options.save_every = 1;
  options.optimizer.kind = OptimizerKind::sgd;
  options.max_grad_norm = 0;
  Network wild;
  CHECK(error_of(ExitCode::condition, [&] { train::train(wild, options); }) != "(no error)");
  const auto state = Checkpoints(options.run_folder).load_newest();
  REQUIRE(state);
  for (const auto& [name, tensor] : state->weights) CHECK(tensor.isfinite().all().item<bool>());
}

TEST_CASE("fp16: a gradient that overflows skips the step and lowers the loss scale") {
  const Quiet quiet;
  const test::Scratch scratch;
  LoopOptions options = make_options(scratch);
  options.precision = Precision::fp16;
  options.schedule.warmup_steps = 0;
  options.steps = 3;
  Network network(2, 0);
  const at::Tensor before = network.parameters()[2].tensor.detach().clone();
  network.loss_factor = 1e5;  // times 65536: more than f16 holds where autocast multiplies in it
  network.at_call = [&](int call) {
    if (call == 5) CHECK(at::equal(network.parameters()[2].tensor, before));  // after the first step
    if (call == 5) network.loss_factor = 1e-3;
  };
  train::train(network, options);
  const RunState state = Checkpoints::load(Checkpoints(options.run_folder).path(3));
  CHECK(state.loop["loss_scale"]["scale"] == 32768);
  CHECK_FALSE(at::equal(network.parameters()[2].tensor, before));
  CHECK(state.optimizer.at("0.weight.step").item<double>() == 2);
}

TEST_CASE("bf16 autocast computes in bf16 and keeps f32 weights") {
  const Quiet quiet;
  const test::Scratch scratch;
  std::vector<double> losses;
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    LoopOptions options = make_options(scratch, precision == Precision::bf16 ? "bf16" : "fp32");
    options.precision = precision;
    Network network(2, 0);
    losses.push_back(train::train(network, options).losses.back());
    CHECK((network.parameters()[0].tensor.scalar_type() == at::kFloat));
  }
  CHECK(losses[0] != losses[1]);
  CHECK(losses[0] == doctest::Approx(losses[1]).epsilon(0.02));
  const at::NoGradGuard no_grad;
  const at::Tensor x = test::seeded("x", {2, 5}), w = test::seeded("w", {3, 5});
  const auto dtype = [&] { return at::linear(x, w).scalar_type(); };
  {
    const AutocastScope outer(Precision::bf16, at::kCPU);
    CHECK((dtype() == at::kBFloat16));
    {
      const AutocastScope inner(Precision::fp16, at::kCPU);
      CHECK((dtype() == at::kHalf));
    }
    CHECK((dtype() == at::kBFloat16));
  }
  CHECK((dtype() == at::kFloat));
  CHECK(test::contains(error_of(ExitCode::unavailable, [] { check_precision(Precision::fp16, at::kCPU); }), "GPU"));
}

TEST_CASE("a folder that holds another run") {
  const Quiet quiet;
  const test::Scratch scratch;
  LoopOptions options = make_options(scratch);
  options.steps = 4;
  {
    Network network;
    train::train(network, options);
  }
  Network network;
  options.resume = "never";
  CHECK(
      test::contains(error_of(ExitCode::cannot_create, [&] { train::train(network, options); }), "holds another run"));
  options.resume = "auto";
  options.settings["rank"] = 8;
  CHECK(test::contains(error_of(ExitCode::usage, [&] { train::train(network, options); }),
                       "has rank 4, and now it is 8"));
  options.overwrite = true;
  CHECK((train::train(network, options).end == RunResult::End::finished));
  options.overwrite = false;
  options.steps = 6;  // a longer run goes on from the shorter one
  Network longer;
  CHECK(train::train(longer, options).steps == 6);
  options.resume = scratch.file("run/checkpoint-6");
  options.run_folder = scratch.file("branch");
  Network branch;
  options.steps = 7;
  CHECK(train::train(branch, options).losses.size() == 7);
}

TEST_CASE("what cannot be trained is refused") {
  const Quiet quiet;
  const test::Scratch scratch;
  LoopOptions options = make_options(scratch);
  Network network;
  network.unweighted = true;
  CHECK(test::contains(error_of(ExitCode::data, [&] { train::train(network, options); }), "nothing in its batches"));
  for (const auto& change : std::vector<std::function<void(LoopOptions&)>>{
           [](LoopOptions& o) { o.steps = 0; }, [](LoopOptions& o) { o.accumulation = 0; },
           [](LoopOptions& o) { o.lr = -1; }, [](LoopOptions& o) { o.keep = 0; },
           [](LoopOptions& o) { o.ema_decay = 1; }, [](LoopOptions& o) { o.run_folder = ""; },
           [](LoopOptions& o) { o.schedule.warmup_steps = 21; }}) {
    LoopOptions bad = options;
    change(bad);
    CHECK(error_of(ExitCode::usage, [&] { train::train(network, bad); }) != "(no error)");
  }
  base::request_stop(SIGINT);
  CHECK(error_of(ExitCode::interrupted, [&] { train::train(network, options); }) != "(no error)");
  base::clear_stop();
}

TEST_CASE("a stop after the last step leaves something to go on with") {
  base::request_stop(SIGTERM);
  const auto message = error_of(ExitCode::resumable, [] { train::after_training(base::throw_if_stopped); });
  base::clear_stop();
  CHECK(test::contains(message, "SIGTERM after the last step"));
  int done = 0;
  train::after_training([&] { ++done; });
  CHECK(done == 1);
}
