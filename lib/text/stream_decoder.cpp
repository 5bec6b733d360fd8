#include "text/tokenizer.h"
#include "text/utf8.h"

namespace atelier::text {

std::string StreamDecoder::push(TokenId id) {
  std::string_view bytes = tokenizer_.bytes(id);
  if (bytes.empty()) return tokenizer_.is_control(id) ? flush() : std::string();
  if (at_start_ && tokenizer_.adds_dummy_prefix() && bytes.front() == ' ') bytes.remove_prefix(1);
  at_start_ = false;
  pending_.append(bytes);
  const std::size_t complete = complete_prefix(pending_);
  std::string text = replace_invalid_bytes(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string StreamDecoder::flush() {
  std::string text = replace_invalid_bytes(pending_);
  pending_.clear();
  return text;
}

}  // namespace atelier::text
