#include "cli/image_training.h"

#include <map>
#include <stdexcept>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/stop.h"
#include "base/stopwatch.h"
#include "cli/image_samples.h"
#include "nn/module.h"
#include "train/image/captions.h"
#include "train/image/tensor_cache.h"
#include "train/run_state.h"

namespace atelier::cli {
namespace {

using base::Json;
using train::image::Condition;
using train::image::ImageBatch;
using train::image::ImageDataset;
using train::image::TensorCache;
using train::image::TextConditioner;

/// A dataset's batches for a task. Captions that do not name the word of a textual inversion get it.
class DatasetSource final : public train::image::BatchSource {
 public:
  /// `token`: the word, or "".
  DatasetSource(std::shared_ptr<ImageDataset> data, std::shared_ptr<const TextConditioner> text, std::string token)
      : data_(std::move(data)), text_(std::move(text)), token_(std::move(token)) {}
  std::unique_ptr<ImageBatch> next() override {
    auto batch = data_->next();
    if (token_.empty()) return batch;
    for (std::string& caption : batch->captions)
      if (!text_->names_tokens(caption)) caption = caption.empty() ? "a photo of " + token_ : token_ + ", " + caption;
    return batch;
  }
  Json position() const override { return data_->position(); }
  void seek(const Json& position) override { data_->seek(position); }

 private:
  std::shared_ptr<ImageDataset> data_;
  std::shared_ptr<const TextConditioner> text_;
  std::string token_;
};

/// Embeddings of captions, each computed once: a text encoder that is not trained gives the same every time.
class CaptionCache {
 public:
  /// `disk` may be null.
  CaptionCache(std::shared_ptr<const TextConditioner> text, std::shared_ptr<const TensorCache> disk)
      : text_(std::move(text)), disk_(std::move(disk)) {}

  /// Computes these now and lets go of the text encoders: no other caption may come.
  void finish(const std::vector<std::string>& captions) {
    for (const std::string& caption : captions) {
      base::throw_if_stopped();
      get(caption, train::image::caption_key(caption));
    }
    text_.reset();
  }

  Condition operator()(const ImageBatch& batch) {
    std::vector<at::Tensor> contexts, pooled;
    for (std::size_t i = 0; i < batch.captions.size(); ++i) {
      const Condition one = get(batch.captions[i], batch.keys[i]);
      contexts.push_back(one.context);
      if (one.pooled.defined()) pooled.push_back(one.pooled);
    }
    return {at::cat(contexts, 0), pooled.empty() ? at::Tensor() : at::cat(pooled, 0)};
  }

 private:
  static constexpr std::size_t kMostBytes = std::size_t{256} << 20;

  Condition get(const std::string& caption, const std::string& key) {
    if (const auto known = held_.find(key); known != held_.end()) return known->second;
    const Condition made = disk_ ? from_disk(caption, key) : compute(caption);
    bytes_ += made.context.nbytes();
    if (bytes_ <= kMostBytes) held_[key] = made;  // captions that change every time would fill any memory
    return made;
  }

  Condition compute(const std::string& caption) const {
    if (!text_) throw std::logic_error("a caption that the dataset did not name");
    const at::NoGradGuard no_grad;
    return text_->encode({caption});
  }

  Condition from_disk(const std::string& caption, const std::string& key) const {
    const auto tensors = disk_->get(key, [&] {
      const Condition made = compute(caption);
      train::TensorMap map{{"context", made.context.to(at::kCPU)}};
      if (made.pooled.defined()) map["pooled"] = made.pooled.to(at::kCPU);
      return map;
    });
    const auto pooled = tensors.find("pooled");
    return {tensors.at("context"), pooled == tensors.end() ? at::Tensor() : pooled->second};
  }

  std::shared_ptr<const TextConditioner> text_;
  std::shared_ptr<const TensorCache> disk_;
  std::map<std::string, Condition> held_;
  std::size_t bytes_ = 0;
};

class Run {
 public:
  explicit Run(const ImageTraining& training) : t_(training), o_(training.options) {}

  ImageTrainingResult go() {
    make_text();
    cache_latents();
    make_samples();
    make_captions();
    if (needs_unet_alone()) drop_encoders();
    train::image::DiffusionTask task({.unet = t_.trainee.model->unet, .vae = t_.trainee.model->vae, .xl = t_.files.is_xl()},
                                     text_, t_.trainee.parameters,
                                     std::make_shared<DatasetSource>(t_.data, text_, o_.token),
                                     scheduler(), task_options());
    ImageTrainingResult result;
    result.loop = loop_options(o_.train, run_folder(o_), steps_of(o_.train, t_.data->steps_per_epoch()));
    result.loop.lr = base_rate(o_);
    result.loop.eval_every = t_.pairs.empty() ? o_.sample_every : t_.eval_every;
    result.loop.precision = t_.files.precision;
    result.loop.processes = t_.processes;
    result.loop.settings = settings();
    base::log_info(fmt::format("{} steps, {} numbers trained, {} pictures an epoch", result.loop.steps,
                               t_.trainee.trained(), t_.data->report().draws));
    at::manual_seed(t_.seed);
    base::keep_large_blocks();
    const base::Stopwatch watch;
    result.run = t_.run ? t_.run(task, result.loop) : train::train(task, result.loop);
    o_.common.record->timings["train_s"] = watch.seconds();
    if (!t_.run) {
      train::take_weights(t_.trainee.parameters, result.run.checkpoint);
      t_.trainee.set_training(false);
    }
    return result;
  }

