#pragma once

#include <optional>
#include <string>

namespace atelier::models::adapters {

/// What a tensor of an adapter file is to the module that it changes.
struct Key {
  std::string module;  ///< as the file names it: `unet.down_blocks.0...to_q`, `lora_unet_down_blocks_0_..._to_q`
  std::string role;    ///< down, up, mid, alpha, dora (dora_scale), magnitude (peft's), hada_w1_a, ..., lokr_w1, ...
};

/// Splits a key of any known format: kohya's `MODULE.lora_down.weight`, peft's `MODULE.lora_A.weight`, diffusers'
/// `MODULE.lora.down.weight`, `...processor.to_q_lora.down.weight` and `MODULE.lora_linear_layer.down.weight`, LyCORIS'
/// `MODULE.hada_w1_a` and `MODULE.lokr_w1`. Nothing where it is none of them.
std::optional<Key> parse_key(const std::string& key);

}  // namespace atelier::models::adapters
