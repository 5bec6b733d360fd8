#include "models/clip/encoder_layer.h"

namespace atelier::models::clip {

using nn::LayerNorm;
using nn::Linear;

class EncoderLayer::Attention : public nn::Module {
 public:
  explicit Attention(const LayerConfig& c) : heads_(c.heads), causal_(c.causal) {
    const auto linear = [&](const char* name) {
      return register_module(name, std::make_shared<Linear>(c.hidden_size, c.hidden_size, true));
    };
    k_proj = linear("k_proj");
    v_proj = linear("v_proj");
    q_proj = linear("q_proj");
    out_proj = linear("out_proj");
  }

  at::Tensor forward(const at::Tensor& x) const {  // (B, T, hidden), same shape
    return out_proj->forward(
        nn::multi_head_attention(q_proj->forward(x), k_proj->forward(x), v_proj->forward(x), heads_, causal_));
  }

 private:
  std::int64_t heads_;
  bool causal_;
  std::shared_ptr<Linear> q_proj, k_proj, v_proj, out_proj;
};

class EncoderLayer::Mlp : public nn::Module {
 public:
  explicit Mlp(const LayerConfig& c) : activation_(c.activation) {
    fc1 = register_module("fc1", std::make_shared<Linear>(c.hidden_size, c.intermediate_size, true));
    fc2 = register_module("fc2", std::make_shared<Linear>(c.intermediate_size, c.hidden_size, true));
  }
  at::Tensor forward(const at::Tensor& x) const { return fc2->forward(nn::activate(activation_, fc1->forward(x))); }

 private:
  nn::Activation activation_;
  std::shared_ptr<Linear> fc1, fc2;
};

EncoderLayer::EncoderLayer(const LayerConfig& c) {
  self_attn = register_module("self_attn", std::make_shared<Attention>(c));
  layer_norm1 = register_module("layer_norm1", std::make_shared<LayerNorm>(c.hidden_size, c.norm_eps));
  mlp = register_module("mlp", std::make_shared<Mlp>(c));
  layer_norm2 = register_module("layer_norm2", std::make_shared<LayerNorm>(c.hidden_size, c.norm_eps));
}

EncoderLayer::~EncoderLayer() = default;

at::Tensor EncoderLayer::forward(const at::Tensor& x) const {
  const auto h = x + self_attn->forward(layer_norm1->forward(x));
  return h + mlp->forward(layer_norm2->forward(h));
}

}  // namespace atelier::models::clip
