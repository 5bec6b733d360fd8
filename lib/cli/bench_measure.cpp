#include "cli/bench_measure.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/sha256.h"
#include "metrics/machine.h"

namespace atelier::cli {

using base::Error;
using base::ExitCode;
using base::Json;
using Clock = std::chrono::steady_clock;

namespace {

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// Times between the ends of steps; the first step's is what of the whole is left.
std::vector<double> step_times(const std::vector<Clock::time_point>& ends, double whole) {
  std::vector<double> times;
  double rest = 0;
  for (std::size_t i = 1; i < ends.size(); ++i) {
    times.push_back(seconds_between(ends[i - 1], ends[i]));
    rest += times.back();
  }
  if (!ends.empty()) times.insert(times.begin(), std::max(0.0, whole - rest));
  return times;
}

}  // namespace

MeasuredModel::MeasuredModel(pipelines::ImageModelFiles files) : files_(std::move(files)), memory_(files_.device) {}

void MeasuredModel::load() { model_ = pipelines::ImageModel::load(files_); }

const std::vector<pipelines::LoraReport>& MeasuredModel::use_loras(const std::vector<pipelines::LoraRequest>& loras) {
  if (!loras_) loras_ = std::make_unique<pipelines::ImageLoras>(*model_);
  return loras_->use(loras);
}

Measurement MeasuredModel::make(const ImageOptions& options) {
  ImageJob job(files_, options, ImageTask::txt2img);
  Measurement m;
  m.sampler = job.sampler();
  std::vector<Clock::time_point> ends;
  memory_.start();
  energy_.start();
  const auto start = Clock::now();
  m.pictures =
      job.make(*model_, {}, 0, options.count, [&](const pipelines::StepReport&) { ends.push_back(Clock::now()); }, {});
  m.total_s = seconds_between(start, Clock::now());
  m.joules = energy_.joules();
  m.allocator_bytes = memory_.allocator_peak();
  m.process_bytes = memory_.process_peak();
  const MadePicture& first = m.pictures.front();
  m.text_s = first.text_seconds;
  m.vae_s = first.decode_seconds;
  m.steps_s = step_times(ends, first.denoise_seconds);
  for (const MadePicture& made : m.pictures)
    if (!made.finite)
      throw Error(ExitCode::condition, fmt::format("the picture of seed {} holds NaN", made.seed),
                  "the weights may be damaged, or too large for the number format");
  return m;
}

std::string model_sha256(const pipelines::ImageModelFiles& files) {
  std::vector<std::string> paths = files.config_files;
  for (const auto& file : files.weight_files()) paths.push_back(file.path);
  std::string all;
  for (const std::string& path : paths)  // in the order of reading, which is that of the parts
    all += std::filesystem::path(path).filename().string() + " " + base::sha256_file(path) + "\n";
  return base::sha256_hex(all);
}

Json machine_record() {
  const metrics::Machine machine = metrics::describe_machine();
  Json record = {{"cpu", machine.cpu},       {"cores", machine.cores},       {"memory_bytes", machine.memory_bytes},
                 {"kernel", machine.kernel}, {"libtorch", machine.libtorch}, {"instructions", machine.instructions}};
  if (!machine.gpu.empty()) record["gpu"] = machine.gpu;
  if (!machine.driver.empty()) record["driver"] = machine.driver;
  return record;
}

int threads_in_use() { return at::get_num_threads(); }

}  // namespace atelier::cli
