#include "pipelines/pixels.h"

#include <algorithm>

#include <ATen/ATen.h>

namespace atelier::pipelines {

at::Tensor to_unit_tensor(const image::Image& picture) {
  const at::Tensor bytes = at::from_blob(const_cast<std::uint8_t*>(picture.data.data()),
                                         {1, picture.height, picture.width, picture.channels}, at::kByte);
  return bytes.permute({0, 3, 1, 2}).to(at::kFloat).contiguous() / 255.0;
}

at::Tensor to_tensor(const image::Image& picture) { return 2.0 * to_unit_tensor(picture) - 1.0; }

at::Tensor to_tensor(const image::Mask& mask, int threshold) {
  const at::Tensor bytes =
      at::from_blob(const_cast<std::uint8_t*>(mask.data.data()), {1, 1, mask.height, mask.width}, at::kByte);
  return (bytes >= threshold).to(at::kFloat);
}

image::FloatImage to_raster(const at::Tensor& latents) {
  const at::Tensor values = latents.detach().to(at::kCPU, at::kFloat).permute({1, 2, 0}).contiguous();
  image::FloatImage raster(static_cast<int>(values.size(1)), static_cast<int>(values.size(0)),
                           static_cast<int>(values.size(2)));
  std::copy_n(values.data_ptr<float>(), raster.data.size(), raster.data.begin());
  return raster;
}

at::Tensor from_raster(const image::FloatImage& raster) {
  const at::Tensor values =
      at::from_blob(const_cast<float*>(raster.data.data()), {raster.height, raster.width, raster.channels}, at::kFloat);
  return values.permute({2, 0, 1}).contiguous().clone();
}

image::Image to_image(const at::Tensor& picture) {
  const at::Tensor scaled = (picture.detach().to(at::kCPU, at::kFloat) / 2 + 0.5).nan_to_num(0, 1, 0).clamp(0, 1);
  const at::Tensor bytes = (scaled.permute({1, 2, 0}) * 255).round().to(at::kByte).contiguous();
  image::Image pixels(static_cast<int>(picture.size(2)), static_cast<int>(picture.size(1)),
                      static_cast<int>(picture.size(0)));
  std::copy_n(bytes.data_ptr<std::uint8_t>(), pixels.data.size(), pixels.data.begin());
  return pixels;
}

}  // namespace atelier::pipelines
