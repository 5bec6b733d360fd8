#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

namespace atelier::models::vae {

/// Works through x (B, C, H, W) in squares of `tile`, a new one every `step`, and joins the results: each is blended linearly
/// over `blend` rows and columns with those above and to the left, then cut to `keep` (diffusers: AutoencoderKL.tiled_decode).
struct Tiles {
  std::int64_t tile, step;   ///< in x
  std::int64_t blend, keep;  ///< in the result
};

at::Tensor by_tiles(const at::Tensor& x, const Tiles& tiles, const std::function<at::Tensor(const at::Tensor&)>& work);

}  // namespace atelier::models::vae
