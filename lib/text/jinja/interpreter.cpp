#include "text/jinja/interpreter.h"

#include <algorithm>

#include <fmt/format.h>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace atelier::text::jinja {

void Scope::set(const std::string& name, Value value) {
  for (auto& [key, held] : variables_) {
    if (key == name) {
      held = std::move(value);
      return;
    }
  }
  variables_.emplace_back(name, std::move(value));
}

const Value* Scope::find(const std::string& name) const {
  for (const Scope* scope = this; scope; scope = scope->parent_.get()) {
    for (const auto& [key, value] : scope->variables_) {
      if (key == name) return &value;
    }
  }
  return nullptr;
}

class Interpreter::ScopeGuard {
 public:
  ScopeGuard(Interpreter& interpreter, ScopePtr parent) : interpreter_(interpreter), previous_(interpreter.scope_) {
    interpreter_.scope_ = std::make_shared<Scope>(std::move(parent));
  }
  ~ScopeGuard() { interpreter_.scope_ = std::move(previous_); }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

 private:
  Interpreter& interpreter_;
  ScopePtr previous_;
};

/// A running loop. Elements are filtered as they are needed, because a body can change what the filter looks at; only
/// asking for the length goes through all of them.
struct Interpreter::LoopState {
  std::vector<Value> source;
  std::function<bool(const Value&)> accept;  ///< null: everything; also when the loop is over
  std::vector<Value> accepted;
  std::size_t next = 0, index = 0;
  Value last_changed;
  bool changed_before = false;

  bool fetch(std::size_t wanted) {
    while (accepted.size() <= wanted && next < source.size()) {
      const Value& candidate = source[next++];
      if (!accept || accept(candidate)) accepted.push_back(candidate);
    }
    return wanted < accepted.size();
  }

  std::size_t length() {
    fetch(source.size());
    return accepted.size();
  }
};

Interpreter::Interpreter(std::vector<std::pair<std::string, Value>> variables) {
  auto globals = std::make_shared<Scope>(nullptr);
  for (auto& [name, function] : global_functions()) globals->set(name, function);
  globals->set("namespace",
               Value::callable("namespace", [this](const Arguments& arguments) { return make_namespace(arguments); }));
  scope_ = std::make_shared<Scope>(std::move(globals));
  for (auto& [name, value] : variables) scope_->set(name, std::move(value));
  scope_ = std::make_shared<Scope>(scope_);
}

Interpreter::~Interpreter() {
  // Everything is still held here while the links between the objects are cut.
  for (const ScopePtr& scope : captured_scopes_) scope->clear();
  for (const auto& space : namespaces_) space->attributes.clear();
}

TrackedText Interpreter::run(const Block& root) { return capture(root); }

void Interpreter::write(const TrackedText& text) {
  if (out_->size() + text.size() > Budget::limits().output_bytes) throw Failure("the template makes too much text");
  out_->append(text);
}

TrackedText Interpreter::capture(const Block& block) {
  TrackedText text;
  TrackedText* previous = std::exchange(out_, &text);
  try {
    execute(block);
  } catch (...) {
    out_ = previous;
    throw;
  }
  out_ = previous;
  return text;
}

