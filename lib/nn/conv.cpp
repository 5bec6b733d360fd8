#include "nn/conv.h"

#include <array>
#include <string_view>

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/mish.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/error.h"
#include "base/log.h"
#include "nn/channels_last.h"
#include "nn/frozen.h"

namespace atelier::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Convolution {
  at::Tensor weight, bias;
  std::int64_t stride = 1, padding = 0;

  at::Tensor of(const at::Tensor& x) const {
    return at::conv2d(x, widened(weight, x), bias, {stride, stride}, {padding, padding});
  }
};

/// A convolution whose weight is not trained: its backward pass needs the input's shape only. LibTorch's own keeps the input, too,
/// which is most of what a UNet would keep.
class FrozenConvolution : public torch::autograd::Function<FrozenConvolution> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const Convolution& conv, const at::Tensor& x) {
    ctx->save_for_backward({conv.weight});
    ctx->saved_data["shape"] = x.sizes().vec();
    ctx->saved_data["stride"] = conv.stride;
    ctx->saved_data["padding"] = conv.padding;
    ctx->saved_data["dtype"] = static_cast<std::int64_t>(x.scalar_type());
    ctx->saved_data["layout"] = static_cast<std::int64_t>(x.suggest_memory_format());
    return conv.of(x);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const at::Tensor& y = gradients[0];
    const auto weight = ctx->get_saved_variables()[0].to(y.scalar_type());  // autocast has cast it in the forward pass
    const auto shape = ctx->saved_data["shape"].toIntVector();
    const std::int64_t stride = ctx->saved_data["stride"].toInt(), padding = ctx->saved_data["padding"].toInt();
    // Never written nor read: of its memory only the addresses are taken.
    const auto x = at::empty(shape, y.options(), static_cast<at::MemoryFormat>(ctx->saved_data["layout"].toInt()));
    const auto found = at::convolution_backward(y, x, weight, /*bias_sizes=*/{}, {stride, stride}, {padding, padding}, {1, 1},
                                                /*transposed=*/false, {0, 0}, /*groups=*/1, {true, false, false});
    return {{}, std::get<0>(found).to(static_cast<at::ScalarType>(ctx->saved_data["dtype"].toInt()))};
  }
};

}  // namespace

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
  if (packed.wanted() && adapters.empty() && !at::GradMode::is_enabled()) {
    const auto pack = [&](const at::Tensor& w) { return pack_convolution(w, stride_, padding_, x.sizes()); };
    return packed_convolution(x, packed.of(weight, pack), bias, stride_, padding_);
  }
  // LibTorch would bring the weight into the input's layout at every call. One that is trained stays as its optimiser knows it.
  const auto layout = x.suggest_memory_format();
  const bool fixed = !at::GradMode::is_enabled() && !weight.requires_grad();
  if (fixed && !weight.is_contiguous(layout)) weight.set_data(weight.contiguous(layout));
  const Convolution own{weight, bias, stride_, padding_};
  const bool trained = weight.requires_grad() || (bias.defined() && bias.requires_grad());
  const bool keeps_nothing = at::GradMode::is_enabled() && x.requires_grad() && !trained;
  auto y = keeps_nothing ? FrozenConvolution::apply(own, x) : own.of(x);
  if (adapters.empty()) return y;
  const auto dtype = y.scalar_type();
  for (const auto& adapter : adapters)
    if (adapter->active) y = adapted(*adapter, x, y);
  return y.to(dtype);
}

at::Tensor Conv2d::forward_plus(const at::Tensor& x, const at::Tensor& summand) const {
  if (!packed.wanted() || !adapters.empty() || at::GradMode::is_enabled()) return add_into(forward(x), summand);
  const auto pack = [&](const at::Tensor& w) { return pack_convolution(w, stride_, padding_, x.sizes()); };
  return packed_convolution(x, packed.of(weight, pack), bias, stride_, padding_, summand);
}

at::Tensor Conv2d::adapted(const Adapter& adapter, const at::Tensor& x, const at::Tensor& y) const {
  // Under autocast the convolution casts both sides itself.
  const bool autocast = at::autocast::is_autocast_enabled(x.device().type());
  const auto input = dropped(adapter, autocast ? x : x.to(adapter.lora_a.scalar_type()));
  const auto down = at::conv2d(input, adapter.lora_a, {}, {stride_, stride_}, {padding_, padding_});  // (B, r, H', W')
  const auto added = at::conv2d(down, adapter.lora_b) * adapter.scale;                                // (B, out, H', W')
  if (!adapter.magnitude.defined()) return y + added;
  const auto norms = [&] { return adapted_norms(adapter, weight, /*embedding=*/false); };
  const auto factor = dora_factor(adapter, norms).view({1, -1, 1, 1});
  const bool drops = adapter.training && adapter.dropout > 0;
  // With dropout the base's share comes of the same dropped input.
  const auto own = drops ? Convolution{weight, {}, stride_, padding_}.of(input.to(x.scalar_type()))
                   : bias.defined() ? y - bias.view({1, -1, 1, 1})
                                    : y;
  return y + (factor - 1) * own + factor * added;
}

void prefer_channels_last(Module& module) {
  for (const auto& entry : module.named_modules()) {
    auto* conv = entry.value()->as<Conv2d>();
    if (conv == nullptr || conv->weight.requires_grad()) continue;
    conv->weight.set_data(conv->weight.contiguous(at::MemoryFormat::ChannelsLast));
  }
}

GroupNorm::GroupNorm(std::int64_t groups, std::int64_t channels, double eps) : groups_(groups), eps_(eps) {
  weight = register_parameter("weight", placeholder({channels}), /*requires_grad=*/false);
  bias = register_parameter("bias", placeholder({channels}), /*requires_grad=*/false);
}

at::Tensor GroupNorm::forward(const at::Tensor& x) const {
  if (!has_channels_last_kernels(x) || weight.scalar_type() != x.scalar_type())
    return at::group_norm(x, groups_, weight, bias, eps_);
  return group_norm_channels_last(x, weight, bias, {.groups = groups_, .eps = eps_});
}

at::Tensor GroupNorm::activated(Activation activation, const at::Tensor& x, const at::Tensor& added, bool x_is_free) const {
  const bool silu = activation == Activation::silu;
  if (!has_channels_last_kernels(x) || weight.scalar_type() != x.scalar_type()) {
    const auto sum = added.defined() ? x + added.unsqueeze(-1).unsqueeze(-1) : x;
    return activate(activation, at::group_norm(sum, groups_, weight, bias, eps_));
  }
  const auto y = group_norm_channels_last(
      x, weight, bias, {.groups = groups_, .eps = eps_, .silu = silu, .in_place = x_is_free, .added = added});
  return silu ? y : activate(activation, y);
}

LayerNorm::LayerNorm(std::int64_t size, double eps) : eps_(eps) {
  weight = register_parameter("weight", placeholder({size}), /*requires_grad=*/false);
  bias = register_parameter("bias", placeholder({size}), /*requires_grad=*/false);
}

at::Tensor LayerNorm::forward(const at::Tensor& x) const {
  return at::layer_norm(x, {weight.size(0)}, weight, bias, eps_);
}

at::Tensor join_rows(const std::vector<at::Tensor>& parts) { return at::cat(parts, 0); }

}  // namespace atelier::nn
