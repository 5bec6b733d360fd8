#pragma once

#include <string>

#include "io/weight_source.h"
#include "nn/module.h"

namespace atelier::models::clip {

/// Names of a CLIPTextModel that transformers 5 or newer has saved: without the leading `text_model.`.
class Names : public nn::NameMap {
 public:
  explicit Names(const io::WeightSource& source);
  std::string stored(const std::string& name) const override;

 private:
  bool bare_ = false;
};

}  // namespace atelier::models::clip
