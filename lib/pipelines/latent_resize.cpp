#include "pipelines/latent_resize.h"

#include <vector>

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/_upsample_nearest_exact2d.h>
#include <ATen/ops/upsample_bicubic2d.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <fmt/format.h>

#include "base/error.h"

namespace atelier::pipelines {

namespace {

at::Tensor resized(const at::Tensor& latents, const std::vector<std::int64_t>& size, std::string_view filter) {
  if (filter.empty()) return at::upsample_bilinear2d(latents, size, /*align_corners=*/false);
  if (filter == "antialiased") return at::_upsample_bilinear2d_aa(latents, size, /*align_corners=*/false);
  if (filter == "bicubic") return at::upsample_bicubic2d(latents, size, /*align_corners=*/false);
  if (filter == "bicubic-antialiased") return at::_upsample_bicubic2d_aa(latents, size, /*align_corners=*/false);
  if (filter == "nearest") return at::upsample_nearest2d(latents, size);
  if (filter == "nearest-exact") return at::_upsample_nearest_exact2d(latents, size);
  throw base::Error(base::ExitCode::internal, fmt::format("no filter for latents is called {}", filter));
}

}  // namespace

at::Tensor resize_latents(const at::Tensor& latents, std::int64_t height, std::int64_t width, std::string_view filter) {
  // Not every filter has a kernel for every number format.
  return resized(latents.to(at::kFloat), {height, width}, filter).to(latents.scalar_type());
}

}  // namespace atelier::pipelines
