#include "cli/train_lora_output.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "pipelines/textual_inversion.h"
#include "schedulers/samplers.h"
#include "train/run_state.h"

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;
using base::Json;
using pipelines::ImageFamily;

at::ScalarType save_dtype(const ImageTrainOptions& o) {
  return o.save_dtype == "fp16" ? at::kHalf : o.save_dtype == "bf16" ? at::kBFloat16 : at::kFloat;
}

bool predicts_velocity(const ImageTraineeFiles& files) {
  return schedulers::prediction_type(files.files.scheduler_json, files.files.scheduler_path) == "v_prediction";
}

/// The names that Stability AI's ModelSpec has for the families.
std::string architecture(const ImageTraineeFiles& files) {
  switch (files.files.family) {
    case ImageFamily::sd1: return "stable-diffusion-v1";
    case ImageFamily::sd2: return predicts_velocity(files) ? "stable-diffusion-v2-768-v" : "stable-diffusion-v2-512";
    case ImageFamily::sdxl:
    case ImageFamily::sdxl_refiner: break;
  }
  return "stable-diffusion-xl-v1-base";
}

/// kohya's name of the family.
std::string base_version(const ImageTraineeFiles& files) {
  switch (files.files.family) {
    case ImageFamily::sd1: return "sd_v1";
    case ImageFamily::sd2: return predicts_velocity(files) ? "sd_v2_v" : "sd_v2";
    case ImageFamily::sdxl:
    case ImageFamily::sdxl_refiner: break;
  }
  return "sdxl_base_v1-0";
}

Json network_args(const ImageTrainOptions& o) {
  Json args = Json::object();
  const auto options = lora_options(o);
  const std::int64_t conv = options.conv_rank > 0 ? options.conv_rank
                            : options.targets == models::adapters::LoraTargets::all ? options.rank
                                                                                    : 0;
  if (conv > 0) {
    args["conv_dim"] = fmt::format("{}", conv);
    args["conv_alpha"] = fmt::format("{:g}", o.alpha * static_cast<double>(conv) / static_cast<double>(o.rank));
  }
  if (options.dora) args["dora_wd"] = "True";
  if (o.dropout > 0) args["dropout"] = fmt::format("{:g}", o.dropout);
  return args;
}

Json bucket_info(const train::image::DataReport& report) {
  Json buckets = Json::object();
  for (const auto& bucket : report.buckets)
    buckets[fmt::format("{}", buckets.size())] = {{"resolution", {bucket.size.width, bucket.size.height}},
                                                  {"count", bucket.draws}};
  return {{"buckets", std::move(buckets)}};
}

/// (width, height) of the bucket with most pictures.
train::image::Size usual_size(const train::image::DataReport& report) {
  const auto most = std::max_element(report.buckets.begin(), report.buckets.end(),
                                     [](const auto& a, const auto& b) { return a.draws < b.draws; });
  return most == report.buckets.end() ? train::image::Size{} : most->size;
}

}  // namespace

void check_lora_output(const ImageTrainOptions& o) {
  const fs::path path(o.output);
  if (path.extension() != ".safetensors")
    throw Error(ExitCode::usage, fmt::format("--output {}: its name must end in .safetensors", o.output));
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) throw Error(ExitCode::cannot_create, o.output + ": is a folder");
  if (!fs::exists(path, ignored) || o.train.overwrite) return;
  if (!train::Checkpoints(run_folder(o)).steps().empty() && o.train.resume != "never") return;
  throw Error(ExitCode::cannot_create, fmt::format("{}: is there already, and no run of it in {}", o.output, run_folder(o)),
              "--overwrite replaces it; another name leaves it alone");
}

