#include "text/constraint/regular.h"

#include <algorithm>
#include <queue>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"

namespace atelier::text::constraint {
namespace {

constexpr std::size_t most_expressions = 8u << 20;
constexpr std::size_t most_states = 100000;      // 1 KB each
constexpr std::uint64_t most_work = 20'000'000;  // a second or two
constexpr std::size_t most_explored = 20000;     // by one intersection

[[noreturn]] void too_complex(std::size_t states) {
  throw base::Error(base::ExitCode::data, fmt::format("too complex: its automaton has more than {} states", states));
}

std::uint32_t saturated(std::uint64_t distance) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(distance, Regular::unreachable));
}

std::uint64_t mix(std::uint64_t h, std::uint64_t value) {
  h = (h ^ value) * 0x9E3779B97F4A7C15u;
  return h ^ (h >> 29);
}

}  // namespace

Regular::Regular() {
  intern({.kind = Kind::nothing, .distance = unreachable});
  intern({.kind = Kind::end, .nullable = true});
}

bool Regular::equal(const Node& a, const Node& b, std::span<const Expr> parts) const {
  if (a.kind != b.kind || a.low != b.low || a.high != b.high) return false;
  if (a.kind != Kind::alt && a.kind != Kind::both) return a.a == b.a && a.b == b.b;
  return std::ranges::equal(operands(a), parts);
}

Expr Regular::intern(Node node, std::span<const Expr> parts) {
  std::uint64_t hash = mix(static_cast<std::uint64_t>(node.kind), node.low);
  hash = mix(hash, node.high);
  if (parts.empty()) hash = mix(mix(hash, node.a), node.b);
  for (const Expr part : parts) hash = mix(hash, part);
  const auto [place, fresh] = by_hash_.try_emplace(hash, static_cast<Expr>(exprs_.size()));
  if (!fresh)
    for (Expr e = place->second;; e = exprs_[e].same_hash) {
      if (equal(exprs_[e], node, parts)) return e;
      if (exprs_[e].same_hash == 0) break;
    }
  if (exprs_.size() >= most_expressions) too_complex(most_expressions);
  if (!parts.empty()) {
    const std::vector<Expr> copy(parts.begin(), parts.end());  // they may lie in operands_ itself
    node.a = static_cast<std::uint32_t>(operands_.size());
    node.b = static_cast<std::uint32_t>(copy.size());
    operands_.insert(operands_.end(), copy.begin(), copy.end());
  }
  const auto id = static_cast<Expr>(exprs_.size());
  if (!fresh) {
    node.same_hash = exprs_[place->second].same_hash;
    exprs_[place->second].same_hash = id;
  }
  exprs_.push_back(node);
  rows_.push_back(0);
  return id;
}

Expr Regular::bytes(const ByteSet& set) {
  if (set.empty()) return nothing;
  const auto found = std::find(sets_.begin(), sets_.end(), set);
  const auto index = static_cast<std::uint32_t>(found - sets_.begin());
  if (found == sets_.end()) sets_.push_back(set);
  return intern({.kind = Kind::set, .a = index, .distance = 1});
}

Expr Regular::literal(std::string_view text) {
  Expr result = end;
  for (std::size_t i = text.size(); i-- > 0;) {
    const auto byte = static_cast<unsigned char>(text[i]);
    result = seq(bytes(ByteSet::range(byte, byte)), result);
  }
  return result;
}

Expr Regular::seq(std::initializer_list<Expr> parts) {
  Expr result = end;
  for (auto part = std::rbegin(parts); part != std::rend(parts); ++part) result = seq(*part, result);
  return result;
}

Expr Regular::seq(Expr a, Expr b) {
  // To the right always, so that equal texts in equal order are equal expressions.
  std::vector<Expr> parts;
  while (exprs_[a].kind == Kind::seq) {
    spend(1);
    parts.push_back(exprs_[a].a);
    a = exprs_[a].b;
  }
  parts.push_back(a);
  for (std::size_t i = parts.size(); i-- > 0;) {
    const Expr part = parts[i];
    if (part == nothing || b == nothing) return nothing;
    if (part == end) continue;
    if (b == end) {
      b = part;
      continue;
    }
    const Node &x = exprs_[part], &y = exprs_[b];
    const bool opaque = x.opaque || y.opaque;
    b = intern({.kind = Kind::seq,
                .nullable = x.nullable && y.nullable,
                .opaque = opaque,
                .a = part,
                .b = b,
                .distance = opaque ? unknown : saturated(std::uint64_t{x.distance} + y.distance)});
  }
  return b;
}

