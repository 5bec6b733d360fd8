#include "models/gemma/names.h"

#include <array>
#include <string_view>

#include "nn/quantised_loading.h"

namespace atelier::models::gemma {

Names::Names(const io::WeightSource& source, bool tied_head) : model_prefix_("model."), tied_head_(tied_head) {
  const auto has = [&](const std::string& weight) { return source.has(weight) || nn::has_quantised(source, weight); };
  for (const std::string prefix : {"model.", "language_model.model.", "model.language_model.", ""})
    if (has(prefix + "embed_tokens.weight")) {
      model_prefix_ = prefix;
      break;
    }
  head_name_ = has("language_model.lm_head.weight") ? "language_model.lm_head.weight" : "lm_head.weight";
}

std::string Names::stored(const std::string& name) const {
  constexpr std::string_view model = "model.";
  if (name.starts_with(model)) return model_prefix_ + name.substr(model.size());
  return name == "lm_head.weight" ? head_name_ : name;
}

void Names::note_ignored(io::WeightSource& source) const {
  constexpr std::array<std::string_view, 6> parts = {"vision_tower.",          "model.vision_tower.",
                                                     "multi_modal_projector.", "model.multi_modal_projector.",
                                                     "vision_model.",          "audio_tower."};
  for (const std::string& name : source.names()) {
    bool ignored = name.ends_with("rotary_emb.inv_freq") || (tied_head_ && name == head_name_);
    for (const auto part : parts) ignored = ignored || name.starts_with(part);
    if (ignored) source.note_used(name);
  }
}

}  // namespace atelier::models::gemma
