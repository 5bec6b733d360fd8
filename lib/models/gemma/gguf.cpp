#include "models/gemma/gguf.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "io/gguf_source.h"

namespace atelier::models::gemma {
namespace {

using base::Json;
using Pair = std::pair<std::string_view, std::string_view>;

/// Parts of a layer: blk.N.X.weight here, model.layers.N.Y.weight there.
constexpr std::array<Pair, 13> four_norm_parts{{{"attn_norm", "input_layernorm"},
                                                {"attn_q", "self_attn.q_proj"},
                                                {"attn_k", "self_attn.k_proj"},
                                                {"attn_v", "self_attn.v_proj"},
                                                {"attn_output", "self_attn.o_proj"},
                                                {"attn_q_norm", "self_attn.q_norm"},
                                                {"attn_k_norm", "self_attn.k_norm"},
                                                {"post_attention_norm", "post_attention_layernorm"},
                                                {"ffn_norm", "pre_feedforward_layernorm"},
                                                {"ffn_gate", "mlp.gate_proj"},
                                                {"ffn_up", "mlp.up_proj"},
                                                {"ffn_down", "mlp.down_proj"},
                                                {"post_ffw_norm", "post_feedforward_layernorm"}}};
constexpr std::array<Pair, 3> outer_parts{{{"token_embd.weight", "model.embed_tokens.weight"},
                                           {"output_norm.weight", "model.norm.weight"},
                                           {"output.weight", "lm_head.weight"}}};

/// Gemma 1's norm before the MLP is called post_attention_layernorm there.
std::string name_of(const std::string& stored, bool two_norms) {
  for (const auto& [here, there] : outer_parts)
    if (stored == here) return std::string(there);
  const std::size_t dot = stored.find('.', 4);
  if (!stored.starts_with("blk.") || dot == std::string::npos) return stored;
  const std::string layer = stored.substr(4, dot - 4), rest = stored.substr(dot + 1);
  if (two_norms && rest == "ffn_norm.weight")
    return fmt::format("model.layers.{}.post_attention_layernorm.weight", layer);
  for (const auto& [here, there] : four_norm_parts)
    if (rest.ends_with(".weight") && std::string_view(rest).substr(0, rest.size() - 7) == here)
      return fmt::format("model.layers.{}.{}.weight", layer, there);
  return stored;
}

/// Entries of one architecture, "gemma2.block_count" by "block_count".
class Entries {
 public:
  Entries(const io::GgufHeader& header, const std::string& what, std::string architecture)
      : header_(header), what_(what), architecture_(std::move(architecture)) {}

  std::optional<std::int64_t> integer(const std::string& name) const {
    return header_.integer(architecture_ + "." + name, what_);
  }
  std::optional<double> number(const std::string& name) const {
    return header_.number(architecture_ + "." + name, what_);
  }
  std::optional<std::string> text(const std::string& name) const {
    return header_.text(architecture_ + "." + name, what_);
  }
  std::vector<double> numbers(const std::string& name) const { return header_.numbers(architecture_ + "." + name); }
  std::int64_t required(const std::string& name) const {
    if (const auto found = integer(name)) return *found;
    throw base::Error(base::ExitCode::data,
                      fmt::format("{}: metadata entry \"{}.{}\" is missing", what_, architecture_, name));
  }

