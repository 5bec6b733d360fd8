#include "models/clip/vision_encoder.h"

#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include "base/error.h"
#include "models/clip/encoder_layer.h"
#include "nn/embedding.h"

namespace atelier::models::clip {

using nn::Group;
using nn::LayerNorm;

/// The class token, then the patches from top left to bottom right, each with its place.
class VisionEncoder::Embeddings : public nn::Module {
 public:
  explicit Embeddings(const VisionConfig& c) {
    class_embedding_ = register_parameter("class_embedding", nn::placeholder({c.hidden_size}), /*requires_grad=*/false);
    patch_embedding_ = register_module(
        "patch_embedding", std::make_shared<nn::Conv2d>(
                               3, c.hidden_size, nn::Conv2d::Options{c.patch_size, c.patch_size, 0, /*bias=*/false}));
    position_embedding_ =
        register_module("position_embedding", std::make_shared<nn::Embedding>(c.patches() + 1, c.hidden_size));
  }

  at::Tensor forward(const at::Tensor& pictures) const {
    const auto patches = patch_embedding_->forward(pictures).flatten(2).transpose(1, 2);  // (B, patches, hidden)
    const auto first = class_embedding_.view({1, 1, -1}).expand({pictures.size(0), 1, -1});
    return at::cat({first, patches}, 1) + position_embedding_->weight;  // (B, patches + 1, hidden)
  }

 private:
  at::Tensor class_embedding_;
  std::shared_ptr<nn::Conv2d> patch_embedding_;
  std::shared_ptr<nn::Embedding> position_embedding_;
};

VisionEncoder::VisionEncoder(const VisionConfig& c) : config_(c) {
  auto vision_model = register_module("vision_model", std::make_shared<Group>());
  embeddings_ = vision_model->register_module("embeddings", std::make_shared<Embeddings>(c));
  const auto norm = [&] { return std::make_shared<LayerNorm>(c.hidden_size, c.norm_eps); };
  pre_layer_norm_ = vision_model->register_module("pre_layrnorm", norm());  // transformers spells it so
  auto encoder = vision_model->register_module("encoder", std::make_shared<Group>());
  auto layers = encoder->register_module("layers", std::make_shared<Group>());
  const LayerConfig layer{c.hidden_size, c.intermediate_size, c.heads, c.norm_eps, c.activation, /*causal=*/false};
  for (std::int64_t i = 0; i < c.layers; ++i) layers_.push_back(layers->append(std::make_shared<EncoderLayer>(layer)));
  post_layer_norm_ = vision_model->register_module("post_layernorm", norm());
  visual_projection_ =
      register_module("visual_projection", std::make_shared<nn::Linear>(c.hidden_size, c.projection_dim));
}

at::Tensor VisionEncoder::forward(const at::Tensor& pictures) const {
  auto x = pre_layer_norm_->forward(embeddings_->forward(pictures));  // (B, T, hidden)
  for (const auto& layer : layers_) x = layer->forward(x);
  return visual_projection_->forward(post_layer_norm_->forward(x.select(1, 0)));  // (B, projection_dim)
}

VisionConfig parse_vision_config(const base::Json& json, const std::string& what) {
  const base::JsonFields outer(json, what);
  const base::Json* vision = outer.find("vision_config");
  const base::JsonFields fields(vision ? *vision : json, vision ? what + ": vision_config" : what);
  const std::string type = fields.string_or("model_type", "clip_vision_model");
  if (type != "clip_vision_model" && type != "clip")
    throw base::Error(
        base::ExitCode::data,
        fmt::format("{}: model_type \"{}\" is not supported; known are clip_vision_model and clip", what, type));
  VisionConfig c;
  c.hidden_size = fields.integer_or("hidden_size", 1, 1 << 16, c.hidden_size);
  c.intermediate_size = fields.integer_or("intermediate_size", 1, 1 << 18, c.intermediate_size);
  c.layers = fields.integer_or("num_hidden_layers", 1, 512, c.layers);
  c.heads = fields.integer_or("num_attention_heads", 1, 1024, c.heads);
  c.patch_size = fields.integer_or("patch_size", 1, 1024, c.patch_size);
  c.image_size = fields.integer_or("image_size", c.patch_size, 4096, c.image_size);
  c.norm_eps = fields.number_or("layer_norm_eps", 0, 1, c.norm_eps);
  c.activation = nn::parse_activation(fields.string_or("hidden_act", "quick_gelu"), fields.what());
  c.projection_dim =
      outer.integer_or("projection_dim", 1, 1 << 16, fields.integer_or("projection_dim", 1, 1 << 16, 512));
  fields.integer_or("num_channels", 3, 3, 3);
  if (c.hidden_size % c.heads != 0)
    throw base::Error(base::ExitCode::data,
                      fmt::format("{}: \"hidden_size\" is {}, no multiple of \"num_attention_heads\" {}", fields.what(),
                                  c.hidden_size, c.heads));
  return c;
}

}  // namespace atelier::models::clip
