#pragma once

#include <string>

#include "io/weight_source.h"
#include "nn/module.h"

namespace atelier::models::gemma {

/// Where a checkpoint keeps the text model: published folders have `model.`, multimodal ones `language_model.model.` (older)
/// or `model.language_model.` (newer), and a bare text model has no prefix at all.
class Names : public nn::NameMap {
 public:
  /// Looks which layout the checkpoint has. `tied_head`: lm_head.weight is redundant.
  Names(const io::WeightSource& source, bool tied_head);

  std::string stored(const std::string& name) const override;

  /// Marks what a text model leaves alone on purpose, so that it does not count as unused: the vision tower and projector of
  /// multimodal folders, a stored copy of the tied head, old rotary buffers.
  void note_ignored(io::WeightSource& source) const;

 private:
  std::string model_prefix_;  ///< stands for "model."
  std::string head_name_;
  bool tied_head_;
};

}  // namespace atelier::models::gemma