 private:
  const io::GgufHeader& header_;
  const std::string& what_;
  std::string architecture_;
};

const io::GgufTensor* find_tensor(const io::GgufHeader& header, std::string_view name) {
  const auto place =
      std::find_if(header.tensors.begin(), header.tensors.end(), [&](const auto& t) { return t.name == name; });
  return place == header.tensors.end() ? nullptr : &*place;
}

void set_sizes(Json& config, const io::GgufHeader& header, const Entries& entries, const std::string& what) {
  const io::GgufTensor* const embedding = find_tensor(header, "token_embd.weight");
  if (embedding == nullptr)
    throw base::Error(base::ExitCode::data, fmt::format("{}: tensor \"token_embd.weight\" is missing", what));
  const std::int64_t heads = entries.required("attention.head_count"),
                     head_dim = entries.integer("attention.key_length").value_or(256);
  if (entries.integer("attention.value_length").value_or(head_dim) != head_dim)
    throw base::Error(base::ExitCode::data, fmt::format("{}: keys and values of different lengths", what));
  config["vocab_size"] = embedding->shape.front();
  config["hidden_size"] = entries.required("embedding_length");
  config["num_hidden_layers"] = entries.required("block_count");
  config["intermediate_size"] = entries.required("feed_forward_length");
  config["num_attention_heads"] = heads;
  config["num_key_value_heads"] = entries.integer("attention.head_count_kv").value_or(heads);
  config["head_dim"] = head_dim;
  config["max_position_embeddings"] = entries.required("context_length");
  if (const auto eps = entries.number("attention.layer_norm_rms_epsilon")) config["rms_norm_eps"] = *eps;
  if (const auto theta = entries.number("rope.freq_base")) config["rope_theta"] = *theta;
  config["tie_word_embeddings"] = find_tensor(header, "output.weight") == nullptr;
}

/// Which layers slide: a list, or every n-th does not; left out, as the architecture's default.
void set_windows(Json& config, const Entries& entries) {
  if (const auto window = entries.integer("attention.sliding_window")) config["sliding_window"] = *window;
  const std::string key = "attention.sliding_window_pattern";
  if (const auto pattern = entries.numbers(key); !pattern.empty()) {
    config["layer_types"] = Json::array();
    for (const double slides : pattern)
      config["layer_types"].push_back(slides != 0 ? "sliding_attention" : "full_attention");
  } else if (const auto every = entries.integer(key)) {
    config["sliding_window_pattern"] = *every;
  }
}

void set_attention(Json& config, const Entries& entries, bool third) {
  constexpr std::int64_t layers_of_27b[] = {46, 62};  // Gemma 2 and 3
  const bool largest = config["num_hidden_layers"] == layers_of_27b[third ? 1 : 0];
  const std::int64_t heads = std::max<std::int64_t>(1, config["num_attention_heads"].get<std::int64_t>());
  config["query_pre_attn_scalar"] =
      largest ? config["hidden_size"].get<std::int64_t>() / heads : config["head_dim"].get<std::int64_t>();
  for (const char* cap : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (const auto value = entries.number(cap); value && *value != 0)
      config[cap] = *value;
    else if (third || value)
      config[cap] = nullptr;
  }
  if (!third) return;
  if (const auto local = entries.number("rope.freq_base_swa")) config["rope_local_base_freq"] = *local;
  const auto scaling = entries.text("rope.scaling.type");
  if (scaling && *scaling != "none")
    config["rope_scaling"] = {{"rope_type", *scaling}, {"factor", entries.number("rope.scaling.factor").value_or(1)}};
}

}  // namespace

Json config_from_gguf(const io::GgufHeader& header, const std::string& what) {
  const std::string architecture = header.text("general.architecture", what).value_or("");
  if (architecture != "gemma" && architecture != "gemma2" && architecture != "gemma3")
    throw base::Error(base::ExitCode::data,
                      fmt::format("{}: the architecture {} is not supported; known are gemma, gemma2 and gemma3", what,
                                  base::in_quotes(architecture)));
  const Entries entries(header, what, architecture);
  Json config = {{"model_type", architecture == "gemma3" ? "gemma3_text" : architecture}};
  set_sizes(config, header, entries, what);
  if (architecture != "gemma") {
    set_windows(config, entries);
    set_attention(config, entries, architecture == "gemma3");
  }
  config["eos_token_id"] = Json::array();
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"})
    if (const auto id = header.integer(key, what)) config["eos_token_id"].push_back(*id);
  return config;
}

std::shared_ptr<io::WeightSource> gguf_weights(std::shared_ptr<const io::GgufFile> file) {
  const bool two_norms = file->header.text("general.architecture", file->file->path()) == "gemma";
  return io::open_gguf_source(std::move(file), [two_norms](const std::string& stored) {
    return io::GgufName{name_of(stored, two_norms), stored.ends_with("norm.weight") ? 1.0F : 0.0F};
  });
}

}  // namespace atelier::models::gemma
