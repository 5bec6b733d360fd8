#include "cli/image_trainee.h"

#include <algorithm>
#include <map>
#include <utility>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/sha256.h"
#include "cli/default_model.h"
#include "io/mapped_file.h"
#include "pipelines/image_adapters.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using models::adapters::Part;
using pipelines::ImageModelFiles;
using train::Parameter;
using train::Precision;

constexpr double kNewToken = 0.02;  // deviation of a word that begins from nothing, as CLIP's own tokens have it

Precision precision_of(const ImageTrainOptions& o, const ImageModelFiles& files) {
  if (o.train.precision == "auto") {
    if (files.dtype == at::kBFloat16) return Precision::bf16;
    return files.dtype == at::kHalf && !files.device.is_cpu() ? Precision::fp16 : Precision::fp32;
  }
  const Precision precision = train::precision(o.train.precision);
  train::check_precision(precision, files.device);
  return precision;
}

at::ScalarType dtype_of(Precision precision) {
  return precision == Precision::fp32 ? at::kFloat : precision == Precision::bf16 ? at::kBFloat16 : at::kHalf;
}

/// Weights that are trained whole are f32 whatever the products are; frozen ones have the products' format.
void choose_dtype(const ImageTrainOptions& o, ImageTraineeFiles& trainee) {
  const bool full = method_of(o) == ImageMethod::full;
  if (o.common.dtype == "auto") {
    trainee.files.dtype = full ? at::kFloat : dtype_of(trainee.precision);
  } else if (full && trainee.files.dtype != at::kFloat) {
    throw Error(ExitCode::usage, "--method full trains weights in fp32: leave --dtype out",
                "--precision bf16 computes in bf16");
  } else if (trainee.precision == Precision::fp32 && trainee.files.dtype != at::kFloat) {
    throw Error(ExitCode::usage, "--precision fp32 needs the weights in fp32: leave --dtype out");
  }
}

bool is_text(const std::string& part) { return part.starts_with("text_encoder"); }

/// Rate of a part as a share of the loop's.
double lr_scale(const ImageTrainOptions& o, const std::string& part) {
  const double base = base_rate(o), own = is_text(part) ? o.te_lr : o.unet_lr;
  return base > 0 ? own / base : 1;
}

std::vector<Part> trained_parts(const ImageTrainOptions& o, const pipelines::ImageModel& model) {
  std::vector<Part> parts;
  for (Part& part : pipelines::adapter_parts(model))
    if (o.train_text_encoder || !is_text(part.name)) parts.push_back(std::move(part));
  return parts;
}

void add_lora(const ImageTrainOptions& o, ImageTrainee& trainee, std::uint64_t seed) {
  // A draw of the adapter's numbers does not depend on what was drawn before.
  trainee.lora = models::adapters::attach_lora(trained_parts(o, *trainee.model), lora_options(o),
                                               at::detail::createCPUGenerator(seed));
  for (const auto& [name, tensor] : trainee.lora->tensors())
    trainee.parameters.push_back({name, tensor, lr_scale(o, name)});
}

/// All weights of the UNet, with --train-text-encoder those of the text encoders, too. Norms and biases are not decayed.
void add_weights(const ImageTrainOptions& o, ImageTrainee& trainee) {
  std::map<std::string, at::Tensor> sorted;
  for (const Part& part : trained_parts(o, *trainee.model)) {
    for (auto& entry : part.module->named_parameters()) {
      // Loaded weights are the file's pages: training needs memory of its own.
      entry.value().set_data(entry.value().detach().clone(at::MemoryFormat::Contiguous));
      sorted[part.name + "." + entry.key()] = entry.value().requires_grad_(true);
    }
  }
  for (const auto& [name, tensor] : sorted)
    trainee.parameters.push_back({name, tensor, lr_scale(o, name), tensor.dim() > 1});
}