Interpreter::Flow Interpreter::execute(const Block& block) {
  const Budget::Descent descent;
  for (const auto& statement : block) {
    const Flow flow = execute(*statement);
    if (flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Interpreter::Flow Interpreter::execute(const Statement& statement) {
  Budget::step();
  line_ = statement.line;
  switch (statement.kind) {
    case Statement::Kind::data: write(TrackedText(statement.text, true)); break;
    case Statement::Kind::output: write(to_text(evaluate(*statement.expression))); break;
    case Statement::Kind::assign: assign(statement.target, evaluate(*statement.expression)); break;
    case Statement::Kind::condition: return execute_condition(statement);
    case Statement::Kind::loop: return execute_loop(statement);
    case Statement::Kind::macro: execute_macro(statement); break;
    case Statement::Kind::call_block: execute_call_block(statement); break;
    case Statement::Kind::scope: execute_scope(statement); break;
    case Statement::Kind::loop_break: return Flow::loop_break;
    case Statement::Kind::loop_continue: return Flow::loop_continue;
    case Statement::Kind::assign_block:
    case Statement::Kind::filter_block: {
      Value text;
      {
        const ScopeGuard guard(*this, scope_);
        text = Value::text(capture(statement.body));
      }
      if (statement.expression) text = evaluate_filter(*statement.expression, &text);
      statement.kind == Statement::Kind::assign_block ? assign(statement.target, text) : write(to_text(text));
      break;
    }
  }
  return Flow::normal;
}

Interpreter::Flow Interpreter::execute_condition(const Statement& statement) {
  for (const auto& [test, branch] : statement.branches) {
    if (evaluate(*test).truthy()) return execute(branch);
  }
  return execute(statement.otherwise);
}

Interpreter::Flow Interpreter::execute_loop(const Statement& statement) {
  auto state = std::make_shared<LoopState>();
  state->source = iterate(evaluate(*statement.expression));
  const ScopePtr outer = scope_;
  if (statement.test) {
    state->accept = [this, &statement, outer](const Value& candidate) {
      const ScopeGuard guard(*this, outer);
      assign(statement.target, candidate);
      return evaluate(*statement.test).truthy();
    };
  }
  struct Finish {  // the loop variable may outlive the loop in a namespace; what it refers to does not
    LoopState& state;
    ~Finish() { state.accept = nullptr; }
  } finish{*state};
  const Value loop = loop_object(state);
  Flow flow = Flow::normal;
  for (; flow != Flow::loop_break && state->fetch(state->index); ++state->index) {
    Budget::step(4);
    const ScopeGuard guard(*this, outer);
    assign(statement.target, Value(state->accepted[state->index]));
    scope_->set("loop", loop);
    flow = execute(statement.body);
  }
  if (state->accepted.empty()) {
    const ScopeGuard guard(*this, outer);
    return execute(statement.otherwise);
  }
  return Flow::normal;
}

Value Interpreter::loop_object(const std::shared_ptr<LoopState>& state) {
  const auto compute = [state](std::string_view name) -> Value {
    const auto number = [](std::size_t n) { return Value::integer(static_cast<std::int64_t>(n)); };
    const std::size_t index = state->index;
    if (name == "index0") return number(index);
    if (name == "index") return number(index + 1);
    if (name == "first") return Value::boolean(index == 0);
    if (name == "last") return Value::boolean(!state->fetch(index + 1));
    if (name == "length") return number(state->length());
    if (name == "revindex") return number(state->length() - index);
    if (name == "revindex0") return number(state->length() - index - 1);
    if (name == "depth") return number(1);  // it counts recursive loops, which there are none of
    if (name == "depth0") return number(0);
    if (name == "previtem")
      return index > 0 ? state->accepted[index - 1] : Value::undefined("there is no previous item");
    if (name == "nextitem")
      return state->fetch(index + 1) ? state->accepted[index + 1] : Value::undefined("there is no next item");
    if (name == "cycle") {
      return Value::callable("cycle", [state](const Arguments& arguments) {
        if (arguments.positional.empty()) throw Failure("no items for cycling given");
        return arguments.positional[state->index % arguments.positional.size()];
      });
    }
    if (name == "changed") {
      return Value::callable("changed", [state](const Arguments& arguments) {
        const Value now = Value::list(arguments.positional, List::Kind::tuple);
        const bool same = state->changed_before && equal(now, state->last_changed);
        state->changed_before = true;
        state->last_changed = now;
        return Value::boolean(!same);
      });
    }
    return Value::undefined(fmt::format("'loop' has no attribute '{}'", name));
  };
  return Value::loop(std::make_shared<const LoopObject>(LoopObject{compute}));
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (target.is_tuple) {
    const auto parts = iterate(value);
    if (parts.size() != target.elements.size()) {
      throw Failure(fmt::format("{} values cannot be unpacked into {} names", parts.size(), target.elements.size()));
    }
    for (std::size_t i = 0; i < parts.size(); ++i) assign(target.elements[i], parts[i]);
  } else if (target.attribute.empty()) {
    scope_->set(target.name, value);
  } else {
    const Value* found = scope_->find(target.name);
    Namespace* space = found ? found->as_namespace() : nullptr;
    if (!space) throw Failure(fmt::format("cannot assign attribute on '{}', which is not a namespace", target.name));
    if (target.attribute.starts_with('_')) throw Failure("attributes of a namespace may not begin with an underscore");
    Value* held = space->find(target.attribute);
    held ? void(*held = value) : void(space->attributes.emplace_back(target.attribute, value));
  }
}

void Interpreter::remember(const ScopePtr& scope) {
  if (!captured_scopes_.empty() && captured_scopes_.back() == scope) return;
  if (captured_scopes_.size() >= Budget::limits().objects) throw Failure("the template defines too many macros");
  captured_scopes_.push_back(scope);
}

Value Interpreter::make_namespace(const Arguments& arguments) {
  if (namespaces_.size() >= Budget::limits().objects) throw Failure("the template makes too many namespaces");
  Budget::step(8);
  auto space = std::make_shared<Namespace>();
  namespaces_.push_back(space);
  const auto put = [&space](const std::string& name, const Value& value) {
    if (name.starts_with('_')) throw Failure("attributes of a namespace may not begin with an underscore");
    space->attributes.emplace_back(name, value);
  };
  if (arguments.positional.size() > 1) throw Failure("namespace takes at most one argument by position");
  for (const Value& source : arguments.positional) {
    if (!source.is_dict()) throw Failure("namespace needs a dict");
    for (const auto& [key, value] : source.as_dict().entries()) put(to_text(key).bytes(), value);
  }
  for (const auto& [name, value] : arguments.keyword) put(name, value);
  return Value::space(std::move(space));
}

Value Interpreter::make_macro(const Statement& statement, const std::string& name) {
  remember(scope_);
  return Value::callable(name, [this, &statement, name, scope = scope_](const Arguments& arguments) {
    return call_macro(statement, name, scope, arguments);
  });
}

void Interpreter::execute_macro(const Statement& statement) {
  scope_->set(statement.name, make_macro(statement, statement.name));
}

Value Interpreter::call_macro(const Statement& statement, const std::string& name, const ScopePtr& defined_in,
                              const Arguments& arguments) {
  const Budget::Descent descent;
  const ScopeGuard guard(*this, defined_in);
  const std::size_t line = line_;
  bind_parameters(statement, name, arguments);
  Value text = Value::text(capture(statement.body));
  line_ = line;
  return text;
}

void Interpreter::bind_parameters(const Statement& statement, const std::string& name, const Arguments& arguments) {
  const auto& parameters = statement.parameters;
  const std::size_t count = std::min(arguments.positional.size(), parameters.size());
  std::vector<bool> given(parameters.size(), false);
  for (std::size_t i = 0; i < count; ++i) scope_->set(parameters[i].name, arguments.positional[i]), given[i] = true;
  if (arguments.positional.size() > count && !statement.uses_varargs) {
    throw Failure(fmt::format("macro '{}' takes not more than {} argument(s)", name, parameters.size()));
  }
  Dict others;
  Value caller = Value::undefined("No caller defined");
  for (const auto& [key, value] : arguments.keyword) {
    const auto found =
        std::find_if(parameters.begin(), parameters.end(), [&k = key](const Parameter& p) { return p.name == k; });
    const auto index = static_cast<std::size_t>(found - parameters.begin());
    if (found != parameters.end()) {
      if (given[index]) throw Failure(fmt::format("macro '{}' got two values for '{}'", name, key));
      scope_->set(key, value), given[index] = true;
    } else if (key == "caller" && statement.uses_caller) {
      caller = value;
    } else if (statement.uses_kwargs) {
      others.set(Value::text(key, true), value);
    } else {
      throw Failure(fmt::format("macro '{}' takes no keyword argument '{}'", name, key));
    }
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (given[i]) continue;
    scope_->set(parameters[i].name,
                parameters[i].fallback
                    ? evaluate(*parameters[i].fallback)
                    : Value::undefined(fmt::format("parameter '{}' was not provided", parameters[i].name)));
  }
  if (statement.uses_caller) scope_->set("caller", caller);
  if (statement.uses_kwargs) scope_->set("kwargs", Value::dict(std::move(others)));
  if (statement.uses_varargs) {
    const auto extra = arguments.positional.begin() + static_cast<std::ptrdiff_t>(count);
    scope_->set("varargs", Value::list(std::vector<Value>(extra, arguments.positional.end()), List::Kind::tuple));
  }
}

void Interpreter::execute_call_block(const Statement& statement) {
  const Value caller = make_macro(statement, "caller");
  write(to_text(evaluate_call(*statement.expression, &caller)));
}

void Interpreter::execute_scope(const Statement& statement) {
  std::vector<Value> values;
  for (const auto& [target, expression] : statement.assignments) values.push_back(evaluate(*expression));
  const ScopeGuard guard(*this, scope_);
  for (std::size_t i = 0; i < values.size(); ++i) assign(statement.assignments[i].first, values[i]);
  write(capture(statement.body));
}

}  // namespace atelier::text::jinja
