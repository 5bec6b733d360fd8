#include "nn/conv.h"

#include <array>
#include <string_view>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/mish.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"

namespace atelier::nn {

Activation parse_activation(const std::string& name, const std::string& what) {
  struct Entry {
    std::string_view name;
    Activation activation;
  };
  static constexpr std::array<Entry, 6> known{{{"silu", Activation::silu},
                                               {"swish", Activation::silu},
                                               {"gelu", Activation::gelu},
                                               {"quick_gelu", Activation::quick_gelu},
                                               {"relu", Activation::relu},
                                               {"mish", Activation::mish}}};
  for (const Entry& entry : known)
    if (name == entry.name) return entry.activation;
  throw base::Error(
      base::ExitCode::data,
      fmt::format("{}: activation {} is not supported; known are silu, swish, gelu, quick_gelu, relu and mish", what,
                  base::in_quotes(name)));
}

at::Tensor activate(Activation activation, at::Tensor x) {
  const bool in_place = !at::GradMode::is_enabled();
  switch (activation) {
    case Activation::silu: return in_place ? at::silu_(x) : at::silu(x);
    case Activation::relu: return in_place ? at::relu_(x) : at::relu(x);
    case Activation::gelu: return at::gelu(x);
    case Activation::mish: return at::mish(x);
    case Activation::quick_gelu: return x * at::sigmoid(1.702 * x);
  }
  return x;
}

at::Tensor add_into(at::Tensor a, const at::Tensor& b) { return at::GradMode::is_enabled() ? a + b : a.add_(b); }

Conv2d::Conv2d(std::int64_t in, std::int64_t out, const Options& o) : stride_(o.stride), padding_(o.padding) {
  weight = register_parameter("weight", placeholder({out, in, o.kernel, o.kernel}), /*requires_grad=*/false);
  if (o.bias) bias = register_parameter("bias", placeholder({out}), /*requires_grad=*/false);
}

at::Tensor Conv2d::forward(const at::Tensor& x) const {
  // LibTorch would bring the weight into the input's layout at every call.
  const auto layout = x.suggest_memory_format();
  if (!at::GradMode::is_enabled() && !weight.is_contiguous(layout)) weight.set_data(weight.contiguous(layout));
  return at::conv2d(x, weight, bias, {stride_, stride_}, {padding_, padding_});
}

GroupNorm::GroupNorm(std::int64_t groups, std::int64_t channels, double eps) : groups_(groups), eps_(eps) {
  weight = register_parameter("weight", placeholder({channels}), /*requires_grad=*/false);
  bias = register_parameter("bias", placeholder({channels}), /*requires_grad=*/false);
}

at::Tensor GroupNorm::forward(const at::Tensor& x) const { return at::group_norm(x, groups_, weight, bias, eps_); }

LayerNorm::LayerNorm(std::int64_t size, double eps) : eps_(eps) {
  weight = register_parameter("weight", placeholder({size}), /*requires_grad=*/false);
  bias = register_parameter("bias", placeholder({size}), /*requires_grad=*/false);
}

at::Tensor LayerNorm::forward(const at::Tensor& x) const {
  return at::layer_norm(x, {weight.size(0)}, weight, bias, eps_);
}

at::Tensor multi_head_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                                bool causal) {
  const auto split = [&](const at::Tensor& x) {  // (B, L, heads d) -> (B, heads, L, d)
    return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
  };
  const auto y =
      at::scaled_dot_product_attention(split(q), split(k), split(v), /*attn_mask=*/{}, /*dropout_p=*/0.0, causal);
  return y.transpose(1, 2).reshape({q.size(0), q.size(1), q.size(2)});  // (B, L, heads d)
}

at::Tensor join_rows(const std::vector<at::Tensor>& parts) { return at::cat(parts, 0); }

}  // namespace atelier::nn