std::vector<Expr> Regular::flat(const std::vector<Expr>& parts, Kind kind) const {
  std::vector<Expr> all;
  for (const Expr part : parts) {
    if (exprs_[part].kind == kind) {
      const auto inner = operands(exprs_[part]);
      all.insert(all.end(), inner.begin(), inner.end());
    } else {
      all.push_back(part);
    }
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

/// Where everything may come before a tail, something and everything before the same tail adds no text: without this a
/// search that has found its match would go on looking.
void Regular::drop_covered(std::vector<Expr>& parts) {
  if (all_ == nothing) return;
  const auto is_open = [this](Expr e) { return exprs_[e].kind == Kind::seq && exprs_[e].a == all_; };
  std::vector<Expr> open;
  std::ranges::copy_if(parts, std::back_inserter(open), is_open);
  if (open.empty()) return;
  std::erase_if(parts, [&](Expr e) {
    while (exprs_[e].kind == Kind::seq) {
      e = exprs_[e].b;
      spend(open.size());
      if (std::ranges::find(open, e) != open.end()) return true;
    }
    return false;
  });
}

void Regular::spend(std::uint64_t steps) {
  work_ += steps;
  if (work_ > most_work)
    throw base::Error(base::ExitCode::data, "too complex: its automaton would take too long to compute");
}

Expr Regular::alt(std::vector<Expr> parts) {
  spend(parts.size());
  parts = flat(parts, Kind::alt);
  if (all_ != nothing && std::binary_search(parts.begin(), parts.end(), all_)) return all_;
  ByteSet one;  // single bytes are one set
  std::erase_if(parts, [&](Expr e) {
    if (exprs_[e].kind == Kind::set) one = one | sets_[exprs_[e].a];
    return e == nothing || exprs_[e].kind == Kind::set;
  });
  if (!one.empty()) {
    parts.push_back(bytes(one));
    std::sort(parts.begin(), parts.end());
  }
  drop_covered(parts);
  if (parts.empty()) return nothing;
  if (parts.size() == 1) return parts[0];
  if (parts.size() == 2 && parts[0] == end && exprs_[parts[1]].nullable) return parts[1];
  Node node{.kind = Kind::alt, .distance = unreachable};
  for (const Expr part : parts) {
    node.nullable |= exprs_[part].nullable;
    node.opaque |= exprs_[part].opaque;
    node.distance = std::min(node.distance, exprs_[part].distance);
  }
  if (node.opaque) node.distance = unknown;
  return intern(node, parts);
}

Expr Regular::both(std::vector<Expr> parts) {
  spend(parts.size());
  parts = flat(parts, Kind::both);
  const auto is_negation = [&](Expr e) { return exprs_[e].kind == Kind::negate; };
  if (std::ranges::any_of(parts, [&](Expr e) { return e != all_ && !is_negation(e); })) std::erase(parts, all_);
  if (std::ranges::find(parts, nothing) != parts.end()) return nothing;
  std::erase_if(parts, [&](Expr e) { return is_negation(e) && exprs_[e].a == nothing; });
  if (parts.empty()) return negate(nothing);
  if (parts.size() == 1) return parts[0];
  const bool empty_text = std::ranges::all_of(parts, [&](Expr e) { return exprs_[e].nullable; });
  if (std::ranges::find(parts, end) != parts.end()) return empty_text ? end : nothing;
  return intern({.kind = Kind::both, .nullable = empty_text, .opaque = true, .distance = unknown}, parts);
}

Expr Regular::negate(Expr a) {
  if (exprs_[a].kind == Kind::negate) return exprs_[a].a;
  return intern({.kind = Kind::negate, .nullable = !exprs_[a].nullable, .opaque = true, .a = a, .distance = unknown});
}

Expr Regular::repeat(Expr a, std::uint32_t low, std::uint32_t high) {
  if (high == 0 || a == end) return end;
  if (a == nothing) return low == 0 ? end : nothing;
  if (low == 1 && high == 1) return a;
  const Node& x = exprs_[a];
  if (x.nullable) low = 0;
  if (x.kind == Kind::repeat && x.low == 0 && x.high == unbounded) return a;
  return intern({.kind = Kind::repeat,
                 .nullable = low == 0,
                 .opaque = x.opaque,
                 .a = a,
                 .low = low,
                 .high = high,
                 .distance = x.opaque ? unknown : saturated(std::uint64_t{low} * x.distance)});
}

Expr Regular::all_of(Expr character) {
  all_ = repeat(character, 0, unbounded);
  return all_;
}

Expr Regular::derivative(Expr e, unsigned byte) {
  const Node node = exprs_[e];  // a copy: the vectors grow meanwhile
  switch (node.kind) {
    case Kind::nothing:
    case Kind::end: return nothing;
    case Kind::set: return sets_[node.a].has(byte) ? end : nothing;
    case Kind::seq: {
      const Expr head = seq(derivative(node.a, byte), node.b);
      return exprs_[node.a].nullable ? alt({head, derivative(node.b, byte)}) : head;
    }
    case Kind::alt:
    case Kind::both: {
      std::vector<Expr> parts;
      for (std::uint32_t i = 0; i < node.b; ++i) {
        const Expr part = derivative(operands_[node.a + i], byte);
        if (part == nothing && node.kind == Kind::both) return nothing;
        parts.push_back(part);
      }
      return node.kind == Kind::alt ? alt(std::move(parts)) : both(std::move(parts));
    }
    case Kind::negate: return negate(derivative(node.a, byte));
    case Kind::repeat: {
      const std::uint32_t low = node.low == 0 ? 0 : node.low - 1;
      const std::uint32_t high = node.high == unbounded ? unbounded : node.high - 1;
      const Expr first = derivative(node.a, byte);
      return first == nothing ? nothing : seq(first, repeat(node.a, low, high));
    }
  }
  return nothing;
}

void Regular::first_sets(Expr e, std::vector<std::uint32_t>& out) const {
  const Node& node = exprs_[e];
  switch (node.kind) {
    case Kind::set: out.push_back(node.a); break;
    case Kind::seq:
      first_sets(node.a, out);
      if (exprs_[node.a].nullable) first_sets(node.b, out);
      break;
    case Kind::alt:
    case Kind::both:
      for (const Expr part : operands(node)) first_sets(part, out);
      break;
    case Kind::negate:
    case Kind::repeat: first_sets(node.a, out); break;
    default: break;
  }
}

/// Bytes that no first set tells apart have the same derivative, so one of each class is enough.
void Regular::build_row(Expr e) {
  if (table_.size() >= most_states) too_complex(most_states);
  std::vector<std::uint32_t> firsts;
  first_sets(e, firsts);
  std::sort(firsts.begin(), firsts.end());
  firsts.erase(std::unique(firsts.begin(), firsts.end()), firsts.end());
  std::vector<ByteSet> classes = {ByteSet::range(0, 255)};
  for (const std::uint32_t index : firsts) {
    const ByteSet set = sets_[index];
    for (std::size_t i = 0, n = classes.size(); i < n; ++i) {
      const ByteSet inside = classes[i] & set, outside = classes[i] - set;
      if (inside.empty() || outside.empty()) continue;
      classes[i] = inside;
      classes.push_back(outside);
    }
  }
  std::array<Expr, 256> row{};
  for (const ByteSet& members : classes) {
    const Expr target = derivative(e, members.first());
    if (target == nothing) continue;
    for (unsigned b = 0; b < 256; ++b)
      if (members.has(b)) row[b] = target;
  }
  table_.push_back(row);
  rows_[e] = static_cast<std::uint32_t>(table_.size());
}

const std::array<Expr, 256>& Regular::build(Expr e) {
  if (exprs_[e].opaque)
    explore(e);
  else
    build_row(e);
  return table_[rows_[e] - 1];
}

/// Walks all states that an opaque expression leads to, finds their distances, and takes transitions to states that no
/// text leaves out of the rows.
void Regular::explore(Expr start) {
  if (exprs_[start].distance != unknown) return;
  std::vector<Expr> found = {start};
  std::unordered_map<Expr, std::vector<Expr>> sources;
  const auto successors = [this](Expr e) {
    std::vector<Expr> targets(table_[rows_[e] - 1].begin(), table_[rows_[e] - 1].end());
    std::sort(targets.begin(), targets.end());
    targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
    return targets;
  };
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found.size() > most_explored) too_complex(most_explored);
    const Expr e = found[i];
    if (exprs_[e].distance != unknown) continue;
    if (rows_[e] == 0) build_row(e);
    for (const Expr target : successors(e)) {
      const auto [place, fresh] = sources.try_emplace(target);
      place->second.push_back(e);
      if (fresh && target != start) found.push_back(target);
    }
  }
  using Entry = std::pair<std::uint32_t, Expr>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
  std::unordered_map<Expr, std::uint32_t> distances;
  const auto reach = [&](Expr e, std::uint32_t distance) {
    const auto [place, fresh] = distances.try_emplace(e, distance);
    if (!fresh && place->second <= distance) return;
    place->second = distance;
    queue.emplace(distance, e);
  };
  for (const Expr e : found) {
    if (exprs_[e].nullable) reach(e, 0);
    if (exprs_[e].distance < unreachable) reach(e, exprs_[e].distance);
  }
  while (!queue.empty()) {
    const auto [distance, e] = queue.top();
    queue.pop();
    if (distances[e] < distance) continue;
    for (const Expr source : sources[e]) reach(source, distance + 1);
  }
  const auto is_dead = [&](Expr e) { return e != nothing && !distances.contains(e); };
  for (const Expr e : found) {
    if (exprs_[e].distance != unknown) continue;
    exprs_[e].distance = distances.contains(e) ? distances[e] : unreachable;
    for (Expr& target : table_[rows_[e] - 1])
      if (is_dead(target)) target = nothing;
  }
}

