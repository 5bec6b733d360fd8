#include "text/constraint/vocabulary.h"

#include <algorithm>

namespace atelier::text::constraint {
namespace {

constexpr std::size_t longest_piece = 4096;  // a longer one is left out; depths are 16 bits

}  // namespace

std::shared_ptr<const Vocabulary> Vocabulary::from(const Tokenizer& tokenizer, TokenId rows) {
  std::vector<std::string> pieces(static_cast<std::size_t>(rows));
  for (TokenId id = 0; id < std::min(rows, tokenizer.size()); ++id)
    if (!tokenizer.is_control(id)) pieces[static_cast<std::size_t>(id)] = tokenizer.bytes(id);
  return std::shared_ptr<const Vocabulary>(new Vocabulary(std::move(pieces), tokenizer.adds_dummy_prefix()));
}

std::shared_ptr<const Vocabulary> Vocabulary::from_pieces(const std::vector<std::string>& pieces,
                                                          bool adds_dummy_prefix) {
  return std::shared_ptr<const Vocabulary>(new Vocabulary(pieces, adds_dummy_prefix));
}

Vocabulary::Vocabulary(std::vector<std::string> pieces, bool adds_dummy_prefix)
    : pieces_(std::move(pieces)), adds_dummy_prefix_(adds_dummy_prefix) {
  for (std::size_t id = 0; id < pieces_.size(); ++id)
    if (!pieces_[id].empty() && pieces_[id].size() <= longest_piece) tokens_.push_back(static_cast<TokenId>(id));
  std::sort(tokens_.begin(), tokens_.end(), [this](TokenId a, TokenId b) {
    const int order = bytes(a).compare(bytes(b));
    return order != 0 ? order < 0 : a < b;
  });
  std::vector<std::uint32_t> path = {0};  // nodes from the root to the last piece
  nodes_.push_back({});
  const auto close_to = [&](std::size_t depth) {
    for (; path.size() > depth + 1; path.pop_back())
      nodes_[path.back()].end = static_cast<std::uint32_t>(nodes_.size());
  };
  std::string_view before;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view piece = bytes(tokens_[i]);
    longest_ = std::max(longest_, static_cast<std::uint32_t>(piece.size()));
    const auto common = static_cast<std::size_t>(std::ranges::mismatch(before, piece).in1 - before.begin());
    if (piece != before) close_to(common);
    for (std::size_t at = path.size() - 1; at < piece.size(); ++at) {
      path.push_back(static_cast<std::uint32_t>(nodes_.size()));
      nodes_.push_back(
          {0, static_cast<std::uint32_t>(i), static_cast<std::uint16_t>(at + 1), static_cast<std::uint8_t>(piece[at])});
    }
    before = piece;
  }
  close_to(0);
  nodes_[0].end = static_cast<std::uint32_t>(nodes_.size());
  nodes_.push_back({0, static_cast<std::uint32_t>(tokens_.size()), 0, 0});
}

std::vector<TokenId> Vocabulary::segment(std::string_view text) const {
  constexpr std::uint32_t far = UINT32_MAX;
  std::vector<std::uint32_t> fewest(text.size() + 1, far);  // pieces from here to the end
  std::vector<TokenId> choice(text.size(), -1);
  fewest[text.size()] = 0;
  for (std::size_t from = text.size(); from-- > 0;) {
    std::uint32_t node = root;
    for (std::size_t at = from; at < text.size(); ++at) {
      const auto byte = static_cast<std::uint8_t>(text[at]);
      std::uint32_t child = node + 1;
      while (child < nodes_[node].end && nodes_[child].byte != byte) child = nodes_[child].end;
      if (child >= nodes_[node].end) break;
      node = child;
      if (const auto ids = tokens_at(node);
          !ids.empty() && fewest[at + 1] != far && fewest[at + 1] + 1 < fewest[from]) {
        fewest[from] = fewest[at + 1] + 1;
        choice[from] = ids.front();
      }
    }
  }
  std::vector<TokenId> ids;
  if (fewest[0] == far) return ids;
  for (std::size_t at = 0; at < text.size(); at += bytes(ids.back()).size()) ids.push_back(choice[at]);
  return ids;
}

}  // namespace atelier::text::constraint
