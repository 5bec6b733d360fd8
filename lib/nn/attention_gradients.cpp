#include "nn/attention_gradients.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "nn/flash.h"

namespace atelier::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor by_heads(const at::Tensor& x, std::int64_t heads) {  // (B, L, heads d) -> (B, heads, L, d)
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}

at::Tensor side_by_side(const at::Tensor& x) {  // back
  return x.transpose(1, 2).reshape({x.size(0), x.size(2), x.size(1) * x.size(3)});
}

variable_list our_gradients(const kernels::FlashKernels& kernel, const at::Tensor& dy, const variable_list& saved,
                            std::int64_t heads, bool causal) {
  const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], upstream = dy.to(q.scalar_type()).contiguous();
  variable_list found;
  for (const auto* x : {&q, &k, &v}) found.push_back(at::empty(x->sizes(), x->options()));
  auto forward = flash_args(q, k, v, heads, causal);
  forward.out = saved[3].data_ptr();
  forward.sums = saved[4].data_ptr<float>();
  flash_gradients(kernel, {.forward = forward,
                           .dy = flash_side(upstream, forward.head_dim),
                           .dq = found[0].mutable_data_ptr(),
                           .dk = found[1].mutable_data_ptr(),
                           .dv = found[2].mutable_data_ptr()});
  return found;
}

/// A known result of attention in the graph of what it came of.
class KnownAttention : public torch::autograd::Function<KnownAttention> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const AttentionResult& result, std::int64_t heads, bool causal) {
    context->save_for_backward({q, k, v, result.y, result.sums});
    context->saved_data["heads"] = heads;
    context->saved_data["causal"] = causal;
    return result.y.detach();
  }

  static variable_list backward(AutogradContext* context, variable_list upstream) {
    const auto saved = context->get_saved_variables();
    const std::int64_t heads = context->saved_data["heads"].toInt();
    const bool causal = context->saved_data["causal"].toBool();
    variable_list found;
    if (const auto* kernel = flash_kernel_for(saved[0], saved[1], saved[2], heads, causal)) {
      found = our_gradients(*kernel, upstream[0], saved, heads, causal);
    } else {
      const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          by_heads(upstream[0], heads), by_heads(saved[0], heads), by_heads(saved[1], heads), by_heads(saved[2], heads), by_heads(saved[3], heads),
          saved[4], /*dropout_p=*/0.0, causal);
      found = {side_by_side(dq), side_by_side(dk), side_by_side(dv)};
    }
    found.resize(6);  // nothing for what is no tensor
    return found;
  }
};

}  // namespace

AttentionResult attention_with_sums(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads, bool causal) {
  const at::NoGradGuard no_graph;
  if (const auto* kernel = flash_kernel_for(q, k, v, heads, causal)) {
    const AttentionResult result{at::empty(q.sizes(), q.options()), at::empty({q.size(0), heads, q.size(1)}, at::kFloat)};
    auto args = flash_args(q, k, v, heads, causal);
    args.out = result.y.mutable_data_ptr();
    args.sums = result.sums.mutable_data_ptr<float>();
    flash_attention(*kernel, args);
    return result;
  }
  const auto [y, sums] = at::_scaled_dot_product_flash_attention_for_cpu(by_heads(q, heads), by_heads(k, heads), by_heads(v, heads),
                                                                         /*dropout_p=*/0.0, causal);
  return {side_by_side(y), sums};
}

at::Tensor with_attention_gradients(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionResult& result,
                                    std::int64_t heads, bool causal) {
  return KnownAttention::apply(q, k, v, result, heads, causal);
}

}  // namespace atelier::nn
