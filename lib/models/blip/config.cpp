#include "models/blip/config.h"

#include <fmt/format.h>

#include "base/error.h"

namespace atelier::models::blip {
namespace {

using base::Error;
using base::ExitCode;

base::JsonFields part(const base::JsonFields& outer, const char* key) {
  const base::Json* inner = outer.find(key);
  if (!inner || !inner->is_object()) throw Error(ExitCode::data, fmt::format("{}: has no \"{}\"", outer.what(), key));
  return {*inner, fmt::format("{}: {}", outer.what(), key)};
}

/// What both towers have.
template <class Tower>
void read_tower(const base::JsonFields& fields, Tower& c) {
  c.hidden_size = fields.integer_or("hidden_size", 1, 1 << 16, c.hidden_size);
  c.intermediate_size = fields.integer_or("intermediate_size", 1, 1 << 18, c.intermediate_size);
  c.layers = fields.integer_or("num_hidden_layers", 1, 512, c.layers);
  c.heads = fields.integer_or("num_attention_heads", 1, 1024, c.heads);
  c.norm_eps = fields.number_or("layer_norm_eps", 0, 1, c.norm_eps);
  c.activation = nn::parse_activation(fields.string_or("hidden_act", "gelu"), fields.what());
  if (c.hidden_size % c.heads != 0)
    throw Error(ExitCode::data, fmt::format("{}: \"hidden_size\" is {}, no multiple of \"num_attention_heads\" {}",
                                            fields.what(), c.hidden_size, c.heads));
}

}  // namespace

Config parse_config(const base::Json& json, const std::string& what) {
  const base::JsonFields outer(json, what);
  if (const std::string type = outer.string_or("model_type", ""); type != "blip")
    throw Error(ExitCode::data, fmt::format("{}: model_type \"{}\" is not supported; known is blip", what, type));
  const base::JsonFields vision = part(outer, "vision_config"), text = part(outer, "text_config");
  Config c;
  read_tower(vision, c.vision);
  c.vision.patch_size = vision.integer_or("patch_size", 1, 1024, c.vision.patch_size);
  c.vision.image_size = vision.integer_or("image_size", c.vision.patch_size, 4096, c.vision.image_size);
  read_tower(text, c.text);
  c.text.vocab_size = text.integer_or("vocab_size", 1, 1 << 22, c.text.vocab_size);
  c.text.max_positions = text.integer_or("max_position_embeddings", 1, 1 << 16, c.text.max_positions);
  c.text.picture_size = text.integer_or("encoder_hidden_size", 1, 1 << 16, c.vision.hidden_size);
  if (c.text.picture_size != c.vision.hidden_size)
    throw Error(ExitCode::data, fmt::format("{}: \"encoder_hidden_size\" is {}, and the vision tower's {}", text.what(),
                                            c.text.picture_size, c.vision.hidden_size));
  return c;
}

}  // namespace atelier::models::blip
