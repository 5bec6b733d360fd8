#include "text/piece_matcher.h"

#include <algorithm>

namespace atelier::text {

void PieceMatcher::add(std::string_view spelling, TokenId id) {
  if (spelling.empty()) return;
  starts_[static_cast<unsigned char>(spelling[0])] = true;
  std::uint32_t node = 0;
  for (std::size_t i = 0; i < spelling.size(); ++i) {
    const auto [place, inserted] = next_.try_emplace(key(node, spelling[i]), static_cast<std::uint32_t>(nodes_.size()));
    if (inserted) nodes_.push_back({-1, node});
    node = place->second;
  }
  if (nodes_[node].id < 0) nodes_[node].id = id;
}

std::optional<PieceMatcher::Match> PieceMatcher::longest(std::string_view text) const {
  if (text.empty() || !starts_[static_cast<unsigned char>(text[0])]) return std::nullopt;
  std::optional<Match> found;
  std::uint32_t node = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto place = next_.find(key(node, text[i]));
    if (place == next_.end()) break;
    node = place->second;
    if (nodes_[node].id >= 0) found = Match{i + 1, nodes_[node].id};
  }
  return found;
}

std::size_t PieceMatcher::deepest_nesting() const {
  std::vector<std::size_t> depth(nodes_.size(), 0);  // a parent always precedes its children
  std::size_t deepest = 0;
  for (std::size_t i = 1; i < nodes_.size(); ++i) {
    depth[i] = depth[nodes_[i].parent] + (nodes_[i].id >= 0 ? 1 : 0);
    deepest = std::max(deepest, depth[i]);
  }
  return deepest;
}

}  // namespace atelier::text
