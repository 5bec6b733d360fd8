#include <algorithm>

#include <fmt/format.h>

#include "text/jinja/parser.h"

namespace atelier::text::jinja {
namespace {

constexpr std::size_t kMaxTreeDepth = 200;

}  // namespace

ExpressionPtr Parser::make(Expression::Kind kind, std::size_t line) const {
  auto expression = std::make_unique<Expression>();
  expression->kind = kind;
  expression->line = line;
  return expression;
}

ExpressionPtr Parser::deepen(Expression& parent, ExpressionPtr child) const {
  if (child) parent.depth = std::max(parent.depth, child->depth + 1);
  if (parent.depth > kMaxTreeDepth) fail("an expression nests too deeply");
  return child;
}

void Parser::add(Expression& parent, ExpressionPtr child) const {
  parent.operands.push_back(deepen(parent, std::move(child)));
}

ExpressionPtr Parser::parse_expression(bool with_condition) {
  const Nesting nesting(*this);
  return with_condition ? parse_condition() : parse_or();
}

bool Parser::at_tuple_end() const {
  const Token& token = current();
  return token.kind == Token::Kind::variable_end || token.kind == Token::Kind::block_end || token.is_op(")") ||
         token.kind == Token::Kind::end;
}

/// Expressions with commas between them make a tuple; one without a comma is itself.
ExpressionPtr Parser::parse_tuple(bool with_condition, bool parenthesized) {
  auto tuple = make(Expression::Kind::tuple, current().line);
  bool comma = false;
  while (!at_tuple_end()) {
    add(*tuple, parse_expression(with_condition));
    if (!take_op(",")) break;
    comma = true;
  }
  if (!comma && tuple->operands.size() == 1) return std::move(tuple->operands[0]);
  if (tuple->operands.empty() && !parenthesized) unexpected("an expression");
  return tuple;
}

ExpressionPtr Parser::parse_condition() {
  ExpressionPtr value = parse_or();
  while (current().is_name("if")) {
    auto condition = make(Expression::Kind::condition, take().line);
    add(*condition, std::move(value));
    add(*condition, parse_or());
    if (take_name("else")) {
      const Nesting nesting(*this);
      add(*condition, parse_condition());
    } else {
      add(*condition, nullptr);
    }
    value = std::move(condition);
  }
  return value;
}

ExpressionPtr Parser::parse_or() {
  ExpressionPtr left = parse_and();
  while (current().is_name("or")) {
    auto node = make(Expression::Kind::binary, take().line);
    node->name = "or";
    add(*node, std::move(left));
    add(*node, parse_and());
    left = std::move(node);
  }
  return left;
}

ExpressionPtr Parser::parse_and() {
  ExpressionPtr left = parse_not();
  while (current().is_name("and")) {
    auto node = make(Expression::Kind::binary, take().line);
    node->name = "and";
    add(*node, std::move(left));
    add(*node, parse_not());
    left = std::move(node);
  }
  return left;
}

ExpressionPtr Parser::parse_not() {
  if (!current().is_name("not")) return parse_compare();
  const Nesting nesting(*this);
  auto node = make(Expression::Kind::unary, take().line);
  node->name = "not";
  add(*node, parse_not());
  return node;
}

ExpressionPtr Parser::parse_compare() {
  ExpressionPtr first = parse_sum();
  ExpressionPtr node;
  while (true) {
    std::string op;
    for (const std::string_view candidate : {"==", "!=", "<", "<=", ">", ">="}) {
      if (current().is_op(candidate)) op = candidate;
    }
    if (current().is_name("in")) op = "in";
    if (current().is_name("not") && ahead().is_name("in")) op = "not in", take();
    if (op.empty()) return node ? std::move(node) : std::move(first);
    if (!node) {
      node = make(Expression::Kind::compare, current().line);
      add(*node, std::move(first));
    }
    take();
    node->names.push_back(op);
    add(*node, parse_sum());
  }
}

ExpressionPtr Parser::parse_sum() {
  ExpressionPtr left = parse_concat();
  while (current().is_op("+") || current().is_op("-")) {
    auto node = make(Expression::Kind::binary, current().line);
    node->name = take().text;
    add(*node, std::move(left));
    add(*node, parse_concat());
    left = std::move(node);
  }
  return left;
}

ExpressionPtr Parser::parse_concat() {
  ExpressionPtr first = parse_product();
  if (!current().is_op("~")) return first;
  auto node = make(Expression::Kind::concat, current().line);
  add(*node, std::move(first));
  while (take_op("~")) add(*node, parse_product());
  return node;
}

ExpressionPtr Parser::parse_product() {
  ExpressionPtr left = parse_power();
  while (current().is_op("*") || current().is_op("/") || current().is_op("//") || current().is_op("%")) {
    auto node = make(Expression::Kind::binary, current().line);
    node->name = take().text;
    add(*node, std::move(left));
    add(*node, parse_power());
    left = std::move(node);
  }
  return left;
}

ExpressionPtr Parser::parse_power() {
  ExpressionPtr left = parse_unary(true);
  while (current().is_op("**")) {
    auto node = make(Expression::Kind::binary, take().line);
    node->name = "**";
    add(*node, std::move(left));
    add(*node, parse_unary(true));
    left = std::move(node);
  }
  return left;
}

ExpressionPtr Parser::parse_unary(bool with_filter) {
  ExpressionPtr node;
  if (current().is_op("-") || current().is_op("+")) {
    const Nesting nesting(*this);
    node = make(Expression::Kind::unary, current().line);
    node->name = take().text;
    add(*node, parse_unary(false));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPtr Parser::parse_primary() {
  const Token& token = current();
  auto node = make(Expression::Kind::constant, token.line);
  switch (token.kind) {
    case Token::Kind::name: return parse_name();
    case Token::Kind::string: {
      std::string text;
      while (current().kind == Token::Kind::string) text += take().text;
      node->value = Value::text(text, true);
      return node;
    }
    case Token::Kind::integer: node->value = Value::integer(take().integer); return node;
    case Token::Kind::real: node->value = Value::real(take().real); return node;
    default: break;
  }
  if (take_op("(")) {
    const Nesting nesting(*this);
    node = parse_tuple(true, true);
    expect_op(")");
    return node;
  }
  if (token.is_op("[")) return parse_list();
  if (token.is_op("{")) return parse_dict();
  unexpected("an expression");
}

ExpressionPtr Parser::parse_name() {
  auto node = make(Expression::Kind::constant, current().line);
  node->name = take().text;
  const std::string_view name = node->name;
  if (name == "true" || name == "True" || name == "false" || name == "False") {
    node->value = Value::boolean(name == "true" || name == "True");
  } else if (name == "none" || name == "None") {
    node->value = Value::none();
  } else {
    node->kind = Expression::Kind::name;
    if (!macros_.empty()) {
      macros_.back().varargs |= name == "varargs";
      macros_.back().kwargs |= name == "kwargs";
      macros_.back().caller |= name == "caller";
    }
  }
  return node;
}

ExpressionPtr Parser::parse_list() {
  auto node = make(Expression::Kind::list, take().line);
  while (!take_op("]")) {
    if (!node->operands.empty()) {
      expect_op(",");
      if (take_op("]")) break;
    }
    add(*node, parse_expression());
  }
  return node;
}

ExpressionPtr Parser::parse_dict() {
  auto node = make(Expression::Kind::dict, take().line);
  while (!take_op("}")) {
    if (!node->operands.empty()) {
      expect_op(",");
      if (take_op("}")) break;
    }
    add(*node, parse_expression());
    expect_op(":");
    add(*node, parse_expression());
  }
  return node;
}

ExpressionPtr Parser::parse_postfix(ExpressionPtr base) {
  while (true) {
    if (current().is_op(".") || current().is_op("[")) {
      base = parse_subscript(std::move(base));
    } else if (current().is_op("(")) {
      auto node = make(Expression::Kind::call, current().line);
      add(*node, std::move(base));
      parse_call(*node);
      base = std::move(node);
    } else {
      return base;
    }
  }
}

ExpressionPtr Parser::parse_subscript(ExpressionPtr base) {
  const Token token = take();
  if (token.is_op(".")) {
    auto node = make(Expression::Kind::attribute, token.line);
    add(*node, std::move(base));
    if (current().kind == Token::Kind::integer) {
      node->kind = Expression::Kind::item;
      auto index = make(Expression::Kind::constant, token.line);
      index->value = Value::integer(take().integer);
      add(*node, std::move(index));
    } else {
      node->name = expect_identifier();
    }
    return node;
  }
  auto node = make(Expression::Kind::item, token.line);
  add(*node, std::move(base));
  auto parts = make(Expression::Kind::tuple, token.line);
  while (!take_op("]")) {
    if (!parts->operands.empty()) expect_op(",");
    add(*parts, parse_subscript_part());
  }
  if (parts->operands.empty()) fail("expected an index");
  if (parts->operands.size() == 1) {
    add(*node, std::move(parts->operands[0]));
  } else {
    add(*node, std::move(parts));
  }
  return node;
}

ExpressionPtr Parser::parse_subscript_part() {
  ExpressionPtr start;
  if (!current().is_op(":")) {
    start = parse_expression();
    if (!current().is_op(":")) return start;
  }
  auto slice = make(Expression::Kind::slice, take().line);
  add(*slice, std::move(start));
  const auto at_end = [this] { return current().is_op("]") || current().is_op(",") || current().is_op(":"); };
  add(*slice, at_end() ? nullptr : parse_expression());
  add(*slice, take_op(":") && !at_end() ? parse_expression() : nullptr);
  return slice;
}

ExpressionPtr Parser::parse_filters_and_tests(ExpressionPtr base) {
  while (true) {
    if (current().is_op("|")) {
      base = parse_filter(std::move(base));
    } else if (current().is_name("is")) {
      base = parse_test(std::move(base));
    } else if (current().is_op("(")) {
      auto node = make(Expression::Kind::call, current().line);
      add(*node, std::move(base));
      parse_call(*node);
      base = std::move(node);
    } else {
      return base;
    }
  }
}

/// A chain of filters. Where the base is null (block filters), the first `|` may be missing.
ExpressionPtr Parser::parse_filter(ExpressionPtr base) {
  bool first = !base;
  while (take_op("|") || first) {
    first = false;
    auto node = make(Expression::Kind::filter, current().line);
    node->name = expect_identifier();
    add(*node, std::move(base));
    if (current().is_op("(")) parse_call(*node);
    base = std::move(node);
  }
  return base;
}

ExpressionPtr Parser::parse_test(ExpressionPtr base) {
  auto node = make(Expression::Kind::test, take().line);
  const bool negated = take_name("not");
  node->name = expect_identifier();
  add(*node, std::move(base));
  const Token& token = current();
  const bool starts_argument = token.kind == Token::Kind::name || token.kind == Token::Kind::string ||
                               token.kind == Token::Kind::integer || token.kind == Token::Kind::real ||
                               token.is_op("[") || token.is_op("{");
  if (token.is_op("(")) {
    parse_call(*node);
  } else if (starts_argument && !token.is_name("else") && !token.is_name("or") && !token.is_name("and")) {
    if (token.is_name("is")) fail("tests cannot be chained with 'is'");
    node->call.positional.push_back(deepen(*node, parse_postfix(parse_primary())));
  }
  if (!negated) return node;
  auto inverse = make(Expression::Kind::unary, node->line);
  inverse->name = "not";
  add(*inverse, std::move(node));
  return inverse;
}

void Parser::parse_call(Expression& node) {
  Call& call = node.call;
  const Nesting nesting(*this);
  expect_op("(");
  bool first = true;
  while (!take_op(")")) {
    if (!std::exchange(first, false)) {
      expect_op(",");
      if (take_op(")")) break;
    }
    if (take_op("*")) {
      if (call.star || call.double_star) fail("malformed arguments");
      call.star = deepen(node, parse_expression());
    } else if (take_op("**")) {
      if (call.double_star) fail("malformed arguments");
      call.double_star = deepen(node, parse_expression());
    } else if (current().kind == Token::Kind::name && ahead().is_op("=")) {
      if (call.double_star) fail("malformed arguments");
      std::string key = take().text;
      take();
      call.keyword.emplace_back(std::move(key), deepen(node, parse_expression()));
    } else {
      if (call.star || call.double_star || !call.keyword.empty()) fail("an argument by position follows one by name");
      call.positional.push_back(deepen(node, parse_expression()));
    }
  }
}

}  // namespace atelier::text::jinja
