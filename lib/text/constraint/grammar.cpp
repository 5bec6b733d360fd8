#include "text/constraint/grammar.h"

#include <algorithm>
#include <ranges>

namespace atelier::text::constraint {
namespace {

constexpr std::uint32_t widest_indent = 24;
std::uint32_t capped(std::uint32_t count, std::uint32_t most) { return std::min(count, most); }

}  // namespace

std::uint32_t add_costs(std::uint32_t a, std::uint32_t b) { return std::min(a + b, Regular::unreachable); }

Punctuation::Punctuation(Regular& r) {
  const Expr blank = r.literal(" ");
  gap = r.repeat(r.alt({blank, r.seq(r.literal("\n"), r.repeat(blank, 0, widest_indent))}), 0, 1);
  after_colon = r.repeat(blank, 0, 1);
  open_object = r.literal("{");
  close_object = r.seq(gap, r.literal("}"));
  open_array = r.literal("[");
  close_array = r.seq(gap, r.literal("]"));
  comma = r.seq(r.literal(","), gap);
}

Grammar::Grammar(std::shared_ptr<const Vocabulary> vocabulary) : lexemes(regular, std::move(vocabulary)) {
  nodes.emplace_back();
}

NodeId Grammar::add(GrammarNode node) {
  nodes.push_back(std::move(node));
  return static_cast<NodeId>(nodes.size() - 1);
}

NodeId Grammar::add_lexeme(Expr lexeme, bool comparable) {
  return add({.kind = GrammarNode::Kind::lexeme, .lexeme = lexeme, .comparable = comparable});
}

NodeId Grammar::add_object(ObjectRule rule) {
  captures |= !rule.others.empty();
  objects.push_back(std::move(rule));
  return add({.kind = GrammarNode::Kind::object, .rule = static_cast<std::uint32_t>(objects.size() - 1)});
}

NodeId Grammar::add_array(ArrayRule rule) {
  captures |= rule.unique;
  arrays.push_back(std::move(rule));
  return add({.kind = GrammarNode::Kind::array, .rule = static_cast<std::uint32_t>(arrays.size() - 1)});
}

/// A node's cost depends on those of its parts, which may be the node itself: from "no text" the costs fall until none does.
void Grammar::find_costs() {
  for (bool changed = true; changed;) {
    changed = false;
    for (GrammarNode& node : std::views::reverse(nodes)) {  // parts mostly stand behind the whole
      const std::uint32_t cost = cost_of(node);
      changed |= cost < node.cost;
      node.cost = std::min(node.cost, cost);
    }
  }
  for (GrammarNode& node : nodes) {
    cost_of(node);  // the rules' tables, now that all is known
    if (node.kind == GrammarNode::Kind::alternatives)
      std::erase_if(node.parts, [this](NodeId part) { return cost(part) >= Regular::unreachable; });
  }
}

std::uint32_t Grammar::cost_of(const GrammarNode& node) {
  std::uint32_t total = 0;
  switch (node.kind) {
    case GrammarNode::Kind::nothing: return Regular::unreachable;
    case GrammarNode::Kind::lexeme: return lexemes.cost(node.lexeme);
    case GrammarNode::Kind::alternatives:
      total = Regular::unreachable;
      for (const NodeId part : node.parts) total = std::min(total, cost(part));
      return total;
    case GrammarNode::Kind::sequence:
      for (const NodeId part : node.parts) total = add_costs(total, cost(part));
      return total;
    case GrammarNode::Kind::object: return object_cost(objects[node.rule]);
    case GrammarNode::Kind::array: return array_cost(arrays[node.rule]);
  }
  return Regular::unreachable;
}

std::uint32_t Grammar::object_cost(ObjectRule& rule) {
  const auto n = rule.properties.size();
  // Beyond this count nothing depends on it any more.
  rule.counted = std::max(1u, rule.most == Regular::unbounded ? rule.least : rule.most);
  const std::uint32_t full = rule.counted;
  constexpr std::uint32_t around_key = 4;  // ," and ":
  std::uint32_t other = Regular::unreachable;
  for (const auto& others : rule.others)
    other = std::min(other, add_costs(add_costs(cost(others.value), others.key_bytes), around_key));
  rule.costs.assign(n + 1, std::vector<std::uint32_t>(full + 1, Regular::unreachable));
  for (std::uint32_t e = full + 1; e-- > 0;) {
    if (e >= rule.least)
      rule.costs[n][e] = lexemes.cost(punctuation.close_object);
    else if (e < full && e < rule.most)
      rule.costs[n][e] = add_costs(other, rule.costs[n][e + 1]);
  }
  for (std::size_t i = n; i-- > 0;) {
    const auto& property = rule.properties[i];
    for (std::uint32_t e = 0; e <= full; ++e) {
      std::uint32_t best = property.required ? Regular::unreachable : rule.costs[i + 1][e];
      if (e < rule.most) {
        const Expr key = e == 0 ? property.first : property.later;
        const std::uint32_t taken =
            add_costs(add_costs(lexemes.cost(key), cost(property.value)), rule.costs[i + 1][capped(e + 1, full)]);
        best = std::min(best, taken);
      }
      rule.costs[i][e] = best;
    }
  }
  return add_costs(lexemes.cost(punctuation.open_object), rule.costs[0][0]);
}

std::uint32_t Grammar::array_cost(ArrayRule& rule) {
  // Item by item up to where nothing changes any more.
  const std::uint32_t steps = std::min(rule.most, std::max(rule.least, static_cast<std::uint32_t>(rule.prefix.size())));
  rule.costs.assign(steps + 1, Regular::unreachable);
  const std::uint32_t close = lexemes.cost(punctuation.close_array);
  for (std::uint32_t e = steps + 1; e-- > 0;) {
    if (e >= rule.least) {
      rule.costs[e] = close;
      continue;
    }
    if (e == steps) continue;  // fewer are allowed than are wanted
    const std::uint32_t separator = e == 0 ? 0 : lexemes.cost(punctuation.comma);
    const std::uint32_t item = rule.unique ? rule.item_cost : cost(rule.item_at(e));
    rule.costs[e] = add_costs(add_costs(separator, item), rule.costs[e + 1]);
  }
  return add_costs(lexemes.cost(punctuation.open_array), rule.costs[0]);
}

Expr other_key(Grammar& grammar, const ObjectRule& rule, const ObjectRule::Others& others,
               const std::vector<std::string>& used, bool first) {
  Regular& r = grammar.regular;
  std::vector<Expr> taken = {rule.declared};
  for (const std::string& key : used) taken.push_back(r.literal(std::string_view(key).substr(1, key.size() - 2)));
  const Expr key = r.both({others.key, r.negate(r.alt(taken))});
  return r.seq({first ? grammar.punctuation.gap : grammar.punctuation.comma, r.literal("\""), key, r.literal("\":"),
                grammar.punctuation.after_colon});
}

Expr unused_item(Grammar& grammar, const ArrayRule& rule, const std::vector<std::string>& used) {
  Regular& r = grammar.regular;
  std::vector<Expr> taken;
  for (const std::string& item : used) taken.push_back(r.literal(item));
  return r.both({rule.item, r.negate(r.alt(taken))});
}

}  // namespace atelier::text::constraint
