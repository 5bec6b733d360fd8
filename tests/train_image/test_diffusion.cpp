// Training diffusion models against diffusers and peft: the goldens come from scripts/fixtures/train_diffusion.py.
#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include "io/mapped_file.h"
#include "io/safetensors.h"
#include "io/weight_source.h"
#include "models/adapters/image_lora.h"
#include "nn/conv.h"
#include "train/image/task.h"
#include "train/loop.h"
#include "train/optimizer.h"
#include "train/precision.h"

#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/scratch.h"
#include "train_image/pictures.h"
#include "train_image/tiny_diffusion.h"

namespace {

using namespace atelier;
using namespace atelier::train;
using namespace atelier::train::image;
using models::adapters::LoraOptions;
using models::adapters::LoraTargets;
using test::TinyDiffusion;

constexpr int kSteps = 10;
constexpr std::int64_t kSide = 8, kSeed = 3;
const char* const kCaptions[] = {"a cat in the sea", "an old man", "a cat", "the sea"};

/// scripts/fixtures/train_diffusion.py's CASES.
struct Case {
  std::string model, method = "lora";
  LoraOptions lora{.rank = 4, .alpha = 6};
  std::optional<LoraTargets> text = {};  ///< the text encoders' adapters
  LossOptions loss = {};
  std::int64_t instances = 2, count = 2;
  double prior = 1;
  bool pixels = false;
};

Case find_case(const std::string& name) {
  Case c{.model = name.substr(0, name.find('.'))};
  if (name == "sd15.prior") {
    c.lora.targets = LoraTargets::attention_mlp;
    c.text = LoraTargets::attention_mlp;
    c.count = 4;
    c.prior = 0.6;
    c.loss.noise_offset = 0.1;
  } else if (name == "sd15.dora") {
    c.lora.targets = LoraTargets::all;
    c.lora.conv_rank = 2;
    c.lora.dora = true;
    c.loss.kind = LossKind::huber;
  } else if (name == "sd15.token") {
    c.method = "token";
  } else if (name == "sd2v.snr") {
    c.loss.min_snr_gamma = 5;
    c.pixels = true;
  } else if (name == "sd2v.full") {
    c.method = "full";
    c.loss.min_snr_gamma = 2;
  } else if (name == "sdxl.text") {
    c.text = LoraTargets::attention;
    c.loss.min_snr_gamma = 5;
  }
  return c;
}

/// The batches that the fixtures train on.
class FixtureBatches final : public BatchSource {
 public:
  explicit FixtureBatches(Case of, std::string prefix = "") : case_(std::move(of)), prefix_(std::move(prefix)) {}

  std::unique_ptr<ImageBatch> next() override {
    auto batch = std::make_unique<ImageBatch>();
    const std::string step = std::to_string(step_);
    if (case_.pixels)
      batch->pixels = test::seeded("pixels." + step, {case_.count, 3, 8 * kSide, 8 * kSide});
    else
      batch->latents = test::seeded("latents." + step, {case_.count, 4, kSide, kSide}, 4.0);
    static const std::int64_t sizes[4][6] = {
        {512, 384, 0, 16, 512, 512}, {96, 1024, 8, 0, 768, 512}, {64, 64, 0, 0, 64, 64}, {80, 64, 8, 0, 64, 64}};
    std::vector<std::int64_t> rows;
    for (std::int64_t i = 0; i < case_.count; ++i) {
      batch->captions.push_back(prefix_ + kCaptions[(step_ + i) % 4]);
      batch->keys.push_back(batch->captions.back());
      batch->loss_weights.push_back(i < case_.instances ? 1 : case_.prior);
      rows.insert(rows.end(), std::begin(sizes[i]), std::end(sizes[i]));
    }
    batch->sizes = at::tensor(rows, at::kLong).view({-1, 6});
    batch->weight = static_cast<double>(case_.instances);
    batch->tokens = static_cast<std::uint64_t>(case_.count);
    ++step_;
    return batch;
  }
  base::Json position() const override { return step_; }
  void seek(const base::Json& position) override { step_ = position; }

 private:
  Case case_;
  std::string prefix_;
  std::int64_t step_ = 0;
};

/// A model with what is trained of it, its adapters seeded as the fixtures have them.
struct Trainee {
  TinyDiffusion model;
  std::vector<models::adapters::ImageLora> loras;
  std::vector<TrainedToken> tokens;
  std::vector<Parameter> parameters;
  bool text = false;
};

void seed_lora(const models::adapters::ImageLora& lora, std::map<std::string, at::Tensor>& sorted) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : lora.tensors()) {
    if (name.ends_with("magnitude_vector"))
      tensor.mul_(test::seeded(name, tensor.sizes(), 0.1, 1));
    else
      tensor.copy_(test::seeded(name, tensor.sizes(), 0.2));
    sorted[name] = tensor;
  }
}

