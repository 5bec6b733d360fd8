#pragma once

#include <cstdint>
#include <string_view>

#include <ATen/core/Tensor.h>

namespace atelier::pipelines {

/// (N, C, h, w) -> (N, C, height, width) as torch.nn.functional.interpolate does, corners not aligned. Filters by the names of
/// A1111's "Latent (...)": "" is bilinear; antialiased, bicubic, bicubic-antialiased, nearest, nearest-exact. Error(internal):
/// another one.
at::Tensor resize_latents(const at::Tensor& latents, std::int64_t height, std::int64_t width, std::string_view filter);

}  // namespace atelier::pipelines
