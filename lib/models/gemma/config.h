#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace atelier::models::gemma {

enum class Generation { gemma1, gemma2, gemma3 };

/// Everything that the forward pass needs to know, decided once from config.json.
struct Config {
  Generation generation = Generation::gemma2;
  std::string model_type;  ///< as in config.json: gemma, gemma2, gemma3_text, gemma3, ...
  std::int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, layers = 0, heads = 0, kv_heads = 0,
               head_dim = 0;
  std::int64_t max_positions = 0;
  double norm_eps = 1e-6;
  double attention_scale = 0;                            ///< query_pre_attn_scalar^-0.5, or head_dim^-0.5
  double attention_softcap = 0;                          ///< 0: none
  double final_softcap = 0;                              ///< 0: none
  std::int64_t window = 0;                               ///< of the sliding layers
  std::vector<bool> sliding;                             ///< per layer
  double rope_theta = 1e4, rope_factor = 1;              ///< full-attention layers
  double rope_local_theta = 1e4, rope_local_factor = 1;  ///< sliding layers
  bool attention_bias = false;
  bool tied_head = true;

  /// Gemma 2 and 3 normalise before and after both halves of a block; Gemma 1 only before.
  bool four_norms() const { return generation != Generation::gemma1; }
  bool qk_norm() const { return generation == Generation::gemma3; }
  std::int64_t parameters() const;
};

/// Reads `config.json` (parsed; `what` names it in errors): model types gemma, gemma2, gemma3_text and the multimodal gemma3,
/// whose text part nests under `text_config` and may be sparse, so the classes' defaults apply. Old keys
/// (sliding_window_pattern, rope_theta, rope_local_base_freq, rope_scaling) and new ones (layer_types, rope_parameters) are
/// understood. Every field is range-checked before anything is sized by it. Error(data) names the field; an unknown
/// architecture names the known ones.
Config parse_config(const base::Json& json, const std::string& what);

/// Stop tokens: generation_config.json's eos_token_id where the folder ("": there is none) has one, else config.json's, else 1.
std::vector<std::int32_t> read_stop_ids(const std::string& folder, const base::Json& config);

}  // namespace atelier::models::gemma
