#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace atelier::text::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Call {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> keyword;
  ExpressionPtr star, double_star;  ///< *args, **kwargs; may be null
};

struct Expression {
  enum class Kind : std::uint8_t {
    constant,   ///< value
    name,       ///< name
    list,       ///< operands
    tuple,      ///< operands
    dict,       ///< operands: key, value, key, value, ...
    attribute,  ///< operands[0] . name
    item,       ///< operands[0] [ operands[1] ]
    slice,      ///< operands: start, stop, step, each may be null; only inside `item`
    call,       ///< operands[0] ( call )
    filter,     ///< operands[0] | name(call); operands[0] is null in block filters, the text stands for it
    test,       ///< operands[0] is name(call)
    unary,      ///< name operands[0]: "-", "+", "not"
    binary,     ///< operands[0] name operands[1]
    concat,     ///< operands joined as texts
    compare,    ///< operands[0] names[0] operands[1] names[1] operands[2] ...
    condition,  ///< operands: value, test, otherwise (may be null)
  };
  Kind kind = Kind::constant;
  std::size_t line = 0;
  std::size_t depth = 1;  ///< of the tree below; bounded by the parser
  std::string name;
  std::vector<std::string> names;
  Value value;
  std::vector<ExpressionPtr> operands;
  Call call;
};

/// What can stand on the left of an assignment: a name, an attribute of a namespace, or a tuple of these.
struct Target {
  std::string name;
  std::string attribute;  ///< of the namespace `name`; "" for a name
  std::vector<Target> elements;
  bool is_tuple = false;
};

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

struct Parameter {
  std::string name;
  ExpressionPtr fallback;  ///< may be null
};

struct Statement {
  enum class Kind : std::uint8_t {
    data,          ///< text
    output,        ///< expression
    assign,        ///< target = expression
    assign_block,  ///< target = text of body, through `expression` (a filter) where it is not null
    condition,     ///< branches, otherwise
    loop,          ///< for target in expression if test: body, else otherwise
    macro,         ///< name(parameters): body
    call_block,    ///< expression (a call) with `caller` = (parameters): body
    filter_block,  ///< expression (a filter) of the text of body
    scope,         ///< assignments (with), then body
    loop_break,
    loop_continue,
  };
  Kind kind = Kind::data;
  std::size_t line = 0;
  std::string text, name;
  Target target;
  ExpressionPtr expression, test;
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  std::vector<std::pair<Target, ExpressionPtr>> assignments;
  std::vector<Parameter> parameters;
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;
  Block body, otherwise;
};

}  // namespace atelier::text::jinja
