#include "text/constraint/machine.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"

namespace atelier::text::constraint {
namespace {

constexpr std::uint32_t deepest = 64;  // objects and arrays; beyond, only the shortest way out is open
constexpr std::size_t most_masks = 512;
constexpr std::size_t most_entries = 16u << 20;

void normalise(std::vector<std::uint32_t>& stacks) {
  std::sort(stacks.begin(), stacks.end());
  stacks.erase(std::unique(stacks.begin(), stacks.end()), stacks.end());
}

std::uint64_t mix(std::uint64_t h, std::uint64_t value) {
  h = (h ^ value) * 0x9E3779B97F4A7C15u;
  return h ^ (h >> 31);
}

}  // namespace

std::size_t Machine::EntryHash::operator()(const std::pair<Frame, Stack>& key) const {
  const Frame& f = key.first;
  std::uint64_t h =
      mix(key.second, static_cast<std::uint64_t>(f.kind) * 16 + static_cast<std::uint64_t>(f.phase) * 2 + f.waiting);
  h = mix(h, (std::uint64_t{f.what} << 32) + f.at);
  return mix(h, (std::uint64_t{f.count} << 32) + f.used);
}

std::size_t Machine::StacksHash::operator()(const Stacks& stacks) const {
  std::uint64_t h = stacks.size();
  for (const Stack stack : stacks) h = mix(h, stack);
  return h;
}

Machine::Machine(std::unique_ptr<Grammar> grammar, std::string_view what) : grammar_(std::move(grammar)) {
  entries_.emplace_back();
  used_.emplace_back();
  used_ids_[{}] = 0;
  grammar_->find_costs();
  if (grammar_->cost(grammar_->start) >= Regular::unreachable)
    throw base::Error(base::ExitCode::data, fmt::format("{}: no text satisfies it", what));
  enter(grammar_->start, done, start_);
  normalise(start_);
}

std::uint32_t Machine::frame_cost(const Frame& f) {
  Grammar& g = *grammar_;
  switch (f.kind) {
    case Frame::Kind::bottom: return 0;
    case Frame::Kind::lexeme: return g.lexemes.cost(f.what);
    case Frame::Kind::sequence: {
      const auto& parts = g.nodes[f.what].parts;
      std::uint32_t total = 0;
      for (std::size_t i = f.at; i < parts.size(); ++i) total = add_costs(total, g.cost(parts[i]));
      return total;
    }
    case Frame::Kind::object: {
      const ObjectRule& rule = g.objects[f.what];
      const std::uint32_t more = std::min(f.count + 1, rule.counted);
      if (f.phase == Frame::Phase::choose) return rule.costs[f.at][f.count];
      if (f.phase == Frame::Phase::value)
        return add_costs(g.cost(rule.properties[f.at].value), rule.costs[f.at + 1][more]);
      return add_costs(g.cost(rule.others[f.at].value), rule.costs.back()[more]);
    }
    case Frame::Kind::array: {
      const ArrayRule& rule = g.arrays[f.what];
      const auto rest = [&](std::uint32_t count) {
        return rule.costs[std::min<std::size_t>(count, rule.costs.size() - 1)];
      };
      if (f.phase == Frame::Phase::choose) return rest(f.count);
      const std::uint32_t item = rule.unique ? g.lexemes.cost(item_of(f)) : g.cost(rule.item_at(f.count));
      return add_costs(item, rest(f.count + 1));
    }
  }
  return Regular::unreachable;
}

Machine::Stack Machine::push(const Frame& frame, Stack below) {
  const std::pair<Frame, Stack> key{frame, below};
  if (const auto found = by_frame_.find(key); found != by_frame_.end()) return found->second;
  if (entries_.size() >= most_entries)
    throw base::Error(base::ExitCode::data, "the constraint is too complex for a text of this length");
  Entry entry{frame, below};
  entry.cost = add_costs(frame_cost(frame), entries_[below].cost);
  entry.depth = entries_[below].depth + (frame.kind == Frame::Kind::object || frame.kind == Frame::Kind::array ? 1 : 0);
  entry.waiting = frame.waiting || entries_[below].waiting;
  entries_.push_back(entry);
  const auto id = static_cast<Stack>(entries_.size() - 1);
  by_frame_[key] = id;
  return id;
}

void Machine::enter_lexeme(Expr lexeme, Stack below, Stacks& out) {
  const std::uint32_t cost = grammar_->lexemes.cost(lexeme);
  if (add_costs(cost, entries_[below].cost) >= Regular::unreachable) return;
  if (lexeme != Regular::end) out.push_back(push({.kind = Frame::Kind::lexeme, .what = lexeme}, below));
  if (grammar_->regular.nullable(lexeme)) resume(below, out);
}

void Machine::enter(NodeId id, Stack below, Stacks& out) {
  const GrammarNode& node = grammar_->nodes[id];
  switch (node.kind) {
    case GrammarNode::Kind::nothing: break;
    case GrammarNode::Kind::lexeme: enter_lexeme(node.lexeme, below, out); break;
    case GrammarNode::Kind::alternatives:
      for (const NodeId part : node.parts)
        if (entries_[below].depth < deepest || grammar_->cost(part) == node.cost) enter(part, below, out);
      break;
    case GrammarNode::Kind::sequence: resume(push({.kind = Frame::Kind::sequence, .what = id}, below), out); break;
    case GrammarNode::Kind::object:
      enter_lexeme(grammar_->punctuation.open_object, push({.kind = Frame::Kind::object, .what = node.rule}, below),
                   out);
      break;
    case GrammarNode::Kind::array:
      enter_lexeme(grammar_->punctuation.open_array, push({.kind = Frame::Kind::array, .what = node.rule}, below), out);
      break;
  }
}

void Machine::resume(Stack stack, Stacks& out) {
  const Entry entry = entries_[stack];  // a copy: entries_ grows
  switch (entry.frame.kind) {
    case Frame::Kind::bottom: out.push_back(done); break;
    case Frame::Kind::lexeme: break;  // lexemes are always on top
    case Frame::Kind::sequence: {
      const NodeId node = entry.frame.what;
      const std::size_t size = grammar_->nodes[node].parts.size();
      if (entry.frame.at == size) return resume(entry.below, out);
      Frame next = entry.frame;
      ++next.at;
      const Stack below = next.at == size ? entry.below : push(next, entry.below);
      enter(grammar_->nodes[node].parts[entry.frame.at], below, out);
      break;
    }
    case Frame::Kind::object:
      if (entry.frame.phase == Frame::Phase::choose)
        choose_property(stack, entry, out);
      else
        resume_object(entry, out);
      break;
    case Frame::Kind::array:
      if (entry.frame.phase == Frame::Phase::choose)
        choose_item(stack, entry, out);
      else
        resume_array(entry, out);
      break;
  }
}

/// Behind a key: its value.
void Machine::resume_object(const Entry& entry, Stacks& out) {
  const ObjectRule& rule = grammar_->objects[entry.frame.what];
  Frame next = entry.frame;
  next.phase = Frame::Phase::choose;
  next.count = std::min(next.count + 1, rule.counted);
  const bool other = entry.frame.phase == Frame::Phase::other;
  const NodeId value = other ? rule.others[entry.frame.at].value : rule.properties[entry.frame.at].value;
  next.at = other ? static_cast<std::uint32_t>(rule.properties.size()) : next.at + 1;
  next.waiting = other;
  enter(value, push(next, entry.below), out);
}

void Machine::resume_array(const Entry& entry, Stacks& out) {
  const ArrayRule& rule = grammar_->arrays[entry.frame.what];
  Frame next = entry.frame;
  next.phase = Frame::Phase::choose;
  const auto counted = static_cast<std::uint32_t>(std::max<std::size_t>(1, rule.costs.size() - 1));
  next.count = std::min(next.count + 1, rule.most == Regular::unbounded ? counted : std::max(counted, rule.most));
  next.waiting = rule.unique;
  const Stack below = push(next, entry.below);
  if (rule.unique)
    enter_lexeme(item_of(entry.frame), below, out);
  else
    enter(rule.item_at(entry.frame.count), below, out);
}

bool Machine::only_cheapest(const Entry& entry) const { return entry.depth > deepest; }

/// One of several ways to go on from `from`.
void Machine::offer(const Entry& from, Expr lexeme, Stack below, Stacks& out) {
  if (only_cheapest(from) && add_costs(grammar_->lexemes.cost(lexeme), entries_[below].cost) > from.cost) return;
  enter_lexeme(lexeme, below, out);
}

Expr Machine::key_of(const Frame& f, std::uint32_t others) {
  Expr& known = lexemes_[{f.what, 2 * others + (f.count == 0 ? 1 : 0), f.used, 0}];
  const ObjectRule& rule = grammar_->objects[f.what];
  if (known == Regular::nothing) known = other_key(*grammar_, rule, rule.others[others], used_[f.used], f.count == 0);
  return known;
}

Expr Machine::item_of(const Frame& f) {
  Expr& known = lexemes_[{f.what, 0, f.used, 1}];
  if (known == Regular::nothing) known = unused_item(*grammar_, grammar_->arrays[f.what], used_[f.used]);
  return known;
}

void Machine::choose_property(Stack stack, const Entry& entry, Stacks& out) {
  const ObjectRule& rule = grammar_->objects[entry.frame.what];
  Frame next = entry.frame;
  const bool room = next.count < rule.most;
  next.phase = Frame::Phase::value;
  for (; next.at < rule.properties.size(); ++next.at) {
    const auto& property = rule.properties[next.at];
    if (room) offer(entry, next.count == 0 ? property.first : property.later, push(next, entry.below), out);
    if (property.required) return;
  }
  if (entry.frame.waiting) {
    out.push_back(stack);  // further keys are offered as soon as the last one is known
  } else if (room) {
    next.phase = Frame::Phase::other;
    for (next.at = 0; next.at < rule.others.size(); ++next.at) {
      const Stack below = push(next, entry.below);
      if (entries_[below].cost < Regular::unreachable) offer(entry, key_of(next, next.at), below, out);
    }
  }
  if (next.count >= rule.least) offer(entry, grammar_->punctuation.close_object, entry.below, out);
}

void Machine::choose_item(Stack stack, const Entry& entry, Stacks& out) {
  const ArrayRule& rule = grammar_->arrays[entry.frame.what];
  if (entry.frame.waiting) {
    out.push_back(stack);
  } else if (entry.frame.count < rule.most) {
    Frame next = entry.frame;
    next.phase = Frame::Phase::value;
    const Punctuation& p = grammar_->punctuation;
    const Stack below = push(next, entry.below);
    if (entries_[below].cost < Regular::unreachable) offer(entry, next.count == 0 ? p.gap : p.comma, below, out);
  }
  if (entry.frame.count >= rule.least) offer(entry, grammar_->punctuation.close_array, entry.below, out);
}

Machine::Stacks Machine::step(const Stacks& stacks, unsigned byte) {
  Stacks out;
  for (const Stack stack : stacks) {
    const Entry& entry = entries_[stack];
    if (entry.frame.kind != Frame::Kind::lexeme) continue;
    const Expr next = grammar_->regular.next(entry.frame.what, byte);
    if (next != Regular::nothing) enter_lexeme(next, entry.below, out);
  }
  normalise(out);
  return out;
}

std::uint32_t Machine::cost(const Stacks& stacks) const {
  std::uint32_t least = Regular::unreachable;
  for (const Stack stack : stacks) least = std::min(least, entries_[stack].cost);
  return least;
}

Machine::Stack Machine::settled(Stack stack, bool on_top, std::string_view text, const JsonCursor& cursor) {
  const Entry entry = entries_[stack];
  if (!entry.waiting) return stack;
  const Stack below = settled(entry.below, false, text, cursor);
  Frame frame = entry.frame;
  // A key is whole as soon as the object waits; an item only when nothing lies above its array any more.
  if (frame.waiting && (frame.kind == Frame::Kind::object || on_top)) {
    std::vector<std::string> used = used_[frame.used];
    const std::string last = cursor.captured(text, entry.depth);
    const auto place = std::lower_bound(used.begin(), used.end(), last);
    if (place == used.end() || *place != last) used.insert(place, last);
    const auto [id, fresh] = used_ids_.try_emplace(used, static_cast<std::uint32_t>(used_.size()));
    if (fresh) used_.push_back(std::move(used));
    frame.used = id->second;
    frame.waiting = false;
  }
  return push(frame, below);
}

Machine::Stacks Machine::settle(const Stacks& stacks, std::string_view text, const JsonCursor& cursor) {
  if (std::ranges::none_of(stacks, [this](Stack s) { return entries_[s].waiting; })) return stacks;
  Stacks out;
  for (const Stack stack : stacks) {
    const bool was_held = entries_[stack].frame.waiting;
    const Stack now = settled(stack, true, text, cursor);
    if (was_held)
      resume(now, out);
    else
      out.push_back(now);
  }
  normalise(out);
  return out;
}

std::span<const std::uint64_t> Machine::mask(const Stacks& stacks, std::uint32_t limit) {
  auto found = masks_.find(stacks);
  if (found == masks_.end()) {
    if (masks_.size() >= most_masks) masks_.clear();
    Mask all;
    compute(stacks, Regular::unreachable, all);
    found = masks_.emplace(stacks, std::move(all)).first;
  }
  if (found->second.highest <= limit) return found->second.bits;
  compute(stacks, limit, scratch_);
  return scratch_.bits;
}

void Machine::compute(const Stacks& stacks, std::uint32_t limit, Mask& mask) {
  mask.bits.assign(vocabulary().words(), 0);
  mask.highest = 0;
  for (const Stack stack : stacks) {
    const Entry entry = entries_[stack];
    if (entry.frame.kind != Frame::Kind::lexeme) continue;
    const std::uint32_t rest = entries_[entry.below].cost;
    const LexemeMask& lexeme = grammar_->lexemes.mask(entry.frame.what, entry.below != done);
    for (const auto& group : lexeme.groups) {
      const std::uint32_t cost = add_costs(group.cost, rest);
      if (cost > limit) break;
      mask.highest = std::max(mask.highest, cost);
      for (std::size_t i = 0; i < group.bits.size(); ++i) mask.bits[i] |= group.bits[i];
      for (const TokenId id : group.ids) mask.bits[static_cast<std::size_t>(id) / 64] |= std::uint64_t{1} << (id % 64);
    }
    if (lexeme.exits.empty()) continue;
    Stacks after;
    resume(entry.below, after);
    normalise(after);
    for (const std::uint32_t node : lexeme.exits) walk(node, after, limit, mask);
  }
}

/// Pieces that go on below `node`, at which the text has come to `stacks`.
void Machine::walk(std::uint32_t node, const Stacks& stacks, std::uint32_t limit, Mask& mask) {
  const auto& nodes = vocabulary().nodes();
  for (std::uint32_t child = node + 1; child < nodes[node].end; child = nodes[child].end) {
    const Stacks after = step(stacks, nodes[child].byte);
    if (after.empty()) continue;
    if (const auto ids = vocabulary().tokens_at(child); !ids.empty()) {
      const std::uint32_t tokens = cost(after);
      if (tokens <= limit) {
        mask.highest = std::max(mask.highest, tokens);
        for (const TokenId id : ids) mask.bits[static_cast<std::size_t>(id) / 64] |= std::uint64_t{1} << (id % 64);
      }
    }
    walk(child, after, limit, mask);
  }
}

}  // namespace atelier::text::constraint