Trainee make_trainee(const Case& c) {
  Trainee t{.model = test::tiny_diffusion(c.model), .loras = {}, .tokens = {}, .parameters = {}};
  std::map<std::string, at::Tensor> sorted;
  const auto parts = t.model.parts();
  const auto generator = at::detail::createCPUGenerator(1);
  if (c.method == "token") {
    t.text = true;
    auto rows = test::seeded("text_encoder.token", {2, 24}, 0.5).requires_grad_(true);
    t.tokens.push_back({"<toy>", {rows}});
    sorted["text_encoder.token"] = rows;
  } else if (c.method == "full") {
    t.text = true;
    for (const auto& part : parts)
      for (auto& entry : part.module->named_parameters())
        sorted[part.name + "." + entry.key()] = entry.value().requires_grad_(true);
  } else {
    t.loras.push_back(models::adapters::attach_lora({parts[0]}, c.lora, generator));
    LoraOptions text = c.lora;
    t.text = c.text.has_value();
    text.dora = false;
    for (std::size_t i = 1; c.text && i < parts.size(); ++i) {
      text.targets = *c.text;
      t.loras.push_back(models::adapters::attach_lora({parts[i]}, text, generator));
    }
    for (const auto& lora : t.loras) seed_lora(lora, sorted);
  }
  nn::prefer_channels_last(*t.model.unet);
  for (const auto& [name, tensor] : sorted) t.parameters.push_back({name, tensor});
  return t;
}

std::unique_ptr<DiffusionTask> make_task(const Case& c, const Trainee& t, bool checkpointing = false) {
  const auto text = std::make_shared<TextConditioner>(t.model.towers, t.model.xl, std::nullopt, t.tokens);
  DiffusionTaskOptions options;
  options.loss = c.loss;
  options.checkpointing = checkpointing;
  options.train_text = t.text;
  return std::make_unique<DiffusionTask>(Networks{.unet = t.model.unet, .vae = t.model.vae, .xl = t.model.xl}, text,
                                         t.parameters,
                                         std::make_shared<FixtureBatches>(c, t.tokens.empty() ? "" : "a <toy> "),
                                         t.model.scheduler, options);
}

void seed_torch(std::uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU);
  generator.set_current_seed(seed);
}

std::string golden_path(const std::string& name) {
  return std::string(ATELIER_TEST_DATA) + "/train_diffusion/" + name + ".safetensors";
}

at::Tensor golden(const std::string& name, const std::string& tensor) {
  return io::WeightSource::open(golden_path(name))->load(tensor, at::kFloat, at::kCPU).clone();
}

std::vector<std::string> golden_names(const std::string& name) {
  const auto file = io::MappedFile::open(golden_path(name));
  std::istringstream words(io::parse_safetensors(file->bytes(), name).metadata.at("names"));
  return {std::istream_iterator<std::string>(words), {}};
}

/// Largest differences from the golden ten steps.
struct Errors {
  double loss = 0, norm = 0, element = 0;
};

Errors ten_steps(const std::string& name) {
  const Case c = find_case(name);
  Trainee t = make_trainee(c);
  const auto names = golden_names(name);
  REQUIRE(names.size() == t.parameters.size());
  for (std::size_t i = 0; i < names.size(); ++i) REQUIRE(names[i] == t.parameters[i].name);
  const auto task = make_task(c, t);
  const auto losses = golden(name, "loss"), norms = golden(name, "norms");
  const auto optimizer = make_optimizer(t.parameters, {.weight_decay = 0.01});
  seed_torch(kSeed);
  Errors errors;
  for (int step = 0; step < kSteps; ++step) {
    const auto batch = task->next();
    const auto loss = task->loss(*batch) / batch->weight;
    loss.backward();
    errors.loss = std::max(errors.loss, std::abs(loss.item<double>() - losses[step].item<double>()));
    for (std::size_t i = 0; i < t.parameters.size(); ++i) {
      const at::Tensor& own = t.parameters[i].tensor;
      const auto gradient = own.grad().defined() ? own.grad() : at::zeros_like(own);
      const auto row = static_cast<std::int64_t>(i);
      const double error = std::abs(gradient.norm().item<double>() - norms[step][row].item<double>());
      errors.norm = std::isnan(error) ? INFINITY : std::max(errors.norm, error);
      if (step != 0 && step != kSteps - 1) continue;
      const auto elements = golden(name, step == 0 ? "first" : "last")[row];
      for (std::int64_t e = 0; e < 8; ++e) {
        const double here = gradient.flatten()[e * gradient.numel() / 8].item<double>();
        errors.element = std::max(errors.element, std::abs(here - elements[e].item<double>()));
      }
    }
    clip_gradients(t.parameters, gradient_norm(t.parameters), 1);
    optimizer->step(1e-3);
    clear_gradients(t.parameters);
  }
  return errors;
}

