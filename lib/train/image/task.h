#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/unet/unet.h"
#include "models/vae/autoencoder.h"
#include "train/image/batch.h"
#include "train/image/conditions.h"
#include "train/image/dataset.h"
#include "train/image/loss.h"

namespace atelier::train::image {

/// Where micro-batches come from, and from where on they come again.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  /// Never ends. One of weight 0 has no tensors and teaches nothing.
  virtual std::unique_ptr<ImageBatch> next() = 0;
  virtual base::Json position() const = 0;
  virtual void seek(const base::Json& position) = 0;
};

/// The networks of a Stable Diffusion model.
struct Networks {
  std::shared_ptr<models::unet::UNet> unet;
  std::shared_ptr<const models::vae::Autoencoder> vae;  ///< its scale() is always needed; frozen
  bool xl = false;                                      ///< the UNet is told sizes and pooled text
};

/// Mean and log-variance of pictures' latents, (B, 8, h, w) f32 on the CPU, as batches have them in `moments`. Pixels (B, 3, H,
/// W) in [-1, 1]. Without gradients and autocast, in the autoencoder's own format.
at::Tensor encode_moments(const models::vae::Autoencoder& vae, const at::Tensor& pixels);

/// Pictures that are always noised in the same way. The loss of them can be compared from step to step and from run to run, as
/// those of the steps cannot, each of which sees other pictures, noise and timesteps.
struct FixedPair {
  std::shared_ptr<const ImageBatch> batch;  ///< with latents
  at::Tensor noise;                         ///< of the latents' shape, f32, on the CPU
  at::Tensor timesteps;                     ///< (B) int64
};

/// `count` of them from a dataset's first epoch, the pictures in turn. Of the range of timesteps, cut into `count` equal parts, each
/// pair has the middle of one. `seed` decides noise, the latents' draw and which pair has which part; the same pictures and seed
/// make the same pairs, whatever is drawn elsewhere.
std::vector<FixedPair> fixed_pairs(ImageDataset& data, const models::vae::Autoencoder& vae, std::int64_t timesteps,
                                   std::int64_t count, std::uint64_t seed);

struct DiffusionTaskOptions {
  LossOptions loss;
  bool checkpointing = false;
  bool train_text = false;         ///< gradients go through the text encoders
  std::int64_t accumulation = 1;   ///< micro-batches of a step: tells the hooks what step it is
  /// The captions' embeddings from a cache, in place of the text encoders; may be empty.
  std::function<Condition(const ImageBatch&)> cached_text;
  std::function<void(bool training)> set_training;           ///< switches dropout; may be empty
  std::function<void(const std::string&)> write_checkpoint;  ///< adds files to a checkpoint's folder; may be empty
  std::function<void(std::int64_t step)> after_evaluation;   ///< draws samples; may be empty
  std::vector<FixedPair> pairs;                              ///< evaluate() gives their mean loss; empty: nothing
};

/// Teaches a diffusion model pictures. A step of one micro-batch draws, from LibTorch's default CPU generator and in diffusers'
/// order: the latents from the autoencoder's distribution (where a batch has none), noise, offsets, timesteps.
class DiffusionTask final : public Task {
 public:
  /// `parameters`: what is trained, leaves of the networks. Error(data) for a UNet that does not take 4 channels or does not
  /// predict them (inpainting models). Errors of Diffusion.
  DiffusionTask(Networks networks, std::shared_ptr<const TextConditioner> text, std::vector<Parameter> parameters,
                std::shared_ptr<BatchSource> data, const schedulers::Config& scheduler, DiffusionTaskOptions options);

  std::vector<Parameter> parameters() override { return parameters_; }
  std::unique_ptr<Batch> next() override;
  at::Tensor loss(const Batch& batch) override;
  void skip(const Batch& batch) override;
  base::Json position() const override;
  void seek(const base::Json& position) override;
  std::optional<double> evaluate() override;
  void write_checkpoint(const std::string& folder) override;

 private:
  at::Tensor latents_of(const ImageBatch& batch) const;
  Condition condition_of(const ImageBatch& batch) const;
  at::Tensor losses(const ImageBatch& batch, const at::Tensor& latents, const at::Tensor& noise,
                    const at::Tensor& timesteps) const;
  at::Tensor predict(const ImageBatch& batch, const at::Tensor& noised, const at::Tensor& timesteps) const;
  void set_training(bool training) const;

  Networks networks_;
  std::shared_ptr<const TextConditioner> text_;
  std::vector<Parameter> parameters_;
  std::shared_ptr<BatchSource> data_;
  Diffusion diffusion_;
  DiffusionTaskOptions options_;
  std::int64_t micro_batches_ = 0;  ///< drawn in all
};

}  // namespace atelier::train::image
