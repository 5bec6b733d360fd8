#include <fmt/format.h>

#include "models/clip/text_encoder.h"

namespace atelier::models::clip {
namespace {

/// CLIPTextModelWithProjection among `architectures`.
bool names_projection(const base::JsonFields& fields) {
  const base::Json* architectures = fields.find("architectures");
  if (!architectures || !architectures->is_array()) return false;
  for (const auto& name : *architectures)
    if (name == "CLIPTextModelWithProjection" || name == "CLIPModel") return true;
  return false;
}

}  // namespace

TextConfig parse_text_config(const base::Json& json, const std::string& what) {
  const base::JsonFields outer(json, what);
  const base::Json* text = outer.find("text_config");
  const base::JsonFields fields(text ? *text : json, text ? what + ": text_config" : what);
  for (const std::string& type :
       {outer.string_or("model_type", "clip_text_model"), fields.string_or("model_type", "clip_text_model")})
    if (type != "clip_text_model" && type != "clip")
      throw base::Error(
          base::ExitCode::data,
          fmt::format("{}: model_type \"{}\" is not supported; known are clip_text_model and clip", what, type));
  TextConfig c;
  c.vocab_size = fields.integer_or("vocab_size", 1, 1 << 22, c.vocab_size);
  c.hidden_size = fields.integer_or("hidden_size", 1, 1 << 16, c.hidden_size);
  c.intermediate_size = fields.integer_or("intermediate_size", 1, 1 << 18, c.intermediate_size);
  c.layers = fields.integer_or("num_hidden_layers", 1, 512, c.layers);
  c.heads = fields.integer_or("num_attention_heads", 1, 1024, c.heads);
  c.max_positions = fields.integer_or("max_position_embeddings", 1, 1 << 16, c.max_positions);
  c.norm_eps = fields.number_or("layer_norm_eps", 0, 1, c.norm_eps);
  c.activation = nn::parse_activation(fields.string_or("hidden_act", "quick_gelu"), fields.what());
  c.eos_token_id = fields.integer_or("eos_token_id", 0, 1 << 22, c.eos_token_id);
  if (text || names_projection(outer))
    c.projection_dim =
        outer.integer_or("projection_dim", 1, 1 << 16, fields.integer_or("projection_dim", 1, 1 << 16, 512));
  if (c.hidden_size % c.heads != 0)
    throw base::Error(base::ExitCode::data,
                      fmt::format("{}: \"hidden_size\" is {}, no multiple of \"num_attention_heads\" {}", fields.what(),
                                  c.hidden_size, c.heads));
  return c;
}

}  // namespace atelier::models::clip
