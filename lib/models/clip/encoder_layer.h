#pragma once

#include <cstdint>
#include <memory>

#include "nn/conv.h"
#include "nn/linear.h"

namespace atelier::models::clip {

/// What a layer of either tower needs to know.
struct LayerConfig {
  std::int64_t hidden_size = 0, intermediate_size = 0, heads = 0;
  double norm_eps = 1e-5;
  nn::Activation activation = nn::Activation::quick_gelu;
  bool causal = false;  ///< the text tower's: a token sees those before it
};

/// One pre-norm transformer layer of CLIP; names as in transformers' CLIPEncoderLayer.
class EncoderLayer : public nn::Module {
 public:
  explicit EncoderLayer(const LayerConfig& config);
  ~EncoderLayer() override;

  at::Tensor forward(const at::Tensor& x) const;  // (B, T, hidden), same shape

 private:
  class Attention;
  class Mlp;
  std::shared_ptr<Attention> self_attn;
  std::shared_ptr<nn::LayerNorm> layer_norm1, layer_norm2;
  std::shared_ptr<Mlp> mlp;
};

}  // namespace atelier::models::clip
