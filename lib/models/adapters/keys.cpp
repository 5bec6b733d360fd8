#include "models/adapters/keys.h"

#include <array>
#include <string_view>
#include <utility>

namespace atelier::models::adapters {
namespace {

struct Ending {
  std::string_view text, role;
};

constexpr std::array<Ending, 34> endings{{{".lora_down.weight", "down"},
                                          {".lora_up.weight", "up"},
                                          {".lora_mid.weight", "mid"},
                                          {".lora_A.weight", "down"},
                                          {".lora_B.weight", "up"},
                                          {".lora_A.default.weight", "down"},
                                          {".lora_B.default.weight", "up"},
                                          {".lora_A.default_0.weight", "down"},
                                          {".lora_B.default_0.weight", "up"},
                                          {".lora.down.weight", "down"},
                                          {".lora.up.weight", "up"},
                                          {".lora_linear_layer.down.weight", "down"},
                                          {".lora_linear_layer.up.weight", "up"},
                                          {"_lora.down.weight", "down"},
                                          {"_lora.up.weight", "up"},
                                          {".alpha", "alpha"},
                                          {".dora_scale", "dora"},
                                          {".lora_magnitude_vector", "magnitude"},
                                          {".lora_magnitude_vector.weight", "magnitude"},
                                          {".lora_magnitude_vector.default.weight", "magnitude"},
                                          {".lora_magnitude_vector.default_0.weight", "magnitude"},
                                          {".hada_w1_a", "hada_w1_a"},
                                          {".hada_w1_b", "hada_w1_b"},
                                          {".hada_w2_a", "hada_w2_a"},
                                          {".hada_w2_b", "hada_w2_b"},
                                          {".hada_t1", "hada_t1"},
                                          {".hada_t2", "hada_t2"},
                                          {".lokr_w1", "lokr_w1"},
                                          {".lokr_w1_a", "lokr_w1_a"},
                                          {".lokr_w1_b", "lokr_w1_b"},
                                          {".lokr_w2", "lokr_w2"},
                                          {".lokr_w2_a", "lokr_w2_a"},
                                          {".lokr_w2_b", "lokr_w2_b"},
                                          {".lokr_t2", "lokr_t2"}}};

void replace(std::string& text, std::string_view from, std::string_view to) {
  if (const auto place = text.find(from); place != std::string::npos) text.replace(place, from.size(), to);
}

/// `attn1.processor.to_q_lora` was the attention's own to_q; in text encoders it stood for q_proj.
void modernise(std::string& module) {
  replace(module, ".processor.", ".");
  const bool text = module.find("self_attn.") != std::string::npos;
  constexpr std::array<std::pair<std::string_view, std::string_view>, 4> text_names{
      {{".to_q", ".q_proj"}, {".to_k", ".k_proj"}, {".to_v", ".v_proj"}, {".to_out", ".out_proj"}}};
  for (const auto& [older, now] : text_names)
    if (text && module.ends_with(older)) module.replace(module.size() - older.size(), older.size(), now);
  if (module.ends_with(".to_out")) module += ".0";
}

}  // namespace

std::optional<Key> parse_key(const std::string& key) {
  const Ending* best = nullptr;
  for (const Ending& ending : endings)
    if (key.size() > ending.text.size() && key.ends_with(ending.text) &&
        (!best || ending.text.size() > best->text.size()))
      best = &ending;
  if (!best) return std::nullopt;
  std::string module = key.substr(0, key.size() - best->text.size());
  // Keys of kohya's kind have no dots, so this leaves them alone.
  modernise(module);
  return Key{std::move(module), std::string(best->role)};
}

}  // namespace atelier::models::adapters
