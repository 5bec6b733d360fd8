#include "cli/bench_training.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include "base/error.h"
#include "base/stop.h"

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// Ends a run before the loop saves it: a checkpoint of a whole model takes longer than the steps that are measured.
struct Measured {};

/// A task with a watch: a step begins with its first micro-batch, and ends where the next one or an evaluation begins.
class WatchedTask final : public train::Task {
 public:
  WatchedTask(train::Task& task, const train::LoopOptions& options) : task_(task), options_(options) {}

  std::vector<train::Parameter> parameters() override { return task_.parameters(); }
  at::Tensor loss(const train::Batch& batch) override { return task_.loss(batch); }
  base::Json position() const override { return task_.position(); }
  void seek(const base::Json& position) override { task_.seek(position); }

  std::unique_ptr<train::Batch> next() override {
    if (micro_batches_++ % options_.accumulation == 0) {
      end_step();
      begin_ = Clock::now();
    }
    auto batch = task_.next();
    result_.samples += batch->tokens;
    return batch;
  }

  std::optional<double> evaluate() override {
    end_step();
    const std::int64_t steps = micro_batches_ / options_.accumulation;
    if (const auto value = task_.evaluate()) result_.losses.emplace_back(steps, *value);
    if (steps == options_.steps) throw Measured();
    return std::nullopt;  // or the loop would keep the best
  }

  TrainingMeasurement take() { return std::move(result_); }

 private:
  void end_step() {
    if (!begin_) return;
    result_.seconds.push_back(std::chrono::duration<double>(Clock::now() - *begin_).count());
    begin_.reset();
  }

  train::Task& task_;
  const train::LoopOptions& options_;
  std::optional<Clock::time_point> begin_;
  std::int64_t micro_batches_ = 0;
  TrainingMeasurement result_;
};

/// A folder of its own, removed with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "atelier-train-XXXXXX").native();
    if (::mkdtemp(pattern.data()) == nullptr)
      throw base::Error(base::ExitCode::cannot_create,
                        fmt::format("{}: {}", pattern, std::generic_category().message(errno)));
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

TrainingMeasurement measure_training(train::Task& task, train::LoopOptions options) {
  const TemporaryFolder folder;
  options.run_folder = folder.path();
  WatchedTask watched(task, options);
  try {
    train::train(watched, options);
  } catch (const Measured&) {
    return watched.take();
  } catch (const base::Stopped&) {
    base::throw_if_stopped();  // as it came: what the loop has saved is gone
    throw;
  }
  throw base::Error(base::ExitCode::internal, "a training ended without its last evaluation");
}

}  // namespace atelier::cli