/// Loss and gradients of the first step.
std::vector<at::Tensor> first_step(const Case& c, bool checkpointing, Precision precision, double dropout = 0) {
  Trainee t = make_trainee(c);
  for (const auto& lora : t.loras) {
    for (const auto& target : lora.targets) target.adapter->dropout = dropout;
    lora.set_training(true);
  }
  const auto task = make_task(c, t, checkpointing);
  seed_torch(kSeed);
  const auto batch = task->next();
  at::Tensor loss;
  {
    const AutocastScope autocast(precision, at::kCPU);
    loss = task->loss(*batch);
  }
  loss.backward();
  std::vector<at::Tensor> found{loss.detach()};
  for (const auto& parameter : t.parameters)
    found.push_back(parameter.tensor.grad().defined() ? parameter.tensor.grad() : at::zeros_like(parameter.tensor));
  return found;
}

const char* const kCases[] = {"sd15.attn", "sd15.prior", "sd15.dora", "sd15.token", "sd2v.snr", "sd2v.full", "sdxl.text"};

}  // namespace

TEST_CASE("ten steps equal diffusers' and peft's: losses and gradients within 1e-4") {
  for (const std::string name : kCases) {
    CAPTURE(name);
    const Errors errors = ten_steps(name);
    CHECK(errors.loss < 1e-4);
    CHECK(errors.norm < 1e-4);
    CHECK(errors.element < 1e-4);
    MESSAGE(name << ": largest difference of losses " << errors.loss << ", of norms " << errors.norm
                 << ", of elements " << errors.element);
  }
}

TEST_CASE("losses by min-SNR, Huber, masks and a zero terminal SNR are the references'") {
  schedulers::Config config = test::tiny_diffusion("sd15").scheduler;
  const auto timesteps = at::tensor({0, 250, 640, 999}, at::kLong);
  const auto prediction = test::seeded("loss.prediction", {4, 4, 3, 5}, 2.0),
             target = test::seeded("loss.target", {4, 4, 3, 5}, 2.0),
             mask = test::seeded("loss.mask", {4, 1, 3, 5}, 0.5, 0.5);
  const auto check = [&](const std::string& name, const at::Tensor& own) {
    CAPTURE(name);
    CHECK(test::difference(own, golden("losses", name)) < 1e-5);
  };
  const auto losses = [&](const LossOptions& options, const at::Tensor& m = {}) {
    return Diffusion(config, options).losses(prediction, target, timesteps, m);
  };
  check("l2", losses({}));
  check("mask", losses({}, mask));
  check("snr", losses({.min_snr_gamma = 5}));
  check("noised", Diffusion(config, {}).add_noise(prediction, target, timesteps));
  for (const auto& [name, schedule] : {std::pair{"huber.constant", HuberSchedule::constant},
                                       {"huber.exponential", HuberSchedule::exponential},
                                       {"huber.snr", HuberSchedule::snr}})
    check(name, losses({.kind = LossKind::huber, .huber_c = 0.2, .huber_schedule = schedule}));
  CHECK(test::contains(test::error_of(base::ExitCode::usage, [&] { losses({.zero_terminal_snr = true}); }), "v-prediction"));
  config.prediction = schedulers::Prediction::v;
  check("snr.v", losses({.min_snr_gamma = 5}));
  check("velocity", Diffusion(config, {}).target(prediction, target, timesteps));
  check("snr.zero", losses({.min_snr_gamma = 5, .zero_terminal_snr = true}));
  check("noised.zero", Diffusion(config, {.zero_terminal_snr = true}).add_noise(prediction, target, timesteps));
  config.prediction = schedulers::Prediction::sample;
  test::error_of(base::ExitCode::data, [&] { losses({}); });
}

