#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace atelier::text::jinja {

/// The variables of one block; names that are not in it are looked up in its parent.
class Scope {
 public:
  explicit Scope(std::shared_ptr<Scope> parent) : parent_(std::move(parent)) {}
  void set(const std::string& name, Value value);
  const Value* find(const std::string& name) const;
  void clear() { variables_.clear(); }

 private:
  std::shared_ptr<Scope> parent_;
  std::vector<std::pair<std::string, Value>> variables_;
};

/// Walks over a template's tree once. What can refer back to itself (namespaces, scopes that macros remember) is kept
/// in one place and emptied at the end, so that nothing leaks and no chain of objects is torn down recursively.
class Interpreter {
 public:
  explicit Interpreter(std::vector<std::pair<std::string, Value>> variables);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  /// Failure, with line() telling where.
  TrackedText run(const Block& root);
  std::size_t line() const { return line_; }

 private:
  enum class Flow { normal, loop_break, loop_continue };
  using ScopePtr = std::shared_ptr<Scope>;
  struct LoopState;

  // interpreter.cpp: statements
  Flow execute(const Block& block);
  Flow execute(const Statement& statement);
  Flow execute_condition(const Statement& statement);
  Flow execute_loop(const Statement& statement);
  void execute_macro(const Statement& statement);
  void execute_call_block(const Statement& statement);
  void execute_scope(const Statement& statement);
  TrackedText capture(const Block& block);
  void write(const TrackedText& text);
  void assign(const Target& target, const Value& value);
  Value make_macro(const Statement& statement, const std::string& name);
  Value call_macro(const Statement& statement, const std::string& name, const ScopePtr& defined_in,
                   const Arguments& arguments);
  void bind_parameters(const Statement& statement, const std::string& name, const Arguments& arguments);
  Value make_namespace(const Arguments& arguments);
  Value loop_object(const std::shared_ptr<LoopState>& state);
  void remember(const ScopePtr& scope);

  // evaluate.cpp: expressions
  Value evaluate(const Expression& expression);
  Value evaluate_name(const Expression& expression);
  Value evaluate_dict(const Expression& expression);
  Value evaluate_item(const Expression& expression);
  Value evaluate_call(const Expression& expression, const Value* caller);
  Value evaluate_filter(const Expression& expression, const Value* subject);
  bool evaluate_test(const Expression& expression);
  Value evaluate_unary(const Expression& expression);
  Value evaluate_binary(const Expression& expression);
  Value evaluate_compare(const Expression& expression);
  std::vector<Value> evaluate_all(const std::vector<ExpressionPtr>& expressions);
  Arguments evaluate_arguments(const Call& call);

  /// Runs with another innermost scope for a while.
  class ScopeGuard;

  ScopePtr scope_;
  TrackedText* out_ = nullptr;
  std::size_t line_ = 1;
  std::vector<ScopePtr> captured_scopes_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

}  // namespace atelier::text::jinja
