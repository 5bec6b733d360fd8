#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/seed.h"
#include "text/constraint/constraint.h"

namespace atelier::test {

using text::constraint::Constraint;
using text::constraint::ConstraintState;
using text::constraint::Vocabulary;

inline std::vector<std::string> all_bytes() {
  std::vector<std::string> pieces = {"", "", ""};  // control tokens
  for (int b = 0; b < 256; ++b) pieces.emplace_back(1, static_cast<char>(b));
  return pieces;
}

inline std::shared_ptr<const Vocabulary> byte_vocabulary() { return Vocabulary::from_pieces(all_bytes()); }

/// Every byte, JSON's usual runs of punctuation, and pieces of made-up words with and without a blank before them.
inline std::shared_ptr<const Vocabulary> made_up_vocabulary(std::size_t size, std::uint64_t seed) {
  std::vector<std::string> pieces = all_bytes();
  for (const char* run : {"{\"",          "\":",
                          "\": ",         "\": \"",
                          "\", \"",       "\",\"",
                          "\",",          "\"}",
                          "\"},",         "}}",
                          "]}",           "}]",
                          "[]",           "{}",
                          "[[",           "]]",
                          "[\"",          "\"]",
                          "},{",          "],[",
                          ", ",           ": ",
                          "\n  ",         "\n    ",
                          ",\n",          "true",
                          "false",        "null",
                          "10",           "2024",
                          "-0",           "e+",
                          "\\n",          "\\\"",
                          "\\u00",        "\xC3\xA9",
                          "\xE2\x82\xAC", "\xF0\x9F\x98\x80",
                          "name",         "type",
                          "value",        "\":\"\",\"",
                          "\":1,\"",      "0,0",
                          "1,1,",         "a\",\"a",
                          "\"a\":"})
    pieces.emplace_back(run);
  base::Generator generator(seed);
  const std::string letters = "etaoinshrdlucmfwypvbgkjqxz";
  while (pieces.size() < size) {
    std::string word = generator() % 2 == 0 ? " " : "";
    for (std::uint64_t n = 1 + generator() % 10; n-- > 0;) {
      const std::uint64_t i = generator() % 26, j = generator() % 26;
      word += letters[std::min(i, j)];
    }
    if (generator() % 40 == 0) word += "\"";
    if (generator() % 200 == 0) word += "\":";
    pieces.push_back(word);
  }
  return Vocabulary::from_pieces(pieces);
}

inline bool is_allowed(std::span<const std::uint64_t> mask, text::TokenId id) {
  return (mask[static_cast<std::size_t>(id) / 64] >> (id % 64) & 1) != 0;
}

/// Whether a constraint over a byte vocabulary takes a text, by its masks as well as by its states.
inline bool accepts(const std::shared_ptr<Constraint>& constraint, std::string_view text) {
  ConstraintState state(constraint, static_cast<std::int64_t>(text.size()) + 100000);
  for (const char c : text) {
    const text::TokenId id = 3 + static_cast<unsigned char>(c);
    if (!is_allowed(state.allowed(), id)) return false;
    state.advance(id);
  }
  return state.accepts();
}

struct Drawn {
  std::string text;
  std::int64_t tokens = 0;
};

/// A text drawn at random from what the masks allow: any token as likely as any other, the end as likely as half of all.
inline Drawn draw(const std::shared_ptr<Constraint>& constraint, std::uint64_t seed, std::int64_t budget) {
  ConstraintState state(constraint, budget);
  base::Generator generator(seed);
  Drawn drawn;
  for (;; ++drawn.tokens) {
    const auto mask = state.allowed();
    std::vector<text::TokenId> open;
    for (std::size_t id = 0; id < constraint->vocabulary().size(); ++id)
      if (is_allowed(mask, static_cast<text::TokenId>(id))) open.push_back(static_cast<text::TokenId>(id));
    if (state.accepts() && (open.empty() || generator() % 2 == 0)) break;
    if (open.empty() || drawn.tokens >= budget) {
      drawn.text = "STUCK: " + state.text();
      return drawn;
    }
    state.advance(open[generator() % open.size()]);
  }
  drawn.text = state.text();
  return drawn;
}

}  // namespace atelier::test
