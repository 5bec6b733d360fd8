#include "pipelines/diffusion.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/stop.h"
#include "base/stopwatch.h"
#include "image/resize.h"
#include "pipelines/pixels.h"
#include "schedulers/noise.h"

namespace atelier::pipelines {
namespace {

using base::Error;
using base::ExitCode;

constexpr double kAestheticScore = 6.0, kNegativeAestheticScore = 2.5;  // diffusers' defaults for the refiner
constexpr std::int64_t kMaxSide = 1 << 15;

/// Two batches as one, row by row: a0 b0 a1 b1 ...
at::Tensor interleave(const at::Tensor& a, const at::Tensor& b) { return at::stack({a, b}, 1).flatten(0, 1); }

at::Tensor repeat_rows(const at::Tensor& row, std::int64_t count) {
  std::vector<std::int64_t> shape = row.sizes().vec();
  shape[0] = count;
  return row.expand(shape);
}

/// The embedding of the guidance scale that distilled models (LCM) take: sin and cos of (scale - 1) * 1000 at falling
/// frequencies. (1, size)
at::Tensor guidance_embedding(double scale, std::int64_t size) {
  const std::int64_t half = size / 2;
  const double step = std::log(10000.0) / static_cast<double>(std::max<std::int64_t>(half - 1, 1));
  const at::Tensor frequencies = at::exp(at::arange(half, at::kFloat) * -static_cast<float>(step));
  const at::Tensor angles = static_cast<float>((scale - 1) * 1000.0) * frequencies;
  at::Tensor embedding = at::cat({at::sin(angles), at::cos(angles)});
  if (size % 2 == 1) embedding = at::constant_pad_nd(embedding, {0, 1});
  return embedding.unsqueeze(0);
}

/// One run: its latents and everything that stays the same from step to step.
class Run {
 public:
  Run(const ImageModel& model, const DiffusionRequest& request)
      : model_(model),
        request_(request),
        noise_(request.seeds),
        scheduler_(schedulers::make_scheduler(model.scheduler_json, model.scheduler_path, request.sampler)),
        guided_(uses_guidance(model, request.cfg_scale)) {
    check();
  }

  DiffusionResult go() {
    const at::NoGradGuard no_grad;
    scheduler_->set_timesteps(request_.steps);
    start_ = request_.input ? scheduler_->start_index(request_.input->strength) : 0;
    if (start_ >= scheduler_->evaluations())
      throw Error(ExitCode::usage, fmt::format("a strength of {} of {} steps leaves no step to make",
                                               request_.input->strength, request_.steps));
    base::Stopwatch watch;
    prepare_latents();
    dump("initial_latents", latents_);
    result_.encode_seconds = watch.seconds();
    prepare_conditioning();
    watch = {};
    prepare_steering();
    denoise();
    dump("final_latents", latents_);
    result_.denoise_seconds = watch.seconds();
    watch = {};
    result_.latents = latents_;
    if (request_.decode)
      decode();
    else
      for (std::int64_t k = 0; k < count(); ++k) result_.finite.push_back(at::isfinite(latents_[k]).all().item<bool>());
    result_.decode_seconds = watch.seconds();
    return std::move(result_);
  }

 private:
  void check() const {
    const auto downscale = model_.vae->downscale();
    for (const auto& [name, value] : {std::pair{"width", request_.width}, std::pair{"height", request_.height}}) {
      if (value < downscale || value > kMaxSide || value % downscale != 0)
        throw Error(ExitCode::usage, fmt::format("--{} {}: it must be a multiple of {} from {} to {}", name, value,
                                                 downscale, downscale, kMaxSide));
    }
    if (guided_ && !request_.negative) throw Error(ExitCode::internal, "guidance without a negative prompt");
    const bool inpainting_model = model_.unet->config().in_channels == 9;
    if (inpainting_model && !(request_.input && request_.input->mask.defined()))
      throw Error(ExitCode::data, "this model is made for inpainting: its UNet wants a mask",
                  "use sd-inpaint, or another model");
  }

