#include <fmt/format.h>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace atelier::text::jinja {

Value Interpreter::evaluate(const Expression& expression) {
  const Budget::Descent descent;
  Budget::step();
  line_ = expression.line;
  switch (expression.kind) {
    case Expression::Kind::constant: return expression.value;
    case Expression::Kind::name: return evaluate_name(expression);
    case Expression::Kind::list: return Value::list(evaluate_all(expression.operands));
    case Expression::Kind::tuple: return Value::list(evaluate_all(expression.operands), List::Kind::tuple);
    case Expression::Kind::dict: return evaluate_dict(expression);
    case Expression::Kind::attribute: return attribute(evaluate(*expression.operands[0]), expression.name);
    case Expression::Kind::item: return evaluate_item(expression);
    case Expression::Kind::slice: throw Failure("a slice stands outside of an index");
    case Expression::Kind::call: return evaluate_call(expression, nullptr);
    case Expression::Kind::filter: return evaluate_filter(expression, nullptr);
    case Expression::Kind::test: return Value::boolean(evaluate_test(expression));
    case Expression::Kind::unary: return evaluate_unary(expression);
    case Expression::Kind::binary: return evaluate_binary(expression);
    case Expression::Kind::compare: return evaluate_compare(expression);
    case Expression::Kind::concat: {
      TrackedText text;
      for (const auto& operand : expression.operands) text.append(to_text(evaluate(*operand)));
      return Value::text(std::move(text));
    }
    case Expression::Kind::condition: {
      if (evaluate(*expression.operands[1]).truthy()) return evaluate(*expression.operands[0]);
      if (expression.operands[2]) return evaluate(*expression.operands[2]);
      return Value::undefined("the inline if-expression has no else and its test is false");
    }
  }
  return {};
}

Value Interpreter::evaluate_name(const Expression& expression) {
  const Value* found = scope_->find(expression.name);
  return found ? *found : Value::undefined(fmt::format("'{}' is undefined", expression.name));
}

std::vector<Value> Interpreter::evaluate_all(const std::vector<ExpressionPtr>& expressions) {
  std::vector<Value> values;
  for (const auto& expression : expressions) values.push_back(evaluate(*expression));
  return values;
}

Value Interpreter::evaluate_dict(const Expression& expression) {
  Dict dict;
  for (std::size_t i = 0; i + 1 < expression.operands.size(); i += 2) {
    Value key = evaluate(*expression.operands[i]);
    dict.set(std::move(key), evaluate(*expression.operands[i + 1]));
  }
  return Value::dict(std::move(dict));
}

Value Interpreter::evaluate_item(const Expression& expression) {
  const Value object = evaluate(*expression.operands[0]);
  const Expression& index = *expression.operands[1];
  if (index.kind != Expression::Kind::slice) return item(object, evaluate(index));
  Value bounds[3];
  for (std::size_t i = 0; i < 3; ++i) {
    if (!index.operands[i]) continue;
    bounds[i] = evaluate(*index.operands[i]);
    if (bounds[i].is_undefined()) throw Failure(bounds[i].as_undefined().what);
  }
  return slice_of(object, bounds[0], bounds[1], bounds[2]);
}

Arguments Interpreter::evaluate_arguments(const Call& call) {
  Arguments arguments;
  arguments.positional = evaluate_all(call.positional);
  if (call.star) {
    for (Value& value : iterate(evaluate(*call.star))) arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, expression] : call.keyword) arguments.keyword.emplace_back(name, evaluate(*expression));
  if (call.double_star) {
    const Value others = evaluate(*call.double_star);
    if (!others.is_dict()) throw Failure("** needs a dict");
    for (const auto& [key, value] : others.as_dict().entries())
      arguments.keyword.emplace_back(to_text(key).bytes(), value);
  }
  return arguments;
}

Value Interpreter::evaluate_call(const Expression& expression, const Value* caller) {
  const Value function = evaluate(*expression.operands[0]);
  Arguments arguments = evaluate_arguments(expression.call);
  if (caller) arguments.keyword.emplace_back("caller", *caller);
  line_ = expression.line;
  if (function.is_undefined()) throw Failure(function.as_undefined().what);
  const Callable* callable = function.as_callable();
  if (!callable) throw Failure(fmt::format("'{}' cannot be called", function.type_name()));
  return callable->call(arguments);
}

/// `subject` stands for the text of a block, where the chain of filters has no value of its own.
Value Interpreter::evaluate_filter(const Expression& expression, const Value* subject) {
  const Budget::Descent descent;
  const Expression* inner = expression.operands[0].get();
  const bool chained = inner && inner->kind == Expression::Kind::filter;
  const Value value = !inner ? *subject : chained ? evaluate_filter(*inner, subject) : evaluate(*inner);
  const Arguments arguments = evaluate_arguments(expression.call);
  line_ = expression.line;
  const Filter filter = find_filter(expression.name);
  if (!filter) throw Failure(fmt::format("no filter named '{}'", expression.name));
  Budget::step(2);
  return filter(value, arguments);
}

bool Interpreter::evaluate_test(const Expression& expression) {
  const Value value = evaluate(*expression.operands[0]);
  const Arguments arguments = evaluate_arguments(expression.call);
  line_ = expression.line;
  const Test test = find_test(expression.name);
  if (!test) throw Failure(fmt::format("no test named '{}'", expression.name));
  return test(value, arguments);
}

Value Interpreter::evaluate_unary(const Expression& expression) {
  const Value value = evaluate(*expression.operands[0]);
  if (expression.name == "not") return Value::boolean(!value.truthy());
  if (expression.name == "-") return negate(value);
  if (!value.is_number()) throw Failure(value.is_undefined() ? value.as_undefined().what : "unary + needs a number");
  return value.is_boolean() ? Value::integer(value.as_integer(), value.trusted()) : value;
}

Value Interpreter::evaluate_binary(const Expression& expression) {
  Value left = evaluate(*expression.operands[0]);
  const std::string& op = expression.name;
  if (op == "and") return left.truthy() ? evaluate(*expression.operands[1]) : left;
  if (op == "or") return left.truthy() ? left : evaluate(*expression.operands[1]);
  const Value right = evaluate(*expression.operands[1]);
  line_ = expression.line;
  if (op == "+") return add(left, right);
  if (op == "-") return subtract(left, right);
  if (op == "*") return multiply(left, right);
  if (op == "/") return divide(left, right);
  if (op == "//") return floor_divide(left, right);
  if (op == "%") return modulo(left, right);
  return power(left, right);
}

Value Interpreter::evaluate_compare(const Expression& expression) {
  Value left = evaluate(*expression.operands[0]);
  for (std::size_t i = 0; i < expression.names.size(); ++i) {
    Value right = evaluate(*expression.operands[i + 1]);
    const std::string& op = expression.names[i];
    const bool holds = op == "=="   ? equal(left, right)
                       : op == "!=" ? !equal(left, right)
                       : op == "<"  ? less(left, right)
                       : op == ">"  ? less(right, left)
                       : op == "<=" ? less(left, right) || equal(left, right)
                       : op == ">=" ? less(right, left) || equal(left, right)
                                    : contains(right, left) == (op == "in");
    if (!holds) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

}  // namespace atelier::text::jinja
