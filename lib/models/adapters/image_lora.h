#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/core/Generator.h>

#include "models/adapters/adapters.h"
#include "models/adapters/lora_file.h"
#include "nn/adapter.h"

/// Adapters on image models as they are trained: in the layers, not merged into the weights.
namespace atelier::models::adapters {

/// Which layers get an adapter.
/// - attention: to_q, to_k, to_v, to_out.0 of the UNet, q_proj, k_proj, v_proj, out_proj of text encoders;
/// - attention_mlp: also the feed-forward maps (ff.net.0.proj, ff.net.2; fc1, fc2) and the transformers' proj_in and proj_out:
///   what kohya's scripts train;
/// - all: also time_emb_proj, conv_shortcut and the 3x3 convolutions of the UNet's blocks.
enum class LoraTargets { attention, attention_mlp, all };

/// "attn", "attn-mlp", "all"; Error(usage) otherwise.
LoraTargets lora_targets(std::string_view name);

struct LoraOptions {
  std::int64_t rank = 16;
  double alpha = 16;           ///< scale alpha / rank, of convolutions too
  std::int64_t conv_rank = 0;  ///< of 3x3 convolutions (LoCon); 0: none, and with LoraTargets::all `rank`
  LoraTargets targets = LoraTargets::attention;
  bool dora = false;
  double dropout = 0;
};

/// What layer of which part.
struct LoraLayer {
  std::string part, path;         ///< "unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
  nn::Module* layer = nullptr;      ///< a Linear or a Conv2d; valid as long as the part
  std::vector<std::int64_t> shape;  ///< of its weight
  std::int64_t rank = 0;

  std::vector<std::int64_t> down_shape() const;  ///< (rank, in) or (rank, in, kh, kw)
  std::vector<std::int64_t> up_shape() const;    ///< (out, rank) or (out, rank, 1, 1)
  std::int64_t numbers(bool dora) const;         ///< that are trained
};

/// In the order of the parts and of their module trees. Needs no weights.
std::vector<LoraLayer> lora_layers(const std::vector<Part>& parts, const LoraOptions& options);

/// An adapter as it sits in a model's layers.
struct ImageLora {
  struct Target {
    std::string part, path;
    std::shared_ptr<nn::Adapter> adapter;
    bool conv = false;
  };

  LoraOptions options;
  std::vector<Target> targets;

  /// The tensors as diffusers and peft name them: `unet.PATH.lora_A.weight`, `.lora_B.weight`, `.lora_magnitude_vector`. They are
  /// the adapter's own, not copies.
  std::vector<std::pair<std::string, at::Tensor>> tensors() const;
  /// The same for write_lora.
  std::vector<LoraModule> modules() const;
  void set_training(bool training) const;  ///< switches dropout
};

/// Puts a new adapter on the layers that `options` select. Down matrices uniform (kaiming, a = sqrt 5) drawn from `generator`, up
/// matrices 0, magnitudes the lengths of the weights' rows. The tensors are f32 on the weights' device and ask for gradients.
/// Weights have to be loaded. Error(usage) where the selection is empty.
ImageLora attach_lora(const std::vector<Part>& parts, const LoraOptions& options, const at::Generator& generator);

}  // namespace atelier::models::adapters