  std::vector<std::int64_t> latent_shape() const {
    const auto downscale = model_.vae->downscale();
    return {count(), model_.vae->latent_channels(), request_.height / downscale, request_.width / downscale};
  }
  std::int64_t count() const { return static_cast<std::int64_t>(request_.seeds.size()); }

  at::Tensor draw() { return noise_.normal(latent_shape(), model_.dtype()).to(model_.device()); }

  /// Scaled latents of a picture, drawn from the autoencoder's distribution, one row for each seed.
  at::Tensor encode(const at::Tensor& picture) {
    // diffusers rounds the picture to the pipeline's dtype even where the autoencoder runs in float32.
    const at::Tensor rounded = picture.to(model_.device(), model_.dtype()).to(model_.vae->dtype());
    const auto distribution = model_.vae->encode(rounded, request_.tiling);
    at::Tensor latents = repeat_rows(distribution.mean, count());
    if (distribution.logvar.defined()) {
      const at::Tensor noise = noise_.normal(latents.sizes(), latents.scalar_type()).to(model_.device());
      latents = latents + distribution.std() * noise;
    }
    return model_.vae->scale(latents.to(model_.dtype()));
  }

  void prepare_latents() {
    if (!request_.input) {
      latents_ = draw() * scheduler_->init_noise_sigma();
    } else if (!request_.input->mask.defined()) {
      const at::Tensor& given = request_.input->latents;
      original_ = given.defined() ? repeat_rows(given, count()) : encode(request_.input->picture);
      start_noise_ = draw();
      latents_ = scheduler_->add_noise(original_, start_noise_, start_);
    } else {
      prepare_inpainting();
    }
  }

  /// As diffusers' inpainting pipelines: the picture is encoded only where it is needed, then noise, then the masked picture.
  void prepare_inpainting() {
    const PictureInput& input = *request_.input;
    const bool own_channels = model_.unet->config().in_channels == 9;
    // At full strength the picture leaves no trace in the start, unless the mask's content is asked for.
    const bool from_noise = input.strength == 1 && input.masked_content == MaskedContent::original;
    soft_ = !input.soft_mask.empty();
    if (!own_channels || !from_noise || soft_) original_ = encode(input.picture);
    start_noise_ = draw();
    const auto shape = latent_shape();
    mask_ = at::upsample_nearest2d(input.mask, {shape[2], shape[3]}).to(model_.device(), model_.dtype());
    masked_picture_ = encode(input.picture * (input.mask < 0.5));
    latents_ = from_noise ? start_noise_ * scheduler_->init_noise_sigma()
                          : scheduler_->add_noise(masked_start(input), start_noise_, start_);
  }

  /// The latents of the start, with what the mask covers as masked_content says.
  at::Tensor masked_start(const PictureInput& input) {
    switch (input.masked_content) {
      case MaskedContent::original: break;
      case MaskedContent::fill: return encode(input.start);
      case MaskedContent::noise: return (1 - mask_) * original_ + mask_ * draw();
      case MaskedContent::nothing: return (1 - mask_) * original_;
    }
    return original_;
  }

  /// (2, n) or (1, n): what SDXL is told of sizes, or the refiner of its score; the negative prompt's first.
  at::Tensor time_ids() const {
    const auto h = static_cast<double>(request_.height), w = static_cast<double>(request_.width);
    std::vector<double> negative = {h, w, 0, 0, h, w}, positive = negative;
    if (model_.aesthetic_score) {
      negative = {h, w, 0, 0, kNegativeAestheticScore};
      positive = {h, w, 0, 0, kAestheticScore};
    }
    std::vector<at::Tensor> rows;
    if (guided_) rows.push_back(at::tensor(negative));
    rows.push_back(at::tensor(positive));
    return at::stack(rows).to(model_.device(), model_.dtype());
  }

  /// Whether both halves of guidance go through the UNet side by side.
  bool paired() const { return guided_ && request_.negative->context.size(1) == request_.positive.context.size(1); }

