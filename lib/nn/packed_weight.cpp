#include "nn/packed_weight.h"

#include <array>
#include <optional>
#include <string_view>

#include <ATen/Context.h>
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>

#include "io/mapped_file.h"
#include "nn/conv.h"
#include "nn/linear.h"

namespace atelier::nn {
namespace {

using Scalars = c10::List<std::optional<at::Scalar>>;

/// LibTorch has these operators for its compiler; they have no functions in at::.
template <class Signature>
auto operation(const char* name, const char* overload = "") {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

std::optional<at::Tensor> optional(const at::Tensor& bias) {
  return bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt;
}

bool has_packed_kernels(const at::Tensor& weight) {
#ifdef __x86_64__
  if (!weight.device().is_cpu() || !at::hasMKLDNN()) return false;
  if (weight.scalar_type() == at::kFloat) return true;
  return weight.scalar_type() == at::kBFloat16 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq");
#else
  return false;
#endif
}

/// Calls f(weight, its packed form) for every layer that may have one.
template <class F>
void for_each_layer(Module& module, const F& f) {
  const auto visit = [&](Module& layer) {
    if (auto* linear = layer.as<Linear>()) f(linear->weight, linear->packed);
    if (auto* conv = layer.as<Conv2d>()) f(conv->weight, conv->packed);
  };
  visit(module);
  for (const auto& entry : module.named_modules()) visit(*entry.value());
}

void release(const at::Tensor& tensor) {
  if (tensor.device().is_cpu() && tensor.is_non_overlapping_and_dense())
    io::MappedFile::release_memory(tensor.const_data_ptr(), tensor.nbytes());
}

}  // namespace

bool PackedWeight::holds(const at::Tensor& weight) const { return hollow_.defined() && weight.is_alias_of(hollow_); }

const at::Tensor& PackedWeight::of(const at::Tensor& weight, const std::function<at::Tensor(const at::Tensor&)>& pack) {
  if (holds(weight)) return packed_;
  packed_ = pack(weight);
  release(weight);
  hollow_ = at::empty({}, weight.options());
  weight.set_data(hollow_.expand(weight.sizes()));
  return packed_;
}

void PackedWeight::unpack(const at::Tensor& weight) {
  if (holds(weight)) weight.set_data(packed_.to_dense());
  packed_ = hollow_ = at::Tensor();
}

void pack_when_used(Module& module) {
  for_each_layer(module, [](const at::Tensor& weight, PackedWeight& packed) {
    if (has_packed_kernels(weight)) packed.want();
  });
}

void unpack(Module& module) {
  for_each_layer(module, [](const at::Tensor& weight, PackedWeight& packed) { packed.unpack(weight); });
}

void release_pages(const Module& module) {
  for (const auto& entry : module.named_parameters()) release(entry.value());
}

at::Tensor pack_linear(const at::Tensor& weight, std::int64_t rows) {
  static const auto reorder = operation<at::Tensor(const at::Tensor&, std::optional<std::int64_t>)>("mkldnn::_reorder_linear_weight");
  return reorder.call(weight.contiguous(), rows);
}

at::Tensor packed_linear(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias, const at::Tensor& summand) {
  if (summand.defined()) {
    using Signature =
        at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view);
    static const auto product = operation<Signature>("mkldnn::_linear_pointwise", "binary");
    return product.call(x, summand, packed, optional(bias), "add");
  }
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view, Scalars,
                               std::optional<std::string_view>);
  static const auto product = operation<Signature>("mkldnn::_linear_pointwise");
  return product.call(x, packed, optional(bias), "none", Scalars(), std::nullopt);
}

at::Tensor pack_convolution(const at::Tensor& weight, std::int64_t stride, std::int64_t padding, at::IntArrayRef input_size) {
  using Signature =
      at::Tensor(const at::Tensor&, at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, std::int64_t, at::OptionalIntArrayRef);
  static const auto reorder = operation<Signature>("mkldnn::_reorder_convolution_weight");
  const std::array<std::int64_t, 2> pad{padding, padding}, step{stride, stride}, dilation{1, 1};
  return reorder.call(weight.contiguous(), pad, step, dilation, 1, input_size);
}

at::Tensor packed_convolution(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias, std::int64_t stride,
                              std::int64_t padding, const at::Tensor& summand) {
  const std::array<std::int64_t, 2> pad{padding, padding}, step{stride, stride}, dilation{1, 1};
  if (summand.defined()) {
    using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                 at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, std::int64_t, std::string_view,
                                 std::optional<at::Scalar>, std::optional<std::string_view>, Scalars, std::optional<std::string_view>);
    static const auto convolve = operation<Signature>("mkldnn::_convolution_pointwise", "binary");
    return convolve.call(x, summand, packed, optional(bias), pad, step, dilation, 1, "add", std::nullopt, std::nullopt, Scalars(),
                         std::nullopt);
  }
  using Signature =
      at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, at::IntArrayRef, at::IntArrayRef,
                 at::IntArrayRef, std::int64_t, std::string_view, Scalars, std::optional<std::string_view>);
  static const auto convolve = operation<Signature>("mkldnn::_convolution_pointwise");
  return convolve.call(x, packed, optional(bias), pad, step, dilation, 1, "none", Scalars(), std::nullopt);
}

}  // namespace atelier::nn
