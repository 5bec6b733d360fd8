#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "cli/common.h"
#include "cli/train_options.h"
#include "models/adapters/image_lora.h"
#include "train/image/loss.h"

namespace atelier::cli {

/// What is trained of an image model.
enum class ImageMethod { lora, dora, textual_inversion, full };

/// What sd-train-lora and sd-dreambooth share: everything about the training but its data (CLI.md, "sd-train-lora").
struct ImageTrainOptions {
  ImageTrainOptions();

  CommonOptions common;
  TrainFlags train;
  std::string output, run_dir, vae, tokenizer;
  std::string method = "lora";

  std::int64_t rank = 16, conv_rank = 0;
  double alpha = 16, dropout = 0;
  std::string targets = "attn";
  std::string format = "kohya", save_dtype = "fp32";

  bool train_text_encoder = false;
  double unet_lr = 1e-4, te_lr = 5e-5;

  std::string token, init_word;  ///< textual inversion
  std::int64_t vectors = 1;
  double token_lr = 5e-3;

  double min_snr_gamma = 0, noise_offset = 0, huber_c = 0.1;
  bool zero_terminal_snr = false;
  std::string loss = "l2", huber_schedule = "snr";
  std::optional<std::int64_t> clip_skip;

  std::string sample_prompts, sample_sampler;
  std::int64_t sample_every = 0;

  /// Whether the command line or the configuration set a flag, by its long name.
  std::function<bool(const std::string&)> given = [](const std::string&) { return false; };
};

/// The flags of rates, loss, samples, checkpoints, and of the adapter; those of the method and of the output are the tool's own.
void add_image_train_flags(CLI::App& app, ImageTrainOptions& options);

/// The groups of it that a tool may want apart.
void add_lora_flags(CLI::App& app, ImageTrainOptions& options);
void add_token_flags(CLI::App& app, ImageTrainOptions& options);

ImageMethod method_of(const ImageTrainOptions& options);
/// Where state, checkpoints, samples and metrics lie: --run-dir, or the output without its ending + ".run".
std::string run_folder(const ImageTrainOptions& options);

/// Flags that do not go together, or have no use without another: Error(usage).
void check_image_train_flags(const ImageTrainOptions& options);

models::adapters::LoraOptions lora_options(const ImageTrainOptions& options);
train::image::LossOptions loss_options(const ImageTrainOptions& options);
/// The loop's rate, which parameters' lr_scale are shares of.
double base_rate(const ImageTrainOptions& options);

/// What must not change between a stop and its resume, of these flags.
base::Json image_train_settings(const ImageTrainOptions& options);

}  // namespace atelier::cli