/// What a new word begins as in one text encoder: (vectors, hidden) f32.
at::Tensor first_vectors(const ImageTrainOptions& o, const pipelines::ImageTextEncoder& encoder,
                         const at::Generator& generator) {
  const auto& network = *encoder.network;
  const std::int64_t hidden = network.config().hidden_size;
  if (o.init_word.empty()) return at::empty({o.vectors, hidden}, at::kFloat).normal_(0, kNewToken, generator);
  const auto ids = encoder.tokenizer->encode(o.init_word);
  if (ids.size() != 1)
    throw Error(ExitCode::usage, fmt::format("--init-word \"{}\" is {} tokens, it must be one", base::printable(o.init_word),
                                             ids.size()),
                "a shorter, more common word");
  const at::Tensor id = at::empty({1, 1}, at::kLong).fill_(static_cast<std::int64_t>(ids[0])).to(network.device());
  return network.embed_tokens(id)[0].to(at::kCPU, at::kFloat).expand({o.vectors, hidden}).clone();
}

void add_token(const ImageTrainOptions& o, ImageTrainee& trainee, std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  const auto generator = at::detail::createCPUGenerator(seed);
  trainee.token = train::image::TrainedToken{.name = o.token, .vectors = {}};
  const auto& encoders = trainee.model->text_encoders;
  for (std::size_t i = 0; i < encoders.size(); ++i) {
    const at::Tensor vectors = first_vectors(o, encoders[i], generator).to(trainee.model->device());
    trainee.token->vectors.push_back(vectors.requires_grad_(true));
    const std::string part = i == 0 ? "text_encoder" : "text_encoder_2";
    trainee.parameters.push_back({part + ".token", trainee.token->vectors.back()});
  }
}

}  // namespace

ImageTraineeFiles open_image_trainee(const ImageTrainOptions& o) {
  const std::string path = model_or_default(o.common.model, "tiny-sd");
  pipelines::set_threads(o.common.threads);
  ImageTraineeFiles trainee{
      ImageModelFiles::open(path, {o.common.device, o.common.dtype}, o.vae, o.tokenizer), Precision::fp32};
  Manifest& m = *o.common.record;
  m.model_path = path;
  for (const auto& file : trainee.files.weight_files()) m.model_files.push_back(file.path);
  m.model_files.insert(m.model_files.end(), trainee.files.config_files.begin(), trainee.files.config_files.end());
  m.device = trainee.files.device.str();
  if (trainee.files.family == pipelines::ImageFamily::sdxl_refiner)
    throw Error(ExitCode::data, path + ": SDXL's refiner cannot be trained", "train the base model");
  trainee.precision = precision_of(o, trainee.files);
  choose_dtype(o, trainee);
  return trainee;
}

std::int64_t ImageTrainee::trained() const {
  std::int64_t numbers = 0;
  for (const Parameter& parameter : parameters) numbers += parameter.tensor.numel();
  return numbers;
}

void ImageTrainee::set_training(bool training) const {
  if (lora) lora->set_training(training);
}

std::vector<train::image::TextTower> ImageTrainee::towers() const {
  std::vector<train::image::TextTower> all;
  for (const auto& encoder : model->text_encoders) all.push_back({encoder.tokenizer, encoder.network});
  return all;
}

ImageTrainee make_image_trainee(const ImageTrainOptions& o, const ImageTraineeFiles& files, std::uint64_t seed) {
  ImageTrainee trainee;
  using Weights = pipelines::ImageModel::Weights;
  trainee.model = pipelines::ImageModel::load(files.files, method_of(o) == ImageMethod::full ? Weights::plain : Weights::frozen);
  switch (method_of(o)) {
    case ImageMethod::lora:
    case ImageMethod::dora: add_lora(o, trainee, seed); break;
    case ImageMethod::textual_inversion: add_token(o, trainee, seed); break;
    case ImageMethod::full: add_weights(o, trainee); break;
  }
  nn::prefer_channels_last(*trainee.model->unet);
  return trainee;
}

std::string model_fingerprint(const ImageModelFiles& files) {
  constexpr std::size_t head = 1u << 20;
  std::string facts;
  const auto add = [&](const std::string& path) {
    const auto mapped = io::MappedFile::open(path);
    const std::string_view bytes(reinterpret_cast<const char*>(mapped->bytes().data()), mapped->bytes().size());
    facts += fmt::format("{} {} ", bytes.size(), base::sha256_hex(bytes.substr(0, head)));
  };
  for (const auto& file : files.weight_files()) add(file.path);
  for (const std::string& path : files.config_files) add(path);
  return base::sha256_hex(facts);
}

}  // namespace atelier::cli