  void prepare_conditioning() {
    const auto fill = [this](models::unet::Input& input, const Conditioning& text, const at::Tensor& ids) {
      input.context = repeat_rows(text.context, count());
      if (!model_.is_xl()) return;
      input.text_embeds = repeat_rows(text.pooled, count());
      input.time_ids = repeat_rows(ids.unsqueeze(0), count());
    };
    const at::Tensor ids = model_.is_xl() ? time_ids() : at::Tensor();
    const auto row = [&](std::int64_t i) { return ids.defined() ? ids[i] : ids; };
    fill(positive_, request_.positive, row(guided_ ? 1 : 0));
    if (guided_) fill(negative_, *request_.negative, row(0));
    const bool cpu = model_.device().is_cpu();
    positive_.rows_together = negative_.rows_together = cpu ? 1 : 0;
    if (const auto size = model_.unet->config().time_cond_proj; size > 0)
      positive_.guidance =
          repeat_rows(guidance_embedding(request_.cfg_scale, size), count()).to(model_.device(), model_.dtype());
    if (!paired()) return;
    positive_.context = interleave(negative_.context, positive_.context);
    if (model_.is_xl()) {
      positive_.text_embeds = interleave(negative_.text_embeds, positive_.text_embeds);
      positive_.time_ids = interleave(negative_.time_ids, positive_.time_ids);
    }
    positive_.rows_together = cpu ? 2 : 0;
  }

  void prepare_steering() {
    for (std::size_t i = 0; i < request_.controls.size(); ++i)
      dump(fmt::format("control.{}", i), request_.controls[i].picture);
    steering_ = ControlSteering(request_.controls);
  }

  /// What a UNet for inpainting sees besides latents: (N, 5, h, w), or undefined.
  at::Tensor inpainting_channels() const {
    if (model_.unet->config().in_channels != 9) return {};
    return at::cat({repeat_rows(mask_, count()), masked_picture_}, 1);
  }

  /// The UNet on rows of latents, which ControlNets see first.
  at::Tensor evaluate(models::unet::Input& input, const at::Tensor& latents, GuidanceRows rows, std::size_t index) {
    const bool pairs = rows == GuidanceRows::pairs;
    input.timestep =
        at::scalar_tensor(scheduler_->timesteps()[index], at::TensorOptions(at::kFloat).device(model_.device()));
    input.sample = pairs ? interleave(latents, latents) : latents;
    steering_.steer(input, rows, index - start_, scheduler_->evaluations() - start_);
    if (const at::Tensor more = inpainting_channels(); more.defined())
      input.sample = at::cat({input.sample, pairs ? interleave(more, more) : more}, 1);
    return model_.unet->forward(input);
  }

  at::Tensor predict(const at::Tensor& sample, std::size_t index) {
    const at::Tensor latents = sample.to(model_.dtype());
    const at::Tensor output =
        evaluate(positive_, latents, paired() ? GuidanceRows::pairs : GuidanceRows::positive, index);
    if (!guided_) return output;
    at::Tensor without, with;
    if (paired()) {
      const auto halves = output.unflatten(0, {count(), 2});
      without = halves.select(1, 0);
      with = halves.select(1, 1);
    } else {
      without = evaluate(negative_, latents, GuidanceRows::negative, index);
      with = output;
    }
    return without + request_.cfg_scale * (with - without);
  }

  void denoise() {
    const std::size_t end = scheduler_->evaluations();
    for (std::size_t i = start_; i < end; ++i) {
      base::throw_if_stopped();
      const at::Tensor output = predict(scheduler_->scale_model_input(latents_, i), i);
      latents_ = scheduler_->step(output, i, latents_, noise_);
      mix_original(i, end);
      if (request_.dump) request_.dump(fmt::format("latents.{:03}", i - start_ + 1), latents_);
      if (request_.on_step) request_.on_step({i - start_ + 1, end - start_, scheduler_->denoised()});
    }
    result_.evaluations = static_cast<std::int64_t>(end - start_);
  }

