#include "models/blip/vision_encoder.h"

#include <ATen/ops/cat.h>

#include "nn/linear.h"

namespace atelier::models::blip {

using nn::Group;
using nn::LayerNorm;
using nn::Linear;

/// The class token, then the patches from top left to bottom right, each with its place.
class VisionEncoder::Embeddings : public nn::Module {
 public:
  explicit Embeddings(const VisionConfig& c) {
    const auto parameter = [&](const char* name, std::int64_t tokens) {
      return register_parameter(name, nn::placeholder({1, tokens, c.hidden_size}), /*requires_grad=*/false);
    };
    class_embedding_ = parameter("class_embedding", 1);
    position_embedding_ = parameter("position_embedding", c.patches() + 1);
    patch_embedding_ = register_module(
        "patch_embedding",
        std::make_shared<nn::Conv2d>(3, c.hidden_size, nn::Conv2d::Options{c.patch_size, c.patch_size, 0}));
  }

  at::Tensor forward(const at::Tensor& pictures) const {
    const auto patches = patch_embedding_->forward(pictures).flatten(2).transpose(1, 2);  // (B, patches, hidden)
    const auto first = class_embedding_.expand({pictures.size(0), 1, -1});
    return at::cat({first, patches}, 1) + position_embedding_;  // (B, patches + 1, hidden)
  }

 private:
  at::Tensor class_embedding_, position_embedding_;
  std::shared_ptr<nn::Conv2d> patch_embedding_;
};

/// One pre-norm transformer layer, whose query, key and value come from one matrix.
class VisionEncoder::Layer : public nn::Module {
 public:
  explicit Layer(const VisionConfig& c) : heads_(c.heads), activation_(c.activation) {
    const auto norm = [&](const char* name) {
      return register_module(name, std::make_shared<LayerNorm>(c.hidden_size, c.norm_eps));
    };
    norm1_ = norm("layer_norm1");
    norm2_ = norm("layer_norm2");
    const auto attention = register_module("self_attn", std::make_shared<Group>());
    qkv_ = attention->register_module("qkv", std::make_shared<Linear>(c.hidden_size, 3 * c.hidden_size, true));
    projection_ =
        attention->register_module("projection", std::make_shared<Linear>(c.hidden_size, c.hidden_size, true));
    const auto mlp = register_module("mlp", std::make_shared<Group>());
    fc1_ = mlp->register_module("fc1", std::make_shared<Linear>(c.hidden_size, c.intermediate_size, true));
    fc2_ = mlp->register_module("fc2", std::make_shared<Linear>(c.intermediate_size, c.hidden_size, true));
  }

  at::Tensor forward(const at::Tensor& x) const {  // (B, T, hidden), same shape
    const auto parts = qkv_->forward(norm1_->forward(x)).chunk(3, -1);
    const auto h = x + projection_->forward(nn::multi_head_attention(parts[0], parts[1], parts[2], heads_));
    return h + fc2_->forward(nn::activate(activation_, fc1_->forward(norm2_->forward(h))));
  }

 private:
  std::int64_t heads_;
  nn::Activation activation_;
  std::shared_ptr<LayerNorm> norm1_, norm2_;
  std::shared_ptr<Linear> qkv_, projection_, fc1_, fc2_;
};

VisionEncoder::VisionEncoder(const VisionConfig& c) {
  embeddings_ = register_module("embeddings", std::make_shared<Embeddings>(c));
  const auto encoder = register_module("encoder", std::make_shared<Group>());
  const auto layers = encoder->register_module("layers", std::make_shared<Group>());
  for (std::int64_t i = 0; i < c.layers; ++i) layers_.push_back(layers->append(std::make_shared<Layer>(c)));
  post_layernorm_ = register_module("post_layernorm", std::make_shared<LayerNorm>(c.hidden_size, c.norm_eps));
}

at::Tensor VisionEncoder::forward(const at::Tensor& pictures) const {
  auto x = embeddings_->forward(pictures);  // (B, T, hidden)
  for (const auto& layer : layers_) x = layer->forward(x);
  return post_layernorm_->forward(x);
}

}  // namespace atelier::models::blip
