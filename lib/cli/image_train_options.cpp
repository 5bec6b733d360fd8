#include "cli/image_train_options.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"
#include "cli/validators.h"
#include "schedulers/samplers.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;

constexpr long long kMostSteps = 1LL << 40;

void in_group(const std::string& group, std::initializer_list<CLI::Option*> options) {
  for (CLI::Option* option : options) option->group(group);
}

CLI::Option* whole(CLI::App& app, const std::string& name, std::int64_t& target, const std::string& text, long long low,
                   long long high) {
  return app.add_option(name, target, text)->check(whole_in_range(low, high))->type_name("N")->capture_default_str();
}

CLI::Option* real(CLI::App& app, const std::string& name, double& target, const std::string& text, double low,
                  double high) {
  return app.add_option(name, target, text)->check(in_range(low, high))->type_name("X")->capture_default_str();
}

CLI::Option* word(CLI::App& app, const std::string& name, std::string& target, const std::string& text,
                  std::vector<std::string> choices) {
  return app.add_option(name, target, text)->check(one_of(std::move(choices)))->capture_default_str();
}

void add_rate_flags(CLI::App& app, ImageTrainOptions& o) {
  in_group("Training",
           {real(app, "--unet-lr", o.unet_lr, "Learning rate of the UNet", 0, 1e3),
            app.add_flag("--train-text-encoder", o.train_text_encoder, "Train the text encoders, too"),
            real(app, "--te-lr", o.te_lr, "Learning rate of the text encoders", 0, 1e3)});
}

void add_loss_flags(CLI::App& app, ImageTrainOptions& o) {
  in_group(
      "Loss",
      {real(app, "--min-snr-gamma", o.min_snr_gamma,
            "Weigh the steps by min(SNR, X) / SNR, with v-prediction / (SNR + 1); 5 is usual; 0: all alike", 0, 1e6),
       real(app, "--noise-offset", o.noise_offset,
            "Shift the noise of whole channels by so much, so that dark and bright pictures can be learnt", 0, 10),
       app.add_flag("--zero-terminal-snr", o.zero_terminal_snr,
                    "Rescale the noise so that the last step has no signal left (models with v-prediction)"),
       word(app, "--loss", o.loss, "Squared error, or Huber's, which far-off pixels weigh less in", {"l2", "huber"}),
       real(app, "--huber-c", o.huber_c, "Where Huber's loss turns from a square to a line", 1e-6, 1e3),
       word(app, "--huber-schedule", o.huber_schedule, "How that changes with the step",
            {"constant", "exponential", "snr"}),
       app.add_option("--clip-skip", o.clip_skip,
                      "Layer of the text encoder that is used: 1 is the last, 2 the last but one (left out, the model's own)")
           ->check(whole_in_range(1, 512))
           ->type_name("N")});
}

void add_sample_flags(CLI::App& app, ImageTrainOptions& o) {
  in_group(
      "Samples",
      {app.add_option("--sample-prompts", o.sample_prompts,
                      "Draw these prompts before the first step, after the last, and in between, into RUN/samples; a "
                      "prompt a line: TEXT --n NEGATIVE --w 512 --h 512 --d SEED --s STEPS --l CFG")
           ->type_name("FILE"),
       whole(app, "--sample-every", o.sample_every, "Steps between samples; 0: none in between", 0, kMostSteps),
       app.add_option("--sample-sampler", o.sample_sampler, "Sampler, as sd-txt2img knows them (left out, the model's own)")
           ->type_name("NAME")});
}

}  // namespace

ImageTrainOptions::ImageTrainOptions() { train.epochs = 10; }

void add_image_train_flags(CLI::App& app, ImageTrainOptions& o) {
  add_rate_flags(app, o);
  add_train_flags(app, o.train,
                  {.lr = false,
                   .evaluations = false,
                   .item = "Pictures",
                   .auto_precision = "what the model is stored in, on a CPU fp32 for fp16",
                   .checkpointing = "Keep of the blocks only inputs and the results of large products and of attention, and "
                                    "compute the rest again in the backward pass: a little more time, far less memory, the same result"});
  add_loss_flags(app, o);
  add_sample_flags(app, o);
  app.add_option("--run-dir", o.run_dir,
                 "Folder of checkpoints, samples, metrics.jsonl and TensorBoard's event files (left out, the output's "
                 "path without its ending + .run)")
      ->type_name("DIR")
      ->group("Output");
  in_group("Model and device",
           {app.add_option("--vae", o.vae, "Another autoencoder: a folder or a file")->type_name("PATH"),
            app.add_option("--tokenizer", o.tokenizer, "Another tokenizer's folder")->type_name("DIR")});
}

void add_lora_flags(CLI::App& app, ImageTrainOptions& o) {
  in_group(
      "Adapter",
      {whole(app, "--rank", o.rank, "Rank of the adapter", 1, 1 << 16),
       real(app, "--alpha", o.alpha, "Its scale is alpha / rank", 1e-6, 1e6),
       whole(app, "--conv-rank", o.conv_rank,
             "LoCon: an adapter of this rank on the UNet's 3x3 convolutions, too; 0: none, with --targets all --rank", 0,
             1 << 16),
       word(app, "--targets", o.targets,
            "Layers with an adapter: attention's projections; also the feed-forward layers (what kohya's scripts "
            "train); or also the residual blocks",
            {"attn", "attn-mlp", "all"}),
       real(app, "--dropout", o.dropout, "Share of the adapter's inputs that is dropped while training", 0, 0.999),
       word(app, "--format", o.format, "Names in the file: kohya's, which UIs and diffusers read, or diffusers' and peft's",
            {"kohya", "peft"}),
       word(app, "--save-dtype", o.save_dtype, "Number format of the file", {"fp32", "fp16", "bf16"})});
}

