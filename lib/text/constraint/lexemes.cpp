#include "text/constraint/lexemes.h"

#include <algorithm>
#include <map>

namespace atelier::text::constraint {
namespace {

constexpr std::uint32_t far = 256;          // bytes: beyond, one token a byte is assumed
constexpr std::size_t most_visited = 4096;  // nodes in the search for a cheap way out
constexpr std::size_t most_memory = 128u << 20;

}  // namespace

std::uint32_t Lexemes::cost(Expr e) {
  const std::uint32_t distance = regular_.distance(e);
  if (distance <= 1 || distance > far) return distance;
  if (const auto known = costs_.find(e); known != costs_.end()) return known->second;
  // Along the pieces that spell shortest texts: every byte brings the end one nearer.
  const auto& nodes = vocabulary_->nodes();
  std::vector<Expr> states = {e};
  std::vector<std::uint32_t> path;
  std::uint32_t best = distance;
  std::size_t visited = 0;
  for (std::uint32_t n = 1; n < nodes[0].end && visited < most_visited;) {
    const std::uint32_t depth = nodes[n].depth;
    states.resize(depth);
    const Expr next = regular_.next(states.back(), nodes[n].byte);
    if (next == Regular::nothing || regular_.distance(next) + depth != distance) {
      n = nodes[n].end;
      continue;
    }
    ++visited;
    if (!vocabulary_->tokens_at(n).empty()) best = std::min(best, 1 + cost(next));
    states.push_back(next);
    ++n;
  }
  costs_[e] = best;
  return best;
}

const LexemeMask& Lexemes::mask(Expr e, bool with_exits) {
  const Regular::Reduced reduced = regular_.reduce(e, vocabulary_->longest());
  // The groups' costs depend on the offset, so it is part of the key.
  const std::uint64_t key =
      (std::uint64_t{reduced.offset} << 33) ^ (std::uint64_t{reduced.expr} << 1) ^ (with_exits ? 1 : 0);
  if (const auto known = masks_.find(key); known != masks_.end()) return known->second;
  if (memory_ > most_memory) {
    masks_.clear();
    memory_ = 0;
  }
  LexemeMask mask = compute(reduced.expr, reduced.offset, with_exits);
  memory_ += mask.memory;
  return masks_[key] = std::move(mask);
}

LexemeMask Lexemes::compute(Expr e, std::uint32_t offset, bool with_exits) {
  const auto& nodes = vocabulary_->nodes();
  LexemeMask mask;
  std::unordered_map<std::uint32_t, std::vector<TokenId>> by_cost;
  std::vector<Expr> states(vocabulary_->longest() + 1, Regular::nothing);
  states[0] = e;
  Expr last_state = Regular::nothing;
  std::vector<TokenId>* last_group = nullptr;
  for (std::uint32_t n = 1; n < nodes[0].end;) {
    const std::uint32_t depth = nodes[n].depth;
    const Expr next = regular_.next(states[depth - 1], nodes[n].byte);
    if (next == Regular::nothing) {
      n = nodes[n].end;
      continue;
    }
    states[depth] = next;
    if (const auto ids = vocabulary_->tokens_at(n); !ids.empty()) {
      if (next != last_state) {
        // With the counts cut, tokens would be counted differently here than in the state itself: bytes are safe.
        const std::uint32_t tokens = offset > 0 ? regular_.distance(next) + offset : cost(next);
        last_group = &by_cost[tokens];  // stays where it is when the map grows
        last_state = next;
      }
      last_group->insert(last_group->end(), ids.begin(), ids.end());
    }
    if (with_exits && regular_.nullable(next) && nodes[n].end > n + 1) mask.exits.push_back(n);
    ++n;
  }
  for (auto& [tokens, ids] : by_cost) {
    LexemeMask::Group group{tokens, {}, {}};
    if (ids.size() > 2 * vocabulary_->words()) {
      group.bits.resize(vocabulary_->words());
      for (const TokenId id : ids) group.bits[static_cast<std::size_t>(id) / 64] |= std::uint64_t{1} << (id % 64);
    } else {
      group.ids = std::move(ids);
    }
    mask.memory += group.bits.size() * 8 + group.ids.size() * 4 + 64;
    mask.groups.push_back(std::move(group));
  }
  std::ranges::sort(mask.groups, {}, &LexemeMask::Group::cost);
  mask.memory += mask.exits.size() * 4;
  return mask;
}

}  // namespace atelier::text::constraint