std::map<std::string, std::string> lora_metadata(const ImageTrainOptions& o, const ImageTraineeFiles& files,
                                                 const train::image::ImageDataset& data, std::uint64_t seed,
                                                 std::int64_t steps) {
  const auto& report = data.report();
  const auto size = usual_size(report);
  const auto number = [](const auto value) { return fmt::format("{}", value); };
  const auto steps_per_epoch = std::max<std::int64_t>(1, data.steps_per_epoch());
  const bool dora = method_of(o) == ImageMethod::dora;
  std::map<std::string, std::string> m;
  m["ss_v2"] = files.files.family == ImageFamily::sd2 ? "True" : "False";
  m["ss_base_model_version"] = base_version(files);
  m["ss_network_module"] = dora ? "lycoris.kohya" : "networks.lora";
  m["ss_network_dim"] = number(o.rank);
  m["ss_network_alpha"] = number(o.alpha);
  m["ss_network_args"] = base::dump_json(network_args(o));
  m["ss_output_name"] = fs::path(o.output).stem().native();
  m["ss_sd_model_name"] = fs::path(files.files.path).filename().native();
  m["ss_resolution"] = fmt::format("({}, {})", size.width, size.height);
  m["ss_num_train_images"] = number(report.kept - report.class_pictures);
  m["ss_num_reg_images"] = number(report.class_pictures);
  m["ss_num_batches_per_epoch"] = number(report.batches);
  m["ss_num_epochs"] = m["ss_epoch"] = number((steps + steps_per_epoch - 1) / steps_per_epoch);
  m["ss_steps"] = m["ss_max_train_steps"] = number(steps);
  m["ss_batch_size_per_device"] = number(o.train.batch_size);
  m["ss_gradient_accumulation_steps"] = number(o.train.accumulation);
  m["ss_gradient_checkpointing"] = o.train.checkpointing ? "True" : "False";
  m["ss_learning_rate"] = m["ss_unet_lr"] = number(o.unet_lr);
  m["ss_text_encoder_lr"] = o.train_text_encoder ? number(o.te_lr) : "None";
  m["ss_optimizer"] = o.train.optimizer;
  m["ss_lr_scheduler"] = o.train.scheduler;
  m["ss_mixed_precision"] = files.precision == train::Precision::fp32   ? "no"
                            : files.precision == train::Precision::bf16 ? "bf16"
                                                                        : "fp16";
  m["ss_seed"] = number(seed);
  m["ss_noise_offset"] = o.noise_offset > 0 ? number(o.noise_offset) : "None";
  m["ss_min_snr_gamma"] = o.min_snr_gamma > 0 ? number(o.min_snr_gamma) : "None";
  m["ss_zero_terminal_snr"] = o.zero_terminal_snr ? "True" : "False";
  m["ss_loss_type"] = o.loss;
  m["ss_clip_skip"] = o.clip_skip ? number(*o.clip_skip) : "None";
  m["ss_tag_frequency"] = base::dump_json(data.tag_frequency());
  m["ss_bucket_info"] = base::dump_json(bucket_info(report));
  m["modelspec.sai_model_spec"] = "1.0.1";
  m["modelspec.architecture"] = architecture(files) + "/lora";
  m["modelspec.implementation"] = "https://github.com/Stability-AI/generative-models";
  m["modelspec.title"] = m["ss_output_name"];
  m["modelspec.resolution"] = fmt::format("{}x{}", size.width, size.height);
  m["modelspec.prediction_type"] = predicts_velocity(files) ? "v" : "epsilon";
  return m;
}

void write_lora_output(const std::string& path, const ImageTrainOptions& o, const ImageTraineeFiles& files,
                       const ImageTrainee& trainee, const std::map<std::string, std::string>& metadata) {
  if (trainee.token)
    return pipelines::write_textual_inversion(path, trainee.token->name, trainee.token->vectors, save_dtype(o));
  using models::adapters::LoraLayout;
  const LoraLayout layout = o.format == "peft" ? LoraLayout::peft : LoraLayout::kohya;
  models::adapters::write_lora(path, trainee.lora->modules(), layout,
                               {.xl = files.is_xl(), .unet = files.is_xl() ? &files.files.unet_config : nullptr},
                               save_dtype(o), metadata);
}

}  // namespace atelier::cli
