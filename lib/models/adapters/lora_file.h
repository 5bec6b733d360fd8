#pragma once

#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/unet/config.h"

namespace atelier::models::adapters {

/// A module of an image model with its adapter, as it was trained: LoRA, LoCon (of a convolution), DoRA (with a magnitude).
struct LoraModule {
  std::string part;      ///< "unet", "text_encoder", "text_encoder_2"
  std::string path;      ///< in the module tree: "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
  at::Tensor down;       ///< (r, in), of a convolution (r, in, kh, kw): nn::Adapter's lora_a
  at::Tensor up;         ///< (out, r), of a convolution (out, r, 1, 1): its lora_b
  at::Tensor magnitude;  ///< (out), or any shape of out numbers; undefined without DoRA
  double alpha = 1;      ///< scale = alpha / r
};

enum class LoraLayout {
  kohya,  ///< lora_unet_..., lora_te_..., with alphas: what A1111, ComfyUI and kohya's scripts write and read
  peft,   ///< unet...., text_encoder....: diffusers' own, as its save_lora_weights
};

/// What kohya's names depend on.
struct KohyaNames {
  bool xl = false;  ///< two text encoders: lora_te1_, lora_te2_
  const unet::Config* unet =
      nullptr;  ///< of SDXL, whose UNet kohya's scripts name as the original layout does; else null
};

/// kohya's name of a module, without ending: "lora_unet_down_blocks_0_attentions_0_..._attn1_to_q".
std::string kohya_module(const std::string& part, const std::string& path, const KohyaNames& names);

/// The tensors of a file, on the CPU, contiguous, in `dtype`.
/// kohya: MODULE.lora_down.weight, .lora_up.weight, .alpha, of DoRA .dora_scale (out, 1, ...).
/// peft: PART.PATH.lora_A.weight, .lora_B.weight, of DoRA .lora_magnitude_vector. It has no place for alpha, and older readers
/// take it to be the rank: lora_B is therefore multiplied by alpha / r, and the file's alpha is r.
std::map<std::string, at::Tensor> lora_tensors(const std::vector<LoraModule>& modules, LoraLayout layout,
                                               const KohyaNames& names, at::ScalarType dtype);

/// Writes them, whole or not at all, with `metadata` (kohya's ss_ keys). kohya's files get sshs_model_hash, the hash of
/// their tensors, too; peft's get lora_adapter_metadata, peft's configuration of each part. Error(cannot_create), Error(io).
void write_lora(const std::string& path, const std::vector<LoraModule>& modules, LoraLayout layout,
                const KohyaNames& names, at::ScalarType dtype, std::map<std::string, std::string> metadata);

}  // namespace atelier::models::adapters
