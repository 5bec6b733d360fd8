#include "nn/cross_entropy.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace atelier::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::int64_t chunk_elements = 16 << 20;

/// A chunk's losses added up (f64), and where `gradient` is asked for that with respect to the raw logits, in f32; both from
/// raw (n, vocab) in any floating type.
at::Tensor loss_of(const at::Tensor& raw, const at::Tensor& targets, double softcap, at::Tensor* gradient) {
  auto capped = raw.to(at::kFloat, /*non_blocking=*/false, /*copy=*/softcap > 0);
  if (softcap > 0) capped.div_(softcap).tanh_().mul_(softcap);
  const auto normaliser = at::logsumexp(capped, -1, /*keepdim=*/true);  // (n, 1)
  const auto chosen = targets.unsqueeze(1);                             // (n, 1)
  const auto loss = (normaliser - capped.gather(1, chosen)).sum(at::kDouble);
  if (gradient == nullptr) return loss;
  auto p = (capped - normaliser).exp_();  // (n, vocab)
  p.scatter_add_(1, chosen, -at::ones_like(normaliser));
  if (softcap > 0) p.mul_(capped.div_(softcap).square_().neg_().add_(1));  // d capped / d raw
  *gradient = p;
  return loss;
}

/// Within forward: entries of autocast's cache would tie the chunks' graphs together.
class NoAutocastCache {
 public:
  NoAutocastCache() : was_(at::autocast::is_autocast_cache_enabled()) {
    at::autocast::set_autocast_cache_enabled(false);
  }
  ~NoAutocastCache() { at::autocast::set_autocast_cache_enabled(was_); }
  NoAutocastCache(const NoAutocastCache&) = delete;
  NoAutocastCache& operator=(const NoAutocastCache&) = delete;

 private:
  bool was_;
};

class ChunkedCrossEntropy : public torch::autograd::Function<ChunkedCrossEntropy> {
 public:
  /// tensors: hidden, the head's parameters.
  static at::Tensor forward(AutogradContext* ctx, at::TensorList tensors, const at::Tensor& targets, const Head& head,
                            std::int64_t rows) {
    const NoAutocastCache apart;
    const at::Tensor& hidden = tensors[0];
    const variable_list parameters(tensors.begin() + 1, tensors.end());
    auto loss = at::zeros({}, hidden.options().dtype(at::kDouble));
    std::vector<at::Tensor> parts;
    variable_list sums(parameters.size());
    for (std::int64_t i = 0; i < hidden.size(0); i += rows) {
      const std::int64_t n = std::min(rows, hidden.size(0) - i);
      const auto x = hidden.narrow(0, i, n).detach().requires_grad_(true);
      at::Tensor raw;
      {
        const at::AutoGradMode grad(true);
        raw = head.logits(x);  // (n, vocab)
      }
      at::Tensor upstream;
      loss += loss_of(raw.detach(), targets.narrow(0, i, n), head.softcap, &upstream);
      variable_list wanted{x};
      wanted.insert(wanted.end(), parameters.begin(), parameters.end());
      const auto found = torch::autograd::grad({raw}, wanted, {upstream.to(raw.scalar_type())});
      parts.push_back(found[0]);
      for (std::size_t p = 0; p < sums.size(); ++p) {
        if (sums[p].defined()) {
          sums[p].add_(found[p + 1]);
        } else {
          sums[p] = found[p + 1];
        }
      }
    }
    variable_list kept{at::cat(parts, 0)};  // (n, hidden)
    kept.insert(kept.end(), sums.begin(), sums.end());
    ctx->save_for_backward(kept);
    return loss.to(at::kFloat);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    variable_list result;
    for (const at::Tensor& kept : ctx->get_saved_variables()) result.push_back(kept * gradients[0]);
    result.resize(result.size() + 3);  // targets, head, rows
    return result;
  }
};

}  // namespace

std::int64_t cross_entropy_rows(std::int64_t vocab) {
  return std::max<std::int64_t>(1, chunk_elements / std::max<std::int64_t>(1, vocab));
}

at::Tensor cross_entropy_sum(const at::Tensor& hidden, const at::Tensor& targets, const Head& head, std::int64_t rows) {
  if (hidden.size(0) == 0) return (hidden.to(at::kFloat) * 0).sum();
  if (at::GradMode::is_enabled()) {
    std::vector<at::Tensor> tensors{hidden};
    for (const at::Tensor& parameter : head.parameters)
      if (parameter.requires_grad()) tensors.push_back(parameter);
    return ChunkedCrossEntropy::apply(at::TensorList(tensors), targets, head, rows);
  }
  auto loss = at::zeros({}, hidden.options().dtype(at::kDouble));
  for (std::int64_t i = 0; i < hidden.size(0); i += rows) {
    const std::int64_t n = std::min(rows, hidden.size(0) - i);
    loss += loss_of(head.logits(hidden.narrow(0, i, n)), targets.narrow(0, i, n), head.softcap, nullptr);
  }
  return loss.to(at::kFloat);
}

}  // namespace atelier::nn
