#include "text/jinja/template.h"

#include <fmt/format.h>

#include "base/error.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/lexer.h"
#include "text/jinja/parser.h"

namespace atelier::text::jinja {
namespace {

constexpr std::size_t kMaxSource = 4u << 20;

}  // namespace

std::shared_ptr<const Template> Template::parse(std::string_view source, std::string name) {
  if (source.size() > kMaxSource) {
    throw base::Error(base::ExitCode::data, fmt::format("{}: a chat template of more than {} bytes", name, kMaxSource));
  }
  auto made = std::make_shared<Template>();
  made->name_ = std::move(name);
  try {
    made->root_ = Parser(tokenize(source)).parse();
  } catch (const SyntaxError& error) {
    throw base::Error(base::ExitCode::data, fmt::format("{}: line {}: {}", made->name_, error.line(), error.what()));
  }
  return made;
}

TrackedText Template::render(const std::function<Variables()>& make_variables, const Limits& limits) const {
  const Budget budget(limits);
  std::size_t line = 1;
  try {
    Interpreter interpreter(make_variables());
    try {
      return interpreter.run(root_);
    } catch (...) {
      line = interpreter.line();
      throw;
    }
  } catch (const RaisedException& raised) {
    throw base::Error(base::ExitCode::data, fmt::format("{}: {}", name_, raised.what()));
  } catch (const Failure& failure) {
    throw base::Error(base::ExitCode::data, fmt::format("{}: line {}: {}", name_, line, failure.what()));
  }
}

}  // namespace atelier::text::jinja