  /// Puts the original back, with as much noise as the latents have now: outside the mask, or as the strength schedule says.
  void mix_original(std::size_t index, std::size_t end) {
    if (!request_.input || !original_.defined()) return;
    const bool blends = mask_.defined() && (model_.unet->config().in_channels == 4 || soft_);
    const auto& schedule = request_.input->strength_schedule;
    if (!blends && schedule.empty()) return;
    const at::Tensor noised = index + 1 < end ? scheduler_->add_noise(original_, start_noise_, index + 1) : original_;
    if (!schedule.empty()) {
      const auto last = static_cast<double>(end - start_ - 1);
      const double own = strength_at(schedule, last > 0 ? static_cast<double>(index - start_) / last : 0);
      latents_ = own * latents_ + (1 - own) * noised;
    }
    if (!blends) return;
    if (soft_)
      latents_ = soft_mixed(noised, index);
    else
      latents_ = (1 - mask_) * noised + mask_ * latents_;
  }

  /// Noise over signal of a sample at this place, whatever the scheduler's own scale.
  double noise_level(std::size_t index) const {
    const at::Tensor one = at::ones({1, 1, 1, 1}), zero = at::zeros({1, 1, 1, 1});
    return scheduler_->add_noise(zero, one, index).item<double>() /
           std::max(1e-9, scheduler_->add_noise(one, zero, index).item<double>());
  }

  image::FloatImage latent_mask() const {
    const auto shape = latent_shape();
    return image::resize(request_.input->soft_mask, static_cast<int>(shape[3]), static_cast<int>(shape[2]),
                         image::Filter::bilinear);
  }

  at::Tensor soft_mixed(const at::Tensor& noised, std::size_t index) const {
    const auto& soft = request_.input->soft;
    const auto mask = image::soft_step_mask(latent_mask(), noise_level(index), soft);
    std::vector<at::Tensor> rows;
    for (std::int64_t k = 0; k < count(); ++k)
      rows.push_back(from_raster(image::soft_blend(to_raster(noised[k]), to_raster(latents_[k]), mask, soft)));
    return at::stack(rows).to(latents_.device(), latents_.scalar_type());
  }

  void decode() {
    for (std::int64_t k = 0; k < count(); ++k) {
      base::throw_if_stopped();
      const at::Tensor latents = model_.vae->unscale(latents_.narrow(0, k, 1)).to(model_.vae->dtype());
      const at::Tensor picture = model_.vae->decode(latents, request_.tiling)[0];
      if (request_.dump && k == 0) request_.dump("picture", picture);
      result_.finite.push_back(at::isfinite(picture).all().item<bool>());
      result_.pictures.push_back(to_image(picture));
      if (soft_)
        result_.soft_masks.push_back(image::soft_final_mask(to_raster(original_[k]), to_raster(latents_[k]),
                                                            latent_mask(), request_.input->soft));
    }
  }

  void dump(const std::string& name, const at::Tensor& tensor) const {
    if (request_.dump) request_.dump(name, tensor);
  }

  const ImageModel& model_;
  const DiffusionRequest& request_;
  schedulers::SeededNoise noise_;
  std::unique_ptr<schedulers::Scheduler> scheduler_;
  bool guided_, soft_ = false;
  std::size_t start_ = 0;
  at::Tensor latents_;                       ///< (N, 4, h, w)
  at::Tensor original_;                      ///< the given picture's latents, likewise; undefined in text-to-image
  at::Tensor start_noise_;                   ///< what the original is re-noised with
  at::Tensor mask_;                          ///< (1, 1, h, w)
  at::Tensor masked_picture_;                ///< (N, 4, h, w): latents of the picture without what the mask covers
  models::unet::Input positive_, negative_;  ///< paired: both in positive_
  ControlSteering steering_;
  DiffusionResult result_;
};

}  // namespace

double strength_at(const StrengthSchedule& schedule, double fraction) {
  if (schedule.empty()) return 1;
  const auto after =
      std::find_if(schedule.begin(), schedule.end(), [fraction](const auto& point) { return point.first >= fraction; });
  if (after == schedule.begin()) return after->second;
  if (after == schedule.end()) return schedule.back().second;
  const auto before = std::prev(after);
  const double share = (fraction - before->first) / (after->first - before->first);
  return before->second + share * (after->second - before->second);
}

bool uses_guidance(const ImageModel& model, double cfg_scale) {
  return cfg_scale > 1 && model.unet->config().time_cond_proj == 0;
}

DiffusionResult diffuse(const ImageModel& model, const DiffusionRequest& request) { return Run(model, request).go(); }

}  // namespace atelier::pipelines
