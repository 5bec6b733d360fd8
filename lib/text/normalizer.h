#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/piece_matcher.h"
#include "text/sentencepiece_model.h"

namespace atelier::text {

/// SentencePiece's text normalisation (normalizer.cc of 0.2.1): replacement rules, blanks written as "▁", the dummy
/// prefix, removal of extra blanks. Done here rather than there, so that a text can be cut into stretches afterwards
/// without every stretch getting a prefix of its own, and so that hostile rule tables are read with bounds checks.
class Normalizer {
 public:
  /// `user_defined` pieces pass through the rules unchanged; it must outlive this. Error(data): a malformed rule table.
  Normalizer(NormalizerSpec spec, const PieceMatcher& user_defined, const std::string& what);
  Normalizer(const Normalizer&) = delete;
  Normalizer& operator=(const Normalizer&) = delete;

  /// Normalises consecutive stretches of one text, each into its own string. Every byte that is not UTF-8 becomes
  /// U+FFFD.
  std::vector<std::string> normalize(std::span<const std::string_view> stretches) const;

  bool adds_dummy_prefix() const { return spec_.add_dummy_prefix; }

 private:
  struct Prefix {
    std::string_view text;     ///< what stands for it
    std::size_t consumed = 0;  ///< bytes of the input
  };
  Prefix normalize_prefix(std::string_view input) const;
  Prefix longest_rule(std::string_view input) const;
  std::optional<std::uint32_t> unit(std::size_t position) const;

  NormalizerSpec spec_;
  const PieceMatcher& user_defined_;
  std::string_view trie_, replacements_;
};

}  // namespace atelier::text
