#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/constraint/byte_set.h"

namespace atelier::text::constraint {

/// A regular expression over bytes, which is also a state of its automaton: what may follow. Equal ones have equal ids.
using Expr = std::uint32_t;

/// All regular expressions of a constraint, and their automata, built as they are walked by Brzozowski's derivatives
/// (J. A. Brzozowski, "Derivatives of regular expressions", 1964), which bring intersection and complement with them.
/// Error(data) where an automaton has more states than anything sensible needs.
class Regular {
 public:
  static constexpr Expr nothing = 0;  ///< no text at all
  static constexpr Expr end = 1;      ///< only the empty text
  static constexpr std::uint32_t unbounded = UINT32_MAX;
  static constexpr std::uint32_t unreachable = 1u << 30;  ///< distances saturate here

  Regular();

  Expr bytes(const ByteSet& set);
  Expr literal(std::string_view text);
  Expr seq(Expr a, Expr b);
  Expr seq(std::initializer_list<Expr> parts);
  Expr alt(std::vector<Expr> parts);
  Expr both(std::vector<Expr> parts);  ///< intersection
  Expr negate(Expr a);                 ///< all other byte strings: of use only inside both()
  Expr repeat(Expr a, std::uint32_t low, std::uint32_t high);
  /// Tells that everything built from now on is a part of `all`* : all texts there are. Lets unions end up there.
  Expr all_of(Expr character);

  bool nullable(Expr e) const { return exprs_[e].nullable; }
  /// What may follow after `byte`; `nothing` where no text goes on so.
  Expr next(Expr e, unsigned byte) { return row(e)[byte]; }
  const std::array<Expr, 256>& row(Expr e) { return rows_[e] != 0 ? table_[rows_[e] - 1] : build(e); }
  /// Bytes of the shortest text, unreachable where there is none.
  std::uint32_t distance(Expr e);

  /// Whether the texts are finitely many, their number up to `limit`, and the bytes of the longest one.
  struct Extent {
    bool finite = false;
    std::uint64_t count = 0;
    std::uint32_t longest = 0;
  };
  Extent extent(Expr e, std::uint64_t limit);

  /// The smallest number of bytes that at least `count` texts keep to; unreachable where it is more than 64 above the shortest.
  std::uint32_t bytes_of(Expr e, std::uint64_t count);

  /// For repeat(x, m, n) with more to follow: the same with the counts cut to what `reach` bytes can tell apart, and how
  /// many bytes longer the shortest text of the original is.
  struct Reduced {
    Expr expr = nothing;
    std::uint32_t offset = 0;
  };
  Reduced reduce(Expr e, std::uint32_t reach);

  std::size_t states() const { return table_.size(); }
  /// Steps of all computations so far; a runaway is stopped by them, whatever its number of states.
  std::uint64_t work() const { return work_; }

 private:
  enum class Kind : std::uint8_t { nothing, end, set, seq, alt, both, negate, repeat };
  struct Node {
    Kind kind = Kind::nothing;
    bool nullable = false;
    bool opaque = false;         ///< holds an intersection or complement: emptiness shows only in its automaton
    std::uint32_t a = 0, b = 0;  ///< operands; of alt and both: a range of operands_; of set: an index
    std::uint32_t low = 0, high = 0;
    std::uint32_t distance = 0;  ///< unknown for opaque ones before they are explored
    Expr same_hash = 0;
  };
  static constexpr std::uint32_t unknown = UINT32_MAX;

  Expr intern(Node node, std::span<const Expr> operands = {});
  bool equal(const Node& a, const Node& b, std::span<const Expr> operands) const;
  std::span<const Expr> operands(const Node& node) const { return {operands_.data() + node.a, node.b}; }
  std::vector<Expr> flat(const std::vector<Expr>& parts, Kind kind) const;
  void drop_covered(std::vector<Expr>& parts);
  void spend(std::uint64_t steps);
  Expr derivative(Expr e, unsigned byte);
  void first_sets(Expr e, std::vector<std::uint32_t>& out) const;
  const std::array<Expr, 256>& build(Expr e);
  void build_row(Expr e);
  void explore(Expr e);

  std::vector<Node> exprs_;
  std::vector<Expr> operands_;
  std::vector<ByteSet> sets_;
  std::unordered_map<std::uint64_t, Expr> by_hash_;
  std::vector<std::uint32_t> rows_;  ///< by expression: 1 + index into table_, or 0
  std::deque<std::array<Expr, 256>> table_;
  Expr all_ = nothing;
  std::uint64_t work_ = 0;
};

}  // namespace atelier::text::constraint
