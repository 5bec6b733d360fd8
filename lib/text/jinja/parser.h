#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace atelier::text::jinja {

/// Recursive descent over the tokens; the grammar is Jinja 3.1's (parser.py), without template inheritance and imports.
/// Nesting is bounded, so that no template can exhaust the stack here or when its tree is walked.
class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  /// SyntaxError.
  Block parse();

 private:
  // parser.cpp: statements
  Block parse_block(std::initializer_list<std::string_view> ends);
  std::unique_ptr<Statement> parse_statement();
  std::unique_ptr<Statement> parse_set();
  std::unique_ptr<Statement> parse_if();
  std::unique_ptr<Statement> parse_for();
  std::unique_ptr<Statement> parse_macro();
  std::unique_ptr<Statement> parse_call_block();
  std::unique_ptr<Statement> parse_filter_block();
  std::unique_ptr<Statement> parse_with();
  std::unique_ptr<Statement> parse_scope(std::string_view end);
  Block body(std::initializer_list<std::string_view> ends);
  void parse_parameters(Statement& statement);
  Target parse_target(bool with_namespace);
  Target parse_single_target(bool with_namespace);
  void finish_tag();

  // parser_expression.cpp
  ExpressionPtr parse_expression(bool with_condition = true);
  ExpressionPtr parse_tuple(bool with_condition, bool parenthesized);
  ExpressionPtr parse_condition();
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filter);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_name();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr base);
  ExpressionPtr parse_subscript(ExpressionPtr base);
  ExpressionPtr parse_subscript_part();
  ExpressionPtr parse_filters_and_tests(ExpressionPtr base);
  ExpressionPtr parse_filter(ExpressionPtr base);
  ExpressionPtr parse_test(ExpressionPtr base);
  void parse_call(Expression& node);
  bool at_tuple_end() const;

  ExpressionPtr make(Expression::Kind kind, std::size_t line) const;
  /// Adds an operand and keeps the tree's depth, which is bounded.
  void add(Expression& parent, ExpressionPtr child) const;
  /// Takes account of a child that is not an operand, and hands it on.
  ExpressionPtr deepen(Expression& parent, ExpressionPtr child) const;

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  Token take();
  bool take_op(std::string_view op);
  bool take_name(std::string_view name);
  void expect_op(std::string_view op);
  void expect_name(std::string_view name);
  std::string expect_identifier();
  [[noreturn]] void fail(const std::string& message) const;
  [[noreturn]] void unexpected(std::string_view wanted) const;

  /// One level of nesting in the source.
  class Nesting {
   public:
    explicit Nesting(Parser& parser);
    ~Nesting() { --parser_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    Parser& parser_;
  };

  /// Which of a macro's implicit variables its body names.
  struct MacroUse {
    bool varargs = false, kwargs = false, caller = false;
  };

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  std::size_t nesting_ = 0;
  std::size_t loops_ = 0;
  std::vector<MacroUse> macros_;
};

}  // namespace atelier::text::jinja