std::uint32_t Regular::distance(Expr e) {
  if (exprs_[e].distance == unknown) explore(e);
  return exprs_[e].distance;
}

Regular::Extent Regular::extent(Expr start, std::uint64_t limit) {
  // Depth first with marks: a state met again while it is open closes a cycle, and so infinitely many texts.
  struct Known {
    bool open = true;
    std::uint64_t count = 0;
    std::uint32_t longest = 0;
  };
  if (distance(start) >= unreachable) return {true, 0, 0};
  std::unordered_map<Expr, Known> known;
  std::vector<std::pair<Expr, unsigned>> path = {{start, 0}};
  known[start];
  while (!path.empty()) {
    auto& [e, byte] = path.back();
    while (byte < 256 && (row(e)[byte] == nothing || distance(row(e)[byte]) >= unreachable)) ++byte;
    if (byte < 256) {
      const Expr target = row(e)[byte];
      const auto [place, fresh] = known.try_emplace(target);
      if (fresh) {
        if (known.size() > most_explored) return {};
        path.emplace_back(target, 0);
        continue;
      }
      if (place->second.open) return {};
      Known& mine = known[e];
      mine.count = std::min(limit, mine.count + place->second.count);
      mine.longest = std::max(mine.longest, place->second.longest + 1);
      ++byte;
      continue;
    }
    Known& mine = known[e];
    if (nullable(e)) mine.count = std::min(limit, mine.count + 1);
    mine.open = false;
    path.pop_back();
  }
  return {true, known[start].count, known[start].longest};
}

