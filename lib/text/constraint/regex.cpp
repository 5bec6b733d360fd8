#include "text/constraint/regex.h"

#include <array>
#include <utility>

#include "text/constraint/regex_ast.h"

namespace atelier::text::constraint {
namespace {

/// The texts that a part matches, by what lies at its edges: `filled[start][end]` the non-empty ones, `empty[start][end]`
/// whether it matches without taking anything. `start`: its left edge is the text's, `end`: its right edge is. Only ^ and $
/// make them differ.
struct Matched {
  std::array<std::array<Expr, 2>, 2> filled{};
  std::array<std::array<bool, 2>, 2> empty{};
};

class Lowering {
 public:
  Lowering(Regular& regular, Spelling spelling) : r_(regular), spelling_(spelling) {}

  Expr text(const RegexNode& node) {
    const Matched m = lower(node);
    return m.empty[1][1] ? r_.alt({m.filled[1][1], Regular::end}) : m.filled[1][1];
  }

 private:
  Matched lower(const RegexNode& node) {
    if (!node.anchored) return uniform(plain(node));
    switch (node.kind) {
      case RegexNode::Kind::text_start: return edge([](int start, int) { return start == 1; });
      case RegexNode::Kind::text_end: return edge([](int, int end) { return end == 1; });
      case RegexNode::Kind::sequence: {
        Matched all = edge([](int, int) { return true; });
        for (std::size_t i = node.parts.size(); i-- > 0;) all = sequence(lower(*node.parts[i]), all);
        return all;
      }
      case RegexNode::Kind::alternatives: {
        Matched all = edge([](int, int) { return false; });
        for (const auto& part : node.parts) all = either(all, lower(*part));
        return all;
      }
      default: {  // a repeat of {0,1} or {1,1}: the parser lets no other hold anchors
        const Matched once = lower(*node.parts[0]);
        return node.low == 0 ? either(once, edge([](int, int) { return true; })) : once;
      }
    }
  }

  /// A part without anchors.
  Expr plain(const RegexNode& node) {
    switch (node.kind) {
      case RegexNode::Kind::set: return character_of(r_, node.set, spelling_);
      case RegexNode::Kind::sequence: {
        Expr all = Regular::end;
        for (std::size_t i = node.parts.size(); i-- > 0;) all = r_.seq(plain(*node.parts[i]), all);
        return all;
      }
      case RegexNode::Kind::alternatives: {
        std::vector<Expr> parts;
        for (const auto& part : node.parts) parts.push_back(plain(*part));
        return r_.alt(parts);
      }
      default: return r_.repeat(plain(*node.parts[0]), node.low, node.high);
    }
  }

  template <typename Condition>
  static Matched edge(Condition condition) {
    Matched m;
    for (int start : {0, 1})
      for (int end : {0, 1}) {
        m.filled[start][end] = Regular::nothing;
        m.empty[start][end] = condition(start, end);
      }
    return m;
  }

  /// Where only anchors care whether anything was taken, the empty text may stay in `filled`: nothing is lost, since
  /// the part matches it under all conditions.
  Matched uniform(Expr e) {
    Matched m;
    for (auto& row : m.filled) row = {e, e};
    for (auto& row : m.empty) row = {r_.nullable(e), r_.nullable(e)};
    return m;
  }

  Matched either(const Matched& a, const Matched& b) {
    Matched m;
    for (int start : {0, 1})
      for (int end : {0, 1}) {
        m.filled[start][end] = r_.alt({a.filled[start][end], b.filled[start][end]});
        m.empty[start][end] = a.empty[start][end] || b.empty[start][end];
      }
    return m;
  }

  Matched sequence(const Matched& a, const Matched& b) {
    Matched m;
    for (int start : {0, 1})
      for (int end : {0, 1}) {
        std::vector<Expr> parts = {r_.seq(a.filled[start][0], b.filled[0][end])};
        if (a.empty[start][0]) parts.push_back(b.filled[start][end]);
        if (b.empty[0][end]) parts.push_back(a.filled[start][end]);
        m.filled[start][end] = r_.alt(parts);
        m.empty[start][end] = a.empty[start][end] && b.empty[start][end];
      }
    return m;
  }

  Regular& r_;
  Spelling spelling_;
};

}  // namespace

Expr whole_match(Regular& regular, std::string_view pattern, Spelling spelling) {
  return Lowering(regular, spelling).text(*parse_regex(pattern));
}

Expr search_match(Regular& regular, std::string_view pattern, Spelling spelling) {
  const auto anything = [] {
    auto set = std::make_unique<RegexNode>();
    set->kind = RegexNode::Kind::set;
    set->set = CodePoints::all();
    auto repeat = std::make_unique<RegexNode>();
    repeat->kind = RegexNode::Kind::repeat;
    repeat->high = Regular::unbounded;
    repeat->parts.push_back(std::move(set));
    return repeat;
  };
  RegexNode around;
  around.parts.push_back(anything());
  around.parts.push_back(parse_regex(pattern));
  around.parts.push_back(anything());
  around.anchored = around.parts[1]->anchored;
  return Lowering(regular, spelling).text(around);
}

}  // namespace atelier::text::constraint
