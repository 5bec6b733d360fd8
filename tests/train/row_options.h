#pragma once

#include <string>

#include "train/text/rows.h"

namespace atelier::test {

/// Rows read with the tokenizer and the template of the model that ships.
inline train::text_data::RowOptions row_options() {
  static const std::string folder = std::string(ATELIER_MODELS) + "/tiny-gemma";
  static const auto tokenizer = text::Tokenizer::open(folder);
  static const auto chat_template = text::ChatTemplate::from_folder(folder);
  return {.tokenizer = tokenizer, .chat_template = chat_template};
}

}  // namespace atelier::test
