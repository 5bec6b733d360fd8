#include "image/metadata.h"

#include <algorithm>

namespace atelier::image {

const std::string* find_text(const Metadata& text, std::string_view key) {
  const auto found = std::find_if(text.begin(), text.end(), [&](const TextEntry& entry) { return entry.key == key; });
  return found == text.end() ? nullptr : &found->value;
}

}  // namespace atelier::image
