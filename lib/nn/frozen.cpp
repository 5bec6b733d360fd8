#include "nn/frozen.h"

#include <algorithm>
#include <set>

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>

#include "nn/conv.h"
#include "nn/kernels/wide_product.h"
#include "nn/linear.h"
#include "nn/parameters.h"

namespace atelier::nn {
namespace {

/// Names of the parameters that only products read.
std::set<std::string> product_weights(const Module& module) {
  std::set<std::string> names;
  for (const auto& entry : module.named_modules()) {
    Module& layer = *entry.value();
    if (layer.as<Linear>() != nullptr || layer.as<Conv2d>() != nullptr) names.insert(entry.key() + ".weight");
  }
  return names;
}

bool is_half(io::DType dtype) { return dtype == io::DType::F16 || dtype == io::DType::BF16; }

bool computes_in_f32(const at::Tensor& x) {
  return x.scalar_type() == at::kFloat && !at::autocast::is_autocast_enabled(x.device().type());
}

using kernels::WideProduct;
using kernels::WideProductArgs;

/// Null where LibTorch's product serves.
const WideProduct* wide_kernel(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const auto type = weight.scalar_type();
  const bool known = type == at::kFloat || type == at::kHalf || type == at::kBFloat16;
  if (!computes_in_f32(x) || !x.device().is_cpu() || x.numel() == 0 || !known || !weight.is_contiguous()) return nullptr;
  if (bias.defined() && (bias.scalar_type() != at::kFloat || !bias.is_contiguous())) return nullptr;
  return kernels::has_wide_shape(weight.size(1), weight.size(0)) ? kernels::wide_product() : nullptr;
}

at::Tensor wide(const WideProduct& kernel, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool transposed) {
  const at::Tensor input = x.contiguous();
  const std::int64_t depth = weight.size(transposed ? 1 : 0), columns = weight.size(transposed ? 0 : 1), rows = input.numel() / depth;
  auto shape = x.sizes().vec();
  shape.back() = columns;
  const at::Tensor y = at::empty(shape, input.options());
  const WideProductArgs args{.x = input.const_data_ptr<float>(),
                             .rows = rows,
                             .depth = depth,
                             .columns = columns,
                             .w = weight.const_data_ptr(),
                             .type = weight.scalar_type() == at::kHalf       ? WideProductArgs::Weight::float16
                                     : weight.scalar_type() == at::kBFloat16 ? WideProductArgs::Weight::bfloat16
                                                                             : WideProductArgs::Weight::float32,
                             .transposed = transposed,
                             .bias = bias.defined() ? bias.const_data_ptr<float>() : nullptr,
                             .y = y.mutable_data_ptr<float>()};
  // Each thread packs the weights that it needs: by panels where there are enough of them, so that none is packed twice.
  constexpr std::int64_t most_rows = 1024;  ///< whose sums stay in the second cache
  const std::int64_t panels = (columns + kernels::wide_panel - 1) / kernels::wide_panel, threads = at::get_num_threads();
  const bool by_panels = panels >= 8 * threads || panels % threads == 0;
  const std::int64_t share = by_panels ? rows : (rows + threads - 1) / threads;
  const std::int64_t chunk = std::min(most_rows, (share + 5) / 6 * 6), chunks = (rows + chunk - 1) / chunk;
  at::parallel_for(0, by_panels ? panels : chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    const at::Tensor scratch = at::empty({kernel.scratch_size}, at::kFloat);
    const std::int64_t first = by_panels ? 0 : begin, last = by_panels ? chunks : end;
    for (std::int64_t i = first; i < last; ++i)
      kernel.compute(args, i * chunk, std::min(rows, (i + 1) * chunk), by_panels ? begin : 0, by_panels ? end : panels,
                     scratch.mutable_data_ptr<float>());
  });
  return y;
}

}  // namespace

void load_frozen_parameters(Module& module, io::WeightSource& source, const NameMap& names, at::ScalarType dtype, at::Device device) {
  const auto narrow = product_weights(module);
  auto parameters = module.named_parameters();
  load_parameters(module, source, names, dtype, device, [&](const std::string& name, const std::string& stored) {
    const at::Tensor& parameter = parameters[name];
    if (dtype != at::kFloat || !narrow.contains(name) || !has_parameter(stored, parameter, source)) return false;
    const io::DType own = source.info(stored).dtype;
    if (!is_half(own)) return false;
    const at::Tensor loaded = source.load(stored, io::scalar_type(own), device);
    const bool kernel = loaded.dim() == 4 && !loaded.is_contiguous(at::MemoryFormat::ChannelsLast);
    parameter.set_data(kernel ? loaded.contiguous(at::MemoryFormat::ChannelsLast) : loaded);
    if (kernel || !device.is_cpu()) source.release(stored);  // it was copied
    return true;
  });
}

at::Tensor widened(const at::Tensor& weight, const at::Tensor& x) {
  return computes_in_f32(x) && weight.scalar_type() != at::kFloat ? weight.to(at::kFloat) : weight;
}

at::Tensor frozen_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::NoGradGuard no_graph;
  const auto* kernel = wide_kernel(x, weight, bias);
  if (kernel == nullptr) return at::linear(x, widened(weight, x), bias);
  return wide(*kernel, x, weight, bias, /*transposed=*/true);
}

at::Tensor frozen_gradient(const at::Tensor& dy, const at::Tensor& weight) {
  const at::NoGradGuard no_graph;
  const auto* kernel = wide_kernel(dy, weight, {});
  if (kernel == nullptr) return at::matmul(dy, weight.to(dy.scalar_type()));
  return wide(*kernel, dy, weight, {}, /*transposed=*/false);
}

}  // namespace atelier::nn