void add_token_flags(CLI::App& app, ImageTrainOptions& o) {
  in_group("Textual inversion",
           {app.add_option("--token", o.token, "The word that is learnt; captions without it get it put before them")
                ->type_name("WORD"),
            app.add_option("--init-word", o.init_word, "A known word that it begins as")->type_name("WORD"),
            whole(app, "--vectors", o.vectors, "Tokens that it stands for", 1, 75),
            real(app, "--token-lr", o.token_lr, "Learning rate of the word", 0, 1e3)});
}

ImageMethod method_of(const ImageTrainOptions& o) {
  return o.method == "dora"                ? ImageMethod::dora
         : o.method == "textual-inversion" ? ImageMethod::textual_inversion
         : o.method == "full"              ? ImageMethod::full
                                           : ImageMethod::lora;
}

std::string run_folder(const ImageTrainOptions& o) {
  if (!o.run_dir.empty()) return o.run_dir;
  std::filesystem::path path(o.output);
  if (!path.has_filename()) path = path.parent_path();
  return (path.extension() == ".safetensors" ? path.replace_extension() : path).native() + ".run";
}

void check_image_train_flags(const ImageTrainOptions& o) {
  const auto require = [](bool good, const std::string& message, const std::string& hint = {}) {
    if (!good) throw Error(ExitCode::usage, message, hint);
  };
  const ImageMethod method = method_of(o);
  const bool inversion = method == ImageMethod::textual_inversion;
  const bool adapter = method == ImageMethod::lora || method == ImageMethod::dora;
  for (const char* flag : {"rank", "alpha", "conv-rank", "targets", "dropout", "format"})
    require(adapter || !o.given(flag), fmt::format("--{} does not go with --method {}", flag, o.method));
  require(inversion || o.token.empty(), "--token goes with --method textual-inversion");
  for (const char* flag : {"init-word", "vectors", "token-lr"})
    require(inversion || !o.given(flag), fmt::format("--{} goes with --method textual-inversion", flag));
  for (const char* flag : {"unet-lr", "te-lr", "train-text-encoder"})
    require(!inversion || !o.given(flag), fmt::format("--{} does not go with --method textual-inversion", flag));
  require(!inversion || !o.token.empty() || o.common.plan, "--token is missing", "it names the word that is learnt");
  require(o.train_text_encoder || !o.given("te-lr"), "--te-lr needs --train-text-encoder");
  require(o.loss == "huber" || !(o.given("huber-c") || o.given("huber-schedule")), "--huber-c and --huber-schedule need --loss huber");
  require(!o.sample_prompts.empty() || !o.given("sample-every"), "--sample-every needs --sample-prompts");
  require(!o.sample_prompts.empty() || !o.given("sample-sampler"), "--sample-sampler needs --sample-prompts");
  require(!o.train.overwrite || o.train.resume == "auto", "--overwrite does not go with --resume");
  schedulers::parse_sampler(o.sample_sampler);
}

models::adapters::LoraOptions lora_options(const ImageTrainOptions& o) {
  return {.rank = o.rank,
          .alpha = o.alpha,
          .conv_rank = o.conv_rank,
          .targets = models::adapters::lora_targets(o.targets),
          .dora = method_of(o) == ImageMethod::dora,
          .dropout = o.dropout};
}

train::image::LossOptions loss_options(const ImageTrainOptions& o) {
  return {.min_snr_gamma = o.min_snr_gamma,
          .noise_offset = o.noise_offset,
          .zero_terminal_snr = o.zero_terminal_snr,
          .kind = train::image::loss_kind(o.loss),
          .huber_c = o.huber_c,
          .huber_schedule = train::image::huber_schedule(o.huber_schedule)};
}

double base_rate(const ImageTrainOptions& o) {
  if (method_of(o) == ImageMethod::textual_inversion) return o.token_lr;
  return o.unet_lr > 0 || !o.train_text_encoder ? o.unet_lr : o.te_lr;
}

base::Json image_train_settings(const ImageTrainOptions& o) {
  base::Json settings = train_settings(o.train);
  for (const char* absent : {"lr", "early_stop"}) settings.erase(absent);
  const base::Json own = {{"method", o.method},
                          {"rank", o.rank},
                          {"alpha", o.alpha},
                          {"conv_rank", o.conv_rank},
                          {"targets", o.targets},
                          {"dropout", o.dropout},
                          {"train_text_encoder", o.train_text_encoder},
                          {"unet_lr", o.unet_lr},
                          {"te_lr", o.te_lr},
                          {"token", o.token},
                          {"init_word", o.init_word},
                          {"vectors", o.vectors},
                          {"token_lr", o.token_lr},
                          {"min_snr_gamma", o.min_snr_gamma},
                          {"noise_offset", o.noise_offset},
                          {"zero_terminal_snr", o.zero_terminal_snr},
                          {"loss", o.loss},
                          {"huber_c", o.huber_c},
                          {"huber_schedule", o.huber_schedule},
                          {"clip_skip", o.clip_skip ? base::Json(*o.clip_skip) : base::Json()}};
  for (const auto& [key, value] : own.items()) settings[key] = value;
  return settings;
}

}  // namespace atelier::cli
