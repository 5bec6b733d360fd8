#include "models/gemma/config.h"

#include <cmath>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"

namespace atelier::models::gemma {
namespace {

using base::Json;
using base::JsonFields;

[[noreturn]] void bad(const std::string& message) { throw base::Error(base::ExitCode::data, message); }

/// What transformers' configuration classes take where config.json is silent (Gemma3TextConfig, Gemma2Config, GemmaConfig).
struct Defaults {
  std::int64_t vocab, hidden, intermediate, layers, heads, kv_heads, positions, window, pattern;
  double attention_softcap, final_softcap, theta;
};

Defaults defaults_of(Generation generation) {
  switch (generation) {
    case Generation::gemma1: return {256000, 3072, 24576, 28, 16, 16, 8192, 0, 0, 0, 0, 1e4};
    case Generation::gemma2: return {256000, 2304, 9216, 26, 8, 4, 8192, 4096, 2, 50, 30, 1e4};
    default: return {262208, 2304, 9216, 26, 8, 4, 131072, 4096, 6, 0, 0, 1e6};
  }
}

Generation generation_of(const std::string& type, const std::string& what) {
  if (type == "gemma") return Generation::gemma1;
  if (type == "gemma2") return Generation::gemma2;
  if (type == "gemma3_text" || type == "gemma3") return Generation::gemma3;
  bad(fmt::format("{}: model_type \"{}\" is not supported; known are gemma, gemma2, gemma3 and gemma3_text", what,
                  type));
}

std::vector<bool> parse_layer_types(const JsonFields& fields, std::int64_t layers, std::int64_t default_pattern) {
  std::vector<bool> sliding;
  if (const Json* types = fields.find("layer_types")) {
    if (!types->is_array() || static_cast<std::int64_t>(types->size()) != layers)
      bad(fmt::format("{}: \"layer_types\" must be a list of {} strings, one for each layer", fields.what(), layers));
    for (const auto& type : *types) {
      if (type != "sliding_attention" && type != "full_attention")
        bad(fmt::format("{}: \"layer_types\" holds {}, known are \"sliding_attention\" and \"full_attention\"",
                        fields.what(), base::dump_json(type)));
      sliding.push_back(type == "sliding_attention");
    }
    return sliding;
  }
  const char* key = fields.has("sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
  const std::int64_t pattern = fields.integer_or(key, 1, 1 << 20, default_pattern);
  for (std::int64_t i = 0; i < layers; ++i) sliding.push_back((i + 1) % pattern != 0);
  return sliding;
}

struct Scaling {
  double theta, factor;
};

/// One rope dictionary: {"rope_type", "rope_theta", "factor"}, keys as in rope_scaling and rope_parameters.
Scaling parse_rope(const Json& object, const std::string& what, Scaling fallback) {
  if (!object.is_object()) bad(what + " must be an object");
  const JsonFields fields(object, what);
  const std::string type = fields.string_or("rope_type", fields.string_or("type", "default"));
  fallback.theta = fields.number_or("rope_theta", 1, 1e9, fallback.theta);
  if (type == "default") return fallback;
  if (type != "linear")
    bad(fmt::format("{}: rope type \"{}\" is not supported; known are default and linear", what, type));
  fallback.factor = fields.number("factor", 1e-3, 1e6);
  return fallback;
}

void parse_ropes(const JsonFields& fields, Config& config, double default_theta) {
  Scaling full{fields.number_or("rope_theta", 1, 1e9, default_theta), 1};
  Scaling local{fields.number_or("rope_local_base_freq", 1, 1e9, 1e4), 1};
  if (const Json* scaling = fields.find("rope_scaling"))
    full = parse_rope(*scaling, fields.what() + ": rope_scaling", full);
  if (const Json* parameters = fields.find("rope_parameters")) {
    const std::string what = fields.what() + ": rope_parameters";
    if (parameters->is_object() &&
        (parameters->contains("full_attention") || parameters->contains("sliding_attention"))) {
      if (parameters->contains("full_attention")) full = parse_rope((*parameters)["full_attention"], what, full);
      if (parameters->contains("sliding_attention"))
        local = parse_rope((*parameters)["sliding_attention"], what, local);
    } else {
      full = parse_rope(*parameters, what, full);
    }
  }
  // Only Gemma 3 turns its sliding layers by another base.
  if (config.generation != Generation::gemma3) local = full;
  config.rope_theta = full.theta;
  config.rope_factor = full.factor;
  config.rope_local_theta = local.theta;
  config.rope_local_factor = local.factor;
}

void parse_sizes(const JsonFields& fields, Config& c, const Defaults& d) {
  c.vocab_size = fields.integer_or("vocab_size", 1, 1 << 22, d.vocab);
  c.hidden_size = fields.integer_or("hidden_size", 1, 1 << 16, d.hidden);
  c.intermediate_size = fields.integer_or("intermediate_size", 1, 1 << 19, d.intermediate);
  c.layers = fields.integer_or("num_hidden_layers", 1, 512, d.layers);
  c.heads = fields.integer_or("num_attention_heads", 1, 1024, d.heads);
  c.kv_heads = fields.integer_or("num_key_value_heads", 1, 1024, d.kv_heads);
  c.head_dim = fields.integer_or("head_dim", 2, 1024, 256);
  c.max_positions = fields.integer_or("max_position_embeddings", 1, 1 << 24, d.positions);
  c.norm_eps = fields.number_or("rms_norm_eps", 0, 1, 1e-6);
  if (c.heads % c.kv_heads != 0)
    bad(fmt::format("{}: \"num_attention_heads\" is {}, no multiple of \"num_key_value_heads\" {}", fields.what(),
                    c.heads, c.kv_heads));
  if (c.head_dim % 2 != 0)
    bad(fmt::format("{}: \"head_dim\" is {}, expected an even number", fields.what(), c.head_dim));
}

void parse_attention(const JsonFields& fields, Config& c, const Defaults& d) {
  double scalar = static_cast<double>(c.head_dim);
  if (c.generation != Generation::gemma1) scalar = fields.number_or("query_pre_attn_scalar", 1e-3, 1e6, 256);
  c.attention_scale = 1 / std::sqrt(scalar);
  if (c.generation == Generation::gemma1) {
    c.sliding.assign(static_cast<std::size_t>(c.layers), false);
  } else {
    c.window = fields.integer_or("sliding_window", 1, 1 << 24, d.window);
    c.sliding = parse_layer_types(fields, c.layers, d.pattern);
    // An explicit null switches a cap off; only an absent key means the default.
    c.attention_softcap = fields.number_or("attn_logit_softcapping", 1e-3, 1e6, 0);
    c.final_softcap = fields.number_or("final_logit_softcapping", 1e-3, 1e6, 0);
  }
  c.attention_bias = fields.boolean_or("attention_bias", false);
  c.tied_head = fields.boolean_or("tie_word_embeddings", true);
  if (fields.boolean_or("use_bidirectional_attention", false))
    bad(fields.what() + ": \"use_bidirectional_attention\" is true: an embedding model, it generates no text");
}

void check_activation(const JsonFields& fields) {
  // Gemma 1 was published with hidden_act "gelu" and means the tanh form; hidden_activation is the key that counts.
  const std::string activation = fields.string_or("hidden_activation", "gelu_pytorch_tanh");
  if (activation != "gelu_pytorch_tanh")
    bad(fmt::format("{}: \"hidden_activation\" is \"{}\", expected gelu_pytorch_tanh", fields.what(), activation));
}

}  // namespace

Config parse_config(const Json& json, const std::string& what) {
  if (!json.is_object()) bad(what + ": expected a JSON object");
  const JsonFields outer(json, what);
  Config config;
  config.model_type = outer.string("model_type");
  config.generation = generation_of(config.model_type, what);

  const Json* text = outer.find("text_config");
  if (text && !text->is_object()) bad(what + ": \"text_config\" must be an object");
  const JsonFields fields(text ? *text : json, text ? what + ": text_config" : what);
  if (generation_of(fields.string_or("model_type", config.model_type), fields.what()) != config.generation)
    bad(fmt::format("{}: \"model_type\" is of another generation than \"{}\"", fields.what(), config.model_type));
  const Defaults defaults = defaults_of(config.generation);
  parse_sizes(fields, config, defaults);
  parse_attention(fields, config, defaults);
  const Json& object = text ? *text : json;
  if (!object.contains("attn_logit_softcapping")) config.attention_softcap = defaults.attention_softcap;
  if (!object.contains("final_logit_softcapping")) config.final_softcap = defaults.final_softcap;
  if (text && !text->contains("tie_word_embeddings")) config.tied_head = outer.boolean_or("tie_word_embeddings", true);
  parse_ropes(fields, config, defaults.theta);
  check_activation(fields);
  return config;
}

std::int64_t Config::parameters() const {
  const std::int64_t attention = hidden_size * head_dim * (2 * heads + 2 * kv_heads) +
                                 (attention_bias ? head_dim * (heads + 2 * kv_heads) + hidden_size : 0) +
                                 (qk_norm() ? 2 * head_dim : 0);
  const std::int64_t layer = attention + 3 * hidden_size * intermediate_size + (four_norms() ? 4 : 2) * hidden_size;
  return layers * layer + hidden_size + vocab_size * hidden_size * (tied_head ? 1 : 2);
}

std::vector<std::int32_t> read_stop_ids(const std::string& folder, const Json& config) {
  const auto parse = [](const Json& object, const std::string& what) {
    std::vector<std::int32_t> ids;
    if (!object.is_object() || !object.contains("eos_token_id")) return ids;
    const Json& value = object["eos_token_id"];
    if (value.is_null()) return ids;
    for (const Json& id : value.is_array() ? value : Json::array({value})) {
      if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() > (1 << 22))
        bad(fmt::format("{}: \"eos_token_id\" must be a token id or a list of them", what));
      ids.push_back(id.get<std::int32_t>());
    }
    return ids;
  };
  const std::string path = folder + "/generation_config.json";
  std::vector<std::int32_t> ids;
  if (!folder.empty() && std::filesystem::exists(path)) ids = parse(base::read_json_file(path), path);
  if (ids.empty()) ids = parse(config, folder + "/config.json");
  if (ids.empty()) ids = {1};
  return ids;
}

}  // namespace atelier::models::gemma
