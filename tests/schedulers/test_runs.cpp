// Whole runs against diffusers' schedulers, evaluation by evaluation; goldens from scripts/fixtures/schedulers.py.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>
#include <fmt/format.h>

#include "base/json.h"
#include "io/weight_source.h"
#include "schedulers/samplers.h"
#include "support/doctest_last.h"

namespace {

using namespace atelier;
using schedulers::Scheduler;

const std::string folder = std::string(ATELIER_TEST_DATA) + "/schedulers";

/// The stand-in for a model that the script has: a bounded function of sample and timestep.
at::Tensor model(const at::Tensor& sample, double timestep) {
  const std::int64_t size = sample[0].numel();
  const at::Tensor pattern = at::arange(size, at::kFloat).reshape(sample[0].sizes()) / static_cast<double>(size) - 0.5;
  return at::tanh(0.7 * sample + pattern) * (0.4 + 0.9 * static_cast<float>(timestep) / 1000);
}

at::Tensor picture(std::int64_t count) {
  std::vector<at::Tensor> rows;
  for (std::int64_t k = 0; k < count; ++k) {
    rows.push_back(at::linspace(-1.0 - static_cast<double>(k), 1, 24, at::kFloat).reshape({4, 2, 3}));
  }
  return at::stack(rows);
}

/// Reads a case's numbers one after another and keeps the largest relative difference, values below 1 counting as 1.
class Expected {
 public:
  explicit Expected(const float* numbers) : next_(numbers) {}
  void check(double value) {
    const double expected = *next_++;
    const double difference = std::abs(value - expected) / std::max(1.0, std::abs(expected));
    worst_ = std::isfinite(value) ? std::max(worst_, difference) : INFINITY;
  }
  void check(const at::Tensor& tensor) {
    const at::Tensor flat = tensor.to(at::kFloat).contiguous();
    for (std::int64_t i = 0; i < flat.numel(); ++i) check(flat.const_data_ptr<float>()[i]);
  }
  void skip(std::size_t count) { next_ += count; }
  double worst() const { return worst_; }
  const float* place() const { return next_; }

 private:
  const float* next_;
  double worst_ = 0;
};

struct Case {
  base::Json config, run;
};

std::unique_ptr<Scheduler> make(const Case& test) {
  const auto text = [&](const char* key) { return test.run.contains(key) ? test.run[key].get<std::string>() : ""; };
  return schedulers::make_scheduler(test.config, "config", schedulers::parse_sampler(text("sampler"), text("schedule")),
                                    {.eta = test.run.value("eta", 0.0)});
}

/// Runs one case and returns the largest difference.
double difference(const Case& test, const float* numbers) {
  const auto scheduler = make(test);
  schedulers::TimestepOptions options;
  if (test.run.contains("mu")) options.mu = test.run["mu"].get<double>();
  if (test.run.contains("sigmas")) options.sigmas = test.run["sigmas"].get<std::vector<double>>();
  scheduler->set_timesteps(test.run["steps"].get<std::int64_t>(), options);

  const auto seeds =
      test.run.contains("seeds") ? test.run["seeds"].get<std::vector<std::uint64_t>>() : std::vector<std::uint64_t>{7};
  const auto count = static_cast<std::int64_t>(seeds.size());
  schedulers::SeededNoise noise(seeds);
  const double strength = test.run.value("strength", 1.0);
  std::size_t index = scheduler->start_index(strength);
  const at::Tensor first = noise.normal({count, 4, 2, 3}, at::kFloat);
  at::Tensor sample =
      strength == 1 ? first * scheduler->init_noise_sigma() : scheduler->add_noise(picture(count), first, index);

  const std::size_t evaluations = scheduler->timesteps().size();
  const std::size_t wanted = evaluations + 1 + 2 * (evaluations - index) + 2 * static_cast<std::size_t>(sample.numel());
  CHECK(test.run["numbers"].get<std::size_t>() == wanted);
  if (test.run["numbers"].get<std::size_t>() != wanted) return INFINITY;
  CHECK(scheduler->evaluations() == evaluations);

  Expected expected(numbers);
  for (const double timestep : scheduler->timesteps()) expected.check(timestep);
  expected.check(scheduler->init_noise_sigma());
  expected.check(sample);
  for (; index < evaluations; ++index) {
    const double timestep = scheduler->timesteps()[index];
    const at::Tensor output = model(scheduler->scale_model_input(sample, index), timestep);
    sample = scheduler->step(output, index, sample, noise);
    expected.check(sample.flatten()[0].item<double>());
    expected.check(sample.flatten()[-1].item<double>());
    CHECK(scheduler->denoised().sizes() == sample.sizes());
  }
  expected.check(sample);
  return expected.worst();
}

}  // namespace

TEST_CASE("runs are those of diffusers") {
  const base::Json file = base::read_json_file(folder + "/cases.json");
  const auto source = io::WeightSource::open(folder + "/values.safetensors");
  // One recording for each kind of machine: diffusers' logarithms differ in the last bit between CPUs, and some runs magnify it.
  std::vector<at::Tensor> recordings;
  for (const std::string& name : source->names()) recordings.push_back(source->load(name, at::kFloat, at::kCPU));
  std::int64_t place = 0;
  std::map<std::string, double> worst;
  int cases = 0;
  for (const base::Json& run : file["cases"]) {
    const Case test{file["configs"][run["config"].get<std::size_t>()], run};
    const std::string title = base::dump_json(run);
    CAPTURE(title);
    CAPTURE(base::dump_json(test.config));
    double found = INFINITY;
    for (const at::Tensor& recorded : recordings)
      found = std::min(found, difference(test, recorded.const_data_ptr<float>() + place));
    const std::string sampler = run.value("sampler", test.config["_class_name"].get<std::string>());
    // DEIS subtracts float32 logarithms of neighbouring sigmas, and numpy's differ from torch's in the last bit.
    CHECK(found <= (sampler == "deis" ? 2e-5 : 1e-5));
    double& most = worst[sampler];
    most = std::max(most, found);
    place += run["numbers"].get<std::int64_t>();
    ++cases;
  }
  CHECK(place == recordings.front().numel());
  CHECK(cases > 600);
  for (const auto& [sampler, most] : worst) MESSAGE(fmt::format("{}: largest difference {:.1e}", sampler, most));
}
