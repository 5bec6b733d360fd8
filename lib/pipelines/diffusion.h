#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "image/image.h"
#include "image/soft_inpaint.h"
#include "pipelines/control.h"
#include "pipelines/image_model.h"
#include "pipelines/prompt_encoding.h"
#include "schedulers/samplers.h"

namespace atelier::pipelines {

/// What the repainted part of a picture begins as.
enum class MaskedContent {
  original,  ///< the picture itself
  fill,      ///< colours blurred in from around the mask; the caller fills `start`
  noise,     ///< latents of noise
  nothing,   ///< latents of zero
};

/// Weight of the model's own latents over a run: (fraction of the run, weight), fractions ascending from 0 to 1, linear
/// between them. Empty: 1 throughout.
using StrengthSchedule = std::vector<std::pair<double, double>>;
double strength_at(const StrengthSchedule& schedule, double fraction);

/// What a run begins with besides noise.
struct PictureInput {
  at::Tensor picture;  ///< (1, 3, height, width) in [-1, 1]
  at::Tensor latents;  ///< (1, 4, h, w), scaled: image-to-image from these and not from `picture`
  at::Tensor start;    ///< likewise; undefined: `picture`. What the first latents are made of
  at::Tensor mask;     ///< (1, 1, height, width), 1 is repainted; undefined: image-to-image
  MaskedContent masked_content = MaskedContent::original;
  double strength = 1;  ///< 0 to 1
  StrengthSchedule strength_schedule;
  image::FloatImage soft_mask;  ///< soft inpainting: of the picture's size, 0 to 1; empty: `mask` alone decides
  image::SoftInpaint soft;
};

/// Where a run stands, after a step.
struct StepReport {
  std::size_t step = 0, total = 0;  ///< model evaluations: done, of all
  at::Tensor denoised;              ///< (N, 4, h, w): estimate of the finished latents, scaled
};

/// Pictures of one prompt and size, one for each seed.
struct DiffusionRequest {
  Conditioning positive;
  std::optional<Conditioning> negative;  ///< nothing: no guidance
  double cfg_scale = 7.5;                ///< 1 or less: no guidance
  std::int64_t width = 512, height = 512, steps = 20;
  schedulers::SamplerChoice sampler;
  std::vector<std::uint64_t> seeds;
  std::optional<PictureInput> input;
  std::vector<ControlInput> controls;
  models::vae::Tiling tiling;
  bool decode = true;  ///< false: `latents` is all that is wanted
  std::function<void(const StepReport&)> on_step;
  /// Receives intermediate tensors by name: "initial_latents", "control.0" (a ControlNet's picture), "latents.001" (after the first evaluation), ...,
  /// "final_latents", "picture".
  std::function<void(const std::string&, const at::Tensor&)> dump;
};

struct DiffusionResult {
  at::Tensor latents;                         ///< (N, 4, h, w) by seed, scaled
  std::vector<image::Image> pictures;         ///< by seed; none where nothing is decoded
  std::vector<bool> finite;                   ///< by seed; false: the picture, or its latents, hold NaN or infinity
  std::vector<image::FloatImage> soft_masks;  ///< soft inpainting: how much of each shows, by latent pixels; else empty
  std::int64_t evaluations = 0;               ///< model evaluations of the run
  double encode_seconds = 0, denoise_seconds = 0, decode_seconds = 0;
};

/// Whether this scale makes the model run with guidance, which then needs a negative prompt.
bool uses_guidance(const ImageModel& model, double cfg_scale);

/// Runs the diffusion: equal to diffusers' StableDiffusionPipeline and StableDiffusionXLPipeline, and their Img2Img,
/// Inpaint and ControlNet kin, for the same scheduler and generators torch.Generator("cpu").manual_seed(seed), one for each picture; draws
/// are made on the CPU in the model's dtype, in diffusers' order (autoencoder, start, then the sampler's own). On the CPU a
/// picture is the same bit for bit whatever pictures are made beside it.
///
/// Sizes must be multiples of the autoencoder's downscale. Looks at the stop flag at every step. Error(usage): a size, a
/// strength that leaves no step, a sampler that cannot make so many steps; Error(data): a model that cannot do this.
DiffusionResult diffuse(const ImageModel& model, const DiffusionRequest& request);

}  // namespace atelier::pipelines
