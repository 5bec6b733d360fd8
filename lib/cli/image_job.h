#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/image_controls.h"
#include "cli/image_loras.h"
#include "cli/image_options.h"
#include "image/image.h"
#include "pipelines/control.h"
#include "pipelines/diffusion.h"
#include "pipelines/inpainting.h"
#include "pipelines/upscaling.h"

namespace atelier::cli {

/// A finished picture with what its record tells.
struct MadePicture {
  std::uint64_t seed = 0;
  image::Image picture;
  bool finite = true;
  image::FloatImage soft_mask;  ///< soft inpainting: how much of it shows; empty otherwise
  double text_seconds = 0, encode_seconds = 0, denoise_seconds = 0, decode_seconds = 0;  ///< of its batch
  double upscale_seconds = 0;
  std::int64_t evaluations = 0;
};

/// The networks that a job needs beside the model.
struct JobNetworks {
  std::vector<pipelines::ControlNets::Network> controls;  ///< of ImageJob::controls(), in order
  std::shared_ptr<const pipelines::Upscaler> upscaler;    ///< of --upscale, or null
};

/// One prompt with its pictures: everything is read and checked when it is made, before anything is computed.
class ImageJob {
 public:
  using Embeddings = std::vector<std::shared_ptr<const pipelines::TextualInversion>>;

  /// `options` has prompt and seed. Sizes are settled: options() tells them. Errors as the contract's: flags 64, pictures 65
  /// and 66.
  ImageJob(const pipelines::ImageModelFiles& files, ImageOptions options, ImageTask task);

  const ImageOptions& options() const { return options_; }
  schedulers::SamplerChoice sampler() const { return sampler_; }
  /// The LoRA files that the model must have in its weights when make() is called.
  const std::vector<pipelines::LoraRequest>& loras() const { return text_.loras; }

  /// The ControlNets that it needs, and --upscale's network; attach() must be called with them before make().
  const std::vector<ControlRequest>& controls() const { return controls_; }
  void attach(JobNetworks networks) { networks_ = std::move(networks); }
  /// What records say of them.
  base::Json describe_networks() const;

  /// Model evaluations of all pictures, made `batch_size` at a time, and the upscaler's tiles: what on_step counts.
  std::uint64_t evaluations(std::int64_t batch_size) const;

  /// Makes `count` pictures from the seed of picture `first` on. `on_step` gets the steps of all passes; `dump` intermediate
  /// tensors.
  std::vector<MadePicture> make(const pipelines::ImageModel& model, const Embeddings& embeddings, std::int64_t first,
                                std::int64_t count, const std::function<void(const pipelines::StepReport&)>& on_step,
                                const std::function<void(const std::string&, const at::Tensor&)>& dump);

 private:
  void read_init(const pipelines::ImageModelFiles& files);
  void read_mask(const image::Image& init);
  void read_controls(const pipelines::ImageModelFiles& files);
  void read_upscaler();
  void settle_size(std::int64_t width, std::int64_t height);
  void encode_prompts(const pipelines::ImageModel& model, const Embeddings& embeddings);
  pipelines::DiffusionRequest request(std::int64_t first, std::int64_t count) const;
  std::vector<pipelines::ControlInput> control_inputs(std::int64_t width, std::int64_t height) const;
  std::int64_t enlarged(std::int64_t side) const;
  void enlarge(MadePicture& made, const std::function<void(const pipelines::StepReport&)>& on_step) const;
  void second_pass(const pipelines::ImageModel& model, const pipelines::DiffusionRequest& first,
                   const at::Tensor& latents, std::vector<MadePicture>& pictures) const;

  ImageOptions options_;
  ImageTask task_;
  PromptLoras text_;  ///< the prompt without LoRA tags, and what they asked for
  std::int64_t multiple_ = 8;
  std::uint64_t first_evaluations_ = 0, second_evaluations_ = 0;  ///< of a batch; of a picture's second pass
  std::uint64_t upscale_tiles_ = 0;                               ///< of a picture
  schedulers::SamplerChoice choice_, sampler_;                    ///< as asked for; as it is built
  image::Image init_;                                             ///< img2img: at the working size
  image::Image alpha_;  ///< inpaint: that of the given picture, where it is not the mask
  std::unique_ptr<pipelines::InpaintFrame> frame_;
  std::optional<pipelines::PictureInput> input_;
  std::vector<ControlRequest> controls_;
  std::vector<image::Image> control_pictures_;  ///< as they were read
  std::int64_t upscale_ = 1;                    ///< --upscale's factor
  JobNetworks networks_;
  std::optional<pipelines::Conditioning> positive_, negative_;  ///< encoded by the first make()
  double text_seconds_ = 0;
};

}  // namespace atelier::cli
