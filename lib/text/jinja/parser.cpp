#include "text/jinja/parser.h"

#include <algorithm>

#include <fmt/format.h>

namespace atelier::text::jinja {
namespace {

constexpr std::size_t kMaxNesting = 100;

std::string describe(const Token& token) {
  switch (token.kind) {
    case Token::Kind::data: return "text";
    case Token::Kind::variable_begin: return "{{";
    case Token::Kind::variable_end: return "}}";
    case Token::Kind::block_begin: return "{%";
    case Token::Kind::block_end: return "%}";
    case Token::Kind::string: return "a string";
    case Token::Kind::integer:
    case Token::Kind::real: return "a number";
    case Token::Kind::end: return "the end of the template";
    default: return fmt::format("'{}'", token.text);
  }
}

std::unique_ptr<Statement> make_statement(Statement::Kind kind, std::size_t line) {
  auto statement = std::make_unique<Statement>();
  statement->kind = kind;
  statement->line = line;
  return statement;
}

}  // namespace

Parser::Nesting::Nesting(Parser& parser) : parser_(parser) {
  if (parser_.nesting_ >= kMaxNesting) parser_.fail("the template nests too deeply");
  ++parser_.nesting_;
}

void Parser::fail(const std::string& message) const { throw SyntaxError(message, current().line); }

void Parser::unexpected(std::string_view wanted) const {
  fail(fmt::format("expected {}, found {}", wanted, describe(current())));
}

Token Parser::take() {
  Token token = tokens_[at_];
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool Parser::take_op(std::string_view op) {
  if (!current().is_op(op)) return false;
  take();
  return true;
}

bool Parser::take_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  take();
  return true;
}

void Parser::expect_op(std::string_view op) {
  if (!take_op(op)) unexpected(fmt::format("'{}'", op));
}

void Parser::expect_name(std::string_view name) {
  if (!take_name(name)) unexpected(fmt::format("'{}'", name));
}

std::string Parser::expect_identifier() {
  if (current().kind != Token::Kind::name) unexpected("a name");
  return take().text;
}

void Parser::finish_tag() {
  if (current().kind != Token::Kind::block_end) unexpected("'%}'");
  take();
}

Block Parser::parse() { return parse_block({}); }

/// Up to a tag that begins with one of `ends`, whose name is left as the current token; to the end of the template
/// where there are none.
Block Parser::parse_block(std::initializer_list<std::string_view> ends) {
  const Nesting nesting(*this);
  Block block;
  while (current().kind != Token::Kind::end) {
    const Token token = take();
    if (token.kind == Token::Kind::data) {
      block.push_back(make_statement(Statement::Kind::data, token.line));
      block.back()->text = token.text;
    } else if (token.kind == Token::Kind::variable_begin) {
      auto statement = make_statement(Statement::Kind::output, token.line);
      statement->expression = parse_tuple(true, false);
      if (current().kind != Token::Kind::variable_end) unexpected("'}}'");
      take();
      block.push_back(std::move(statement));
    } else {
      if (current().kind != Token::Kind::name) unexpected("the name of a tag");
      if (std::any_of(ends.begin(), ends.end(), [this](std::string_view end) { return current().text == end; }))
        return block;
      if (auto statement = parse_statement()) block.push_back(std::move(statement));
      finish_tag();
    }
  }
  if (ends.size() > 0) unexpected(fmt::format("'{}'", *(ends.end() - 1)));
  return block;
}

/// The rest of an opening tag and what stands up to the closing one, whose name is then current.
Block Parser::body(std::initializer_list<std::string_view> ends) {
  take_op(":");
  finish_tag();
  return parse_block(ends);
}

std::unique_ptr<Statement> Parser::parse_statement() {
  const std::string& name = current().text;
  if (name == "set") return parse_set();
  if (name == "if") return parse_if();
  if (name == "for") return parse_for();
  if (name == "macro") return parse_macro();
  if (name == "call") return parse_call_block();
  if (name == "filter") return parse_filter_block();
  if (name == "with") return parse_with();
  if (name == "generation") return take(), parse_scope("endgeneration");
  if (name == "break" || name == "continue") {
    if (loops_ == 0) fail(fmt::format("'{}' outside of a loop", name));
    return make_statement(take().text == "break" ? Statement::Kind::loop_break : Statement::Kind::loop_continue,
                          current().line);
  }
  if (name == "print") {
    auto statement = make_statement(Statement::Kind::output, take().line);
    statement->expression = parse_expression();
    return statement;
  }
  for (const std::string_view known : {"extends", "include", "import", "from", "block", "autoescape", "do", "trans"}) {
    if (name == known) fail(fmt::format("the tag '{}' is not supported", name));
  }
  fail(fmt::format("unknown tag '{}'", name));
}

std::unique_ptr<Statement> Parser::parse_set() {
  auto statement = make_statement(Statement::Kind::assign, take().line);
  statement->target = parse_target(true);
  if (take_op("=")) {
    statement->expression = parse_tuple(true, false);
    return statement;
  }
  statement->kind = Statement::Kind::assign_block;
  if (current().is_op("|")) statement->expression = parse_filter(nullptr);
  statement->body = body({"endset"});
  expect_name("endset");
  return statement;
}

std::unique_ptr<Statement> Parser::parse_if() {
  auto statement = make_statement(Statement::Kind::condition, take().line);
  while (true) {
    ExpressionPtr test = parse_tuple(false, false);
    Block branch = body({"elif", "else", "endif"});
    statement->branches.emplace_back(std::move(test), std::move(branch));
    if (take_name("elif")) continue;
    if (take_name("else")) statement->otherwise = body({"endif"});
    expect_name("endif");
    return statement;
  }
}

std::unique_ptr<Statement> Parser::parse_for() {
  auto statement = make_statement(Statement::Kind::loop, take().line);
  statement->target = parse_target(false);
  expect_name("in");
  statement->expression = parse_tuple(false, false);
  if (take_name("if")) statement->test = parse_expression();
  if (current().is_name("recursive")) fail("recursive loops are not supported");
  ++loops_;
  statement->body = body({"else", "endfor"});
  --loops_;
  if (take_name("else")) statement->otherwise = body({"endfor"});
  expect_name("endfor");
  return statement;
}

void Parser::parse_parameters(Statement& statement) {
  expect_op("(");
  while (!take_op(")")) {
    if (!statement.parameters.empty()) expect_op(",");
    Parameter parameter;
    parameter.name = expect_identifier();
    if (take_op("=")) {
      parameter.fallback = parse_expression();
    } else if (!statement.parameters.empty() && statement.parameters.back().fallback) {
      fail("a parameter without a default follows one with a default");
    }
    statement.parameters.push_back(std::move(parameter));
  }
}

std::unique_ptr<Statement> Parser::parse_macro() {
  auto statement = make_statement(Statement::Kind::macro, take().line);
  statement->name = expect_identifier();
  macros_.emplace_back();
  parse_parameters(*statement);
  const std::size_t outer_loops = std::exchange(loops_, 0);
  statement->body = body({"endmacro"});
  loops_ = outer_loops;
  expect_name("endmacro");
  statement->uses_varargs = macros_.back().varargs;
  statement->uses_kwargs = macros_.back().kwargs;
  statement->uses_caller = macros_.back().caller;
  macros_.pop_back();
  return statement;
}

std::unique_ptr<Statement> Parser::parse_call_block() {
  auto statement = make_statement(Statement::Kind::call_block, take().line);
  if (current().is_op("(")) parse_parameters(*statement);
  statement->expression = parse_expression();
  if (statement->expression->kind != Expression::Kind::call) fail("expected a call");
  const std::size_t outer_loops = std::exchange(loops_, 0);
  statement->body = body({"endcall"});
  loops_ = outer_loops;
  expect_name("endcall");
  return statement;
}

std::unique_ptr<Statement> Parser::parse_filter_block() {
  auto statement = make_statement(Statement::Kind::filter_block, take().line);
  statement->expression = parse_filter(nullptr);
  statement->body = body({"endfilter"});
  expect_name("endfilter");
  return statement;
}

std::unique_ptr<Statement> Parser::parse_with() {
  const std::size_t line = take().line;
  std::vector<std::pair<Target, ExpressionPtr>> assignments;
  while (current().kind != Token::Kind::block_end && !current().is_op(":")) {
    if (!assignments.empty()) expect_op(",");
    Target target = parse_single_target(false);
    expect_op("=");
    assignments.emplace_back(std::move(target), parse_expression());
  }
  auto statement = parse_scope("endwith");
  statement->line = line;
  statement->assignments = std::move(assignments);
  return statement;
}

std::unique_ptr<Statement> Parser::parse_scope(std::string_view end) {
  auto statement = make_statement(Statement::Kind::scope, current().line);
  statement->body = body({end});
  expect_name(end);
  return statement;
}

Target Parser::parse_single_target(bool with_namespace) {
  const Nesting nesting(*this);
  if (take_op("(")) {
    Target target = parse_target(with_namespace);
    expect_op(")");
    return target;
  }
  Target target;
  target.name = expect_identifier();
  for (const std::string_view reserved : {"true", "false", "none", "True", "False", "None"}) {
    if (target.name == reserved) fail(fmt::format("'{}' cannot be assigned to", target.name));
  }
  if (with_namespace && take_op(".")) target.attribute = expect_identifier();
  return target;
}

Target Parser::parse_target(bool with_namespace) {
  Target first = parse_single_target(with_namespace);
  if (!current().is_op(",")) return first;
  Target tuple;
  tuple.is_tuple = true;
  tuple.elements.push_back(std::move(first));
  while (take_op(",")) {
    if (current().kind != Token::Kind::name && !current().is_op("(")) break;
    if (current().is_name("in")) break;
    tuple.elements.push_back(parse_single_target(with_namespace));
  }
  return tuple;
}

}  // namespace atelier::text::jinja
