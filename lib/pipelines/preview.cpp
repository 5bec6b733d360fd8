#include "pipelines/preview.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "pipelines/pixels.h"

namespace atelier::pipelines {
namespace {

// Random colours in fields of kField x kField latents: the middle of a field decodes to about what its latent means.
constexpr std::int64_t kFields = 6, kField = 4;
constexpr std::uint64_t kSeed = 20;
constexpr double kRidge = 1e-2;  // keeps the fit tame where latents hardly matter

/// (rows, channels + 1): the latents of each field and a 1.
at::Tensor with_constant(const at::Tensor& rows) { return at::cat({rows, at::ones({rows.size(0), 1})}, 1); }

}  // namespace

LatentPreview::LatentPreview(const ImageModel& model, const std::string& vae) {
  const at::NoGradGuard no_grad;
  enlarge_ = std::max<std::int64_t>(1, model.vae->downscale() / 2);
  if (vae.empty()) {
    fit(model);
    return;
  }
  vae_ = load_vae(vae, model);
  if (vae_->latent_channels() != model.vae->latent_channels())
    throw base::Error(base::ExitCode::data, fmt::format("{}: it decodes {} latent channels, the model has {}", vae,
                                                        vae_->latent_channels(), model.vae->latent_channels()));
}

void LatentPreview::fit(const ImageModel& model) {
  const auto& vae = *model.vae;
  const std::int64_t channels = vae.latent_channels(), downscale = vae.downscale();
  at::Generator generator = at::detail::createCPUGenerator(kSeed);
  const at::Tensor fields = at::randn({1, channels, kFields, kFields}, generator);
  const at::Tensor latents = fields.repeat_interleave(kField, 2).repeat_interleave(kField, 3);
  const at::Tensor scaled = vae.unscale(latents.to(model.device(), model.dtype())).to(vae.dtype());
  const at::Tensor picture = vae.decode(scaled).to(at::kCPU, at::kFloat);
  // The mean colour of the middle 2x2 latents of every field.
  const at::Tensor inner = picture.slice(2, downscale).slice(3, downscale);
  const std::int64_t kernel = 2 * downscale, stride = kField * downscale;
  const at::Tensor colours =
      at::avg_pool2d(inner, {kernel, kernel}, {stride, stride}).flatten(2)[0].t().nan_to_num(0, 1, -1);
  const at::Tensor inputs = with_constant(fields.flatten(2)[0].t());
  const at::Tensor square = inputs.t().mm(inputs) + kRidge * at::eye(channels + 1);
  map_ = at::linalg_solve(square, inputs.t().mm(colours));
}

image::Image LatentPreview::draw(const at::Tensor& latents) const {
  const at::NoGradGuard no_grad;
  if (vae_) {
    const at::Tensor whole = latents.detach().unsqueeze(0).to(vae_->device(), vae_->dtype());
    return to_image(vae_->decode(vae_->unscale(whole))[0]);
  }
  const at::Tensor rows = latents.detach().to(at::kCPU, at::kFloat).flatten(1).t();
  const at::Tensor colours = with_constant(rows).mm(map_).t().reshape({3, latents.size(1), latents.size(2)});
  return to_image(colours.repeat_interleave(enlarge_, 1).repeat_interleave(enlarge_, 2));
}

}  // namespace atelier::pipelines