TEST_CASE("checkpointing changes no bit of the loss, and of gradients only the order of sums") {
  // What several blocks add to a gradient (of a skip, of the text) is summed block by block.
  for (const std::string name : {"sd15.prior", "sd15.dora", "sd15.token", "sd2v.full", "sdxl.text"})
    for (const auto& [precision, most] : {std::pair{Precision::fp32, 1e-5}, {Precision::bf16, 3e-2}}) {
      CAPTURE(name);
      CAPTURE(most);
      const Case c = find_case(name);
      const double dropout = c.method == "lora" ? 0.3 : 0;
      const auto kept = first_step(c, false, precision, dropout), again = first_step(c, true, precision, dropout);
      REQUIRE(kept.size() == again.size());
      CHECK(at::equal(kept[0], again[0]));
      double difference = 0, length = 0;  // of all gradients taken as one vector
      for (std::size_t i = 1; i < kept.size(); ++i) {
        difference += (kept[i] - again[i]).square().sum().item<double>();
        length += kept[i].square().sum().item<double>();
      }
      CHECK(std::sqrt(difference) <= most * std::sqrt(length));
    }
}

TEST_CASE("bf16 comes near fp32") {
  const Case c = find_case("sd15.prior");
  const auto exact = first_step(c, false, Precision::fp32), rounded = first_step(c, false, Precision::bf16);
  CHECK(std::abs(exact[0].item<double>() - rounded[0].item<double>()) < 0.02 * exact[0].item<double>());
}

TEST_CASE("which layers get an adapter") {
  const auto model = test::tiny_diffusion("sd15");
  const auto parts = model.parts();
  const auto paths = [&](const LoraOptions& options) {
    std::vector<std::string> found;
    for (const auto& layer : models::adapters::lora_layers(parts, options)) found.push_back(layer.path);
    return found;
  };
  const auto count = [](const std::vector<std::string>& all, const std::string& ending) {
    return std::count_if(all.begin(), all.end(), [&](const std::string& path) { return path.ends_with(ending); });
  };
  const auto attention = paths({.rank = 4}), mlp = paths({.rank = 4, .targets = LoraTargets::attention_mlp}),
             all = paths({.rank = 4, .targets = LoraTargets::all}), conv = paths({.rank = 4, .conv_rank = 2});
  CHECK(count(attention, "to_q") == 8);       // 4 transformers of 2 attentions
  CHECK(count(attention, "q_proj") == 3);     // 3 layers of text
  CHECK(attention.size() == 4 * 8 + 4 * 3);
  CHECK(mlp.size() == attention.size() + 4 * 4 + 2 * 3);
  CHECK(count(attention, "conv1") == 0);
  CHECK(count(conv, "conv1") == 8);
  CHECK(count(conv, "time_emb_proj") == 0);
  CHECK(count(all, "conv1") == 8);
  CHECK(count(all, "time_emb_proj") == 8);
  CHECK(count(all, "conv_in") == 0);
  for (const auto& layer : models::adapters::lora_layers(parts, {.rank = 4, .conv_rank = 2})) {
    CHECK(layer.rank == (layer.path.ends_with("conv1") || layer.path.ends_with("conv2") || layer.path.ends_with(".conv") ? 2 : 4));
  }
}

namespace {

LoopOptions loop_options(const test::Scratch& scratch, const std::string& name, std::int64_t steps) {
  LoopOptions options;
  options.run_folder = scratch.file(name);
  options.steps = steps;
  options.accumulation = 2;
  options.lr = 1e-3;
  options.schedule = {.kind = ScheduleKind::constant};
  options.max_grad_norm = 1;
  options.ema_decay = 0.9;
  options.save_every = 1;
  options.keep = 30;
  return options;
}

/// Trains a new trainee, which goes on with what the folder has.
RunResult run(const Case& c, const LoopOptions& options) {
  Trainee t = make_trainee(c);
  for (const auto& lora : t.loras) {
    for (const auto& target : lora.targets) target.adapter->dropout = 0.2;
    lora.set_training(true);
  }
  const auto task = make_task(c, t);
  seed_torch(kSeed);
  return train::train(*task, options);
}

}  // namespace

