#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

namespace atelier::nn {

/// One low-rank adapter of one weight: LoRA (arXiv:2106.09685), and with a magnitude DoRA (arXiv:2402.09353). Computes what
/// peft computes. Linear, Conv2d and Embedding hold any number of them; a weight W (out, in) becomes, one after another in the
/// order of the list,
///   LoRA:  y + scale * (x lora_a^T) lora_b^T
///   DoRA:  m y + m scale * (x lora_a^T) lora_b^T  (bias apart),  m = magnitude / row norms of (W + scale lora_b lora_a)
/// where the norms get no gradient and are those of the weight without the other adapters. A convolution (LoCon) has two in the
/// place of the matrices, and the weight's rows are its output channels.
struct Adapter {
  at::Tensor lora_a;             ///< (r, in); of an embedding (r, vocab); of a convolution (r, in, kh, kw)
  at::Tensor lora_b;             ///< (out, r); of an embedding (hidden, r); of a convolution (out, r, 1, 1)
  at::Tensor magnitude;          ///< (out), of an embedding (hidden); undefined without DoRA
  double scale = 1;              ///< lora_alpha / r, or / sqrt(r) with rsLoRA, times the user's factor
  double dropout = 0;            ///< of x, while training; embeddings have none (as in peft)
  bool active = true;            ///< an inactive one is as if it were not there
  bool training = false;         ///< whether there is dropout. Not gradients: those follow the tensors' requires_grad
  at::Generator generator = {};  ///< of the dropout; with undefined LibTorch's default one

  std::int64_t rank() const { return lora_a.size(0); }

 private:
  friend at::Tensor dora_factor(const Adapter& adapter, const std::function<at::Tensor()>& norms);
  /// Norms of the last call and what they were computed of.
  mutable at::Tensor norms_;
  mutable std::uint64_t norms_key_ = 0;
};

/// x with each element zeroed with the adapter's probability and the others scaled up, or x itself where not training.
at::Tensor dropped(const Adapter& adapter, const at::Tensor& x);

/// magnitude / norms, (out) f32 or the adapter's type; a gradient reaches the magnitude only. `norms` is called where the
/// tensors changed since the last call.
at::Tensor dora_factor(const Adapter& adapter, const std::function<at::Tensor()>& norms);

/// scale * lora_b lora_a, (out, in) f32; of an embedding transposed, (vocab, hidden), as its weight.
at::Tensor delta_weight(const Adapter& adapter, bool embedding);

/// The weight with one adapter more merged into it, f32. `weight`: f32, with the earlier ones merged; `base`: without any.
at::Tensor merged_weight(const Adapter& adapter, const at::Tensor& weight, const at::Tensor& base, bool embedding);

/// Norms of W + scale lora_b lora_a in f32: of its rows, (out), or of an embedding's columns, (hidden). A convolution's weight is
/// taken as a matrix (out, in kh kw). Goes by blocks, so
/// that nothing of the weight's size is made.
at::Tensor adapted_norms(const Adapter& adapter, const at::Tensor& weight, bool embedding);

}  // namespace atelier::nn