 private:
  bool trains_text() const { return o_.train_text_encoder || t_.trainee.token; }

  schedulers::Config scheduler() const {
    const auto& model = *t_.trainee.model;
    return schedulers::parse_config(model.scheduler_json, model.scheduler_path, schedulers::Kind::ddpm);
  }

  std::shared_ptr<const TensorCache> cache(const std::string& kind, Json of) const {
    if (t_.cache_folder.empty()) return nullptr;
    of["model"] = model_fingerprint(t_.files.files);
    return std::make_shared<TensorCache>(t_.cache_folder, kind, of);
  }

  void make_text() {
    std::vector<train::image::TrainedToken> tokens;
    if (t_.trainee.token) tokens.push_back(*t_.trainee.token);
    text_ = std::make_shared<TextConditioner>(t_.trainee.towers(), t_.files.is_xl(), o_.clip_skip, tokens);
  }

  void cache_latents() {
    const auto disk = cache("latents", {{"dtype", c10::toString(t_.trainee.model->vae->dtype())}});
    if (!disk) return;
    const base::Stopwatch watch;
    const auto& vae = *t_.trainee.model->vae;
    const auto encode = [&](const at::Tensor& pixels) { return train::image::encode_moments(vae, pixels); };
    t_.processes->in_turn([&] { t_.data->cache_latents(disk, encode); });
    o_.common.record->timings["cache_s"] = watch.seconds();
  }

  void make_samples() {
    if (o_.sample_prompts.empty()) return;
    ImageSampleWriter::Options options{.folder = run_folder(o_) + "/samples",
                                       .width = t_.sample_width,
                                       .height = t_.sample_height,
                                       .seed = t_.seed,
                                       .sampler = schedulers::parse_sampler(o_.sample_sampler),
                                       .clip_skip = o_.clip_skip,
                                       .embedding = {}};
    if (t_.trainee.token) options.embedding = [token = *t_.trainee.token] { return embedding_of(token); };
    samples_ = std::make_unique<ImageSampleWriter>(o_.sample_prompts, t_.trainee.model, std::move(options));
  }

  void make_captions() {
    if (trains_text()) return;
    captions_ = std::make_shared<CaptionCache>(
        text_, cache("captions", {{"dtype", c10::toString(t_.files.files.dtype)},
                                  {"clip_skip", o_.clip_skip ? Json(*o_.clip_skip) : Json()}}));
  }

  /// Whether everything that the other networks give is known before the first step: latents and captions are on disk, and no picture is
  /// drawn or model written afterwards.
  bool needs_unet_alone() const {
    const ImageMethod method = method_of(o_);
    return !t_.cache_folder.empty() && captions_ && !samples_ && !t_.draws_pictures && !t_.run &&
           (method == ImageMethod::lora || method == ImageMethod::dora) && !t_.data->captions_vary();
  }

  /// A fifth of SD 1's weights.
  void drop_encoders() {
    t_.processes->in_turn([&] { captions_->finish(t_.data->captions()); });
    nn::drop_parameters(*t_.trainee.model->vae);
    for (const auto& encoder : t_.trainee.model->text_encoders) nn::drop_parameters(*encoder.network);
  }

  static std::shared_ptr<const pipelines::TextualInversion> embedding_of(const train::image::TrainedToken& token) {
    auto embedding = std::make_shared<pipelines::TextualInversion>();
    embedding->path = token.name;
    embedding->names = {token.name};
    for (const at::Tensor& vectors : token.vectors) embedding->vectors.push_back(vectors.detach());
    return embedding;
  }

  train::image::DiffusionTaskOptions task_options() {
    train::image::DiffusionTaskOptions options;
    options.loss = loss_options(o_);
    options.checkpointing = o_.train.checkpointing;
    options.train_text = trains_text();
    options.accumulation = o_.train.accumulation;
    if (captions_) options.cached_text = [captions = captions_](const ImageBatch& batch) { return (*captions)(batch); };
    options.set_training = [trainee = &t_.trainee](bool training) { trainee->set_training(training); };
    options.write_checkpoint = t_.write_checkpoint;
    options.pairs = t_.pairs;
    if (samples_) options.after_evaluation = [samples = samples_.get()](std::int64_t step) { samples->write(step); };
    return options;
  }

  Json settings() const {
    Json all = {{"model", model_fingerprint(t_.files.files)},
                {"data", t_.data->sha256()},
                {"seed", t_.seed},
                {"precision", t_.files.precision == train::Precision::fp32   ? "fp32"
                              : t_.files.precision == train::Precision::bf16 ? "bf16"
                                                                             : "fp16"},
                {"dtype", c10::toString(t_.files.files.dtype)},
                {"cached_latents", !t_.cache_folder.empty()}};
    const Json shared = image_train_settings(o_);
    for (const Json* part : {&t_.settings, &shared})
      for (const auto& [key, value] : part->items()) all[key] = value;
    return all;
  }

  const ImageTraining& t_;
  const ImageTrainOptions& o_;
  std::shared_ptr<const TextConditioner> text_;
  std::unique_ptr<ImageSampleWriter> samples_;
  std::shared_ptr<CaptionCache> captions_;  ///< null where the text encoders are trained
};

}  // namespace

ImageTrainingResult run_image_training(const ImageTraining& training) { return Run(training).go(); }

}  // namespace atelier::cli