std::uint32_t Regular::bytes_of(Expr e, std::uint64_t count) {
  const std::uint32_t shortest = distance(e);
  if (shortest >= unreachable) return unreachable;
  // Texts of exactly so many bytes lead to a state: counted forward, one byte at a time.
  std::unordered_map<Expr, std::uint64_t> now = {{e, 1}};
  std::uint64_t found = 0;
  for (std::uint32_t length = 0; length <= shortest + 64; ++length) {
    for (const auto& [state, ways] : now)
      if (nullable(state)) found = std::min(count, found + ways);
    if (found >= count) return length;
    std::unordered_map<Expr, std::uint64_t> next_states;
    for (const auto& [state, ways] : now)
      for (const Expr target : row(state))
        if (target != nothing) {
          auto& sum = next_states[target];
          sum = std::min(count, sum + ways);
        }
    now = std::move(next_states);
    if (now.size() > most_explored) return unreachable;
  }
  return unreachable;
}

Regular::Reduced Regular::reduce(Expr e, std::uint32_t reach) {
  const Node node = exprs_[e];
  if (node.kind == Kind::repeat && !node.opaque) {
    const std::uint32_t low = std::min(node.low, reach);
    const std::uint32_t high = node.high >= reach ? unbounded : node.high;
    const std::uint32_t each = exprs_[node.a].distance;
    return {repeat(node.a, low, high), saturated(std::uint64_t{node.low - low} * each)};
  }
  if (node.kind == Kind::seq) {
    // The count may stand behind the rest of an unfinished character.
    const Reduced first = reduce(node.a, reach);
    if (first.expr != node.a) return {seq(first.expr, node.b), first.offset};
    if (exprs_[node.b].kind == Kind::seq || exprs_[node.b].kind == Kind::repeat) {
      const Node& second = exprs_[node.b];
      const Expr head = second.kind == Kind::seq ? second.a : node.b;
      if (exprs_[head].kind == Kind::repeat && !exprs_[node.a].nullable) {
        const Reduced rest = reduce(node.b, reach);
        return {seq(node.a, rest.expr), rest.offset};
      }
    }
  }
  return {e, 0};
}

}  // namespace atelier::text::constraint