TEST_CASE("resumed after every one of 8 steps, a run is the one that never stopped, bit for bit") {
  const test::Scratch scratch;
  const Case c = find_case("sd15.prior");
  run(c, loop_options(scratch, "whole", 8));
  for (std::int64_t n = 1; n <= 8; ++n) {
    CAPTURE(n);
    run(c, loop_options(scratch, "parts", n));
    const std::string checkpoint = "/checkpoint-" + std::to_string(n);
    for (const char* part : {"weights", "optimizer", "ema", "history", "random"}) {
      CAPTURE(part);
      const std::string file = checkpoint + "/" + part + ".safetensors";
      CHECK(!test::get_file(scratch.file("whole") + file).empty());
      CHECK(test::get_file(scratch.file("whole") + file) == test::get_file(scratch.file("parts") + file));
    }
  }
}

TEST_CASE("a loss that is NaN ends the run, the last good state kept") {
  const test::Scratch scratch;
  const Case c = find_case("sd15.attn");
  Trainee t = make_trainee(c);
  struct Poisoned final : BatchSource {
    explicit Poisoned(const Case& of) : good(of) {}
    std::unique_ptr<ImageBatch> next() override {
      auto batch = good.next();
      if (good.position() == 7) batch->latents[0][0][0][0] = NAN;
      return batch;
    }
    base::Json position() const override { return good.position(); }
    void seek(const base::Json& position) override { good.seek(position); }
    FixtureBatches good;
  };
  const auto text = std::make_shared<TextConditioner>(t.model.towers, false);
  DiffusionTask task({.unet = t.model.unet, .vae = t.model.vae, .xl = false}, text, t.parameters,
                     std::make_shared<Poisoned>(c), t.model.scheduler, {});
  const auto options = loop_options(scratch, "run", 8);
  const std::string message =
      test::error_of(base::ExitCode::condition, [&] { train::train(task, options); });
  CHECK(test::contains(message, "step 4: the loss is not finite"));
  CHECK(std::filesystem::exists(options.run_folder + "/checkpoint-3/state.json"));
  CHECK(!std::filesystem::exists(options.run_folder + "/checkpoint-4"));
}

TEST_CASE("fixed pairs are the same for all, over all timesteps, and their loss follows the weights alone") {
  const test::PictureFolder folder;
  for (int i = 0; i < 3; ++i) folder.add(std::to_string(i) + ".png", 10 * i, "a cat");
  ImageDataset data(open_sources(folder.root(), test::small_squares()), {.seed = 1});
  const Case c = find_case("sd15.attn");
  Trainee t = make_trainee(c);
  const auto pairs = [&](std::uint64_t seed) { return fixed_pairs(data, *t.model.vae, 1000, 5, seed); };
  const auto first = pairs(7), again = pairs(7), other = pairs(8);
  REQUIRE(first.size() == 5);
  std::vector<std::int64_t> times;
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(at::equal(first[i].noise, again[i].noise));
    CHECK(at::equal(first[i].batch->latents, again[i].batch->latents));
    CHECK_FALSE(at::equal(first[i].noise, other[i].noise));
    times.push_back(first[i].timesteps[0].item<std::int64_t>());
  }
  std::ranges::sort(times);
  CHECK(times == std::vector<std::int64_t>{100, 300, 500, 700, 900});
  const auto text = std::make_shared<TextConditioner>(t.model.towers, false);
  DiffusionTaskOptions options;
  options.pairs = first;
  DiffusionTask task({.unet = t.model.unet, .vae = t.model.vae, .xl = false}, text, t.parameters,
                     std::make_shared<FixtureBatches>(c), t.model.scheduler, options);
  const at::NoGradGuard no_grad;
  seed_torch(1);
  const auto loss = task.evaluate();
  seed_torch(2);
  CHECK(*task.evaluate() == *loss);
  t.parameters.back().tensor.add_(0.5);
  CHECK(*task.evaluate() != *loss);
}

TEST_CASE("words that are learnt take their places; other captions are plain text") {
  const auto model = test::tiny_diffusion("sd15");
  const auto rows = test::seeded("token", {2, 24});
  const TextConditioner text(model.towers, false, std::nullopt, {{"<toy>", {rows}}});
  CHECK(text.names_tokens("a <TOY>, red"));
  CHECK_FALSE(text.names_tokens("a toy"));
  const at::NoGradGuard no_grad;
  const TextConditioner plain(model.towers, false);
  const auto with = text.encode({"a <toy> in the sea", "a cat"}).context, without = plain.encode({"a cat"}).context;
  CHECK(with.sizes() == at::IntArrayRef({2, 77, 24}));
  CHECK(at::equal(with.narrow(0, 1, 1), without));
  CHECK_FALSE(at::equal(with.narrow(0, 0, 1), without));
  test::error_of(base::ExitCode::usage, [&] { TextConditioner(model.towers, false, 4); });
}
