#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/budget.h"
#include "text/jinja/value.h"

namespace atelier::text::jinja {

/// A parsed template in the subset of Jinja that chat templates use, with the settings of transformers' environment
/// (trim_blocks, lstrip_blocks, loop controls, {% generation %}, raise_exception, strftime_now, its own tojson).
/// Immutable, so safe to share between threads.
class Template {
 public:
  using Variables = std::vector<std::pair<std::string, Value>>;

  /// Error(data): cannot be parsed; the message names the template and the line.
  static std::shared_ptr<const Template> parse(std::string_view source, std::string name);

  /// `make_variables` runs inside the budget of `limits`. Error(data): whatever fails in the template, a limit that is
  /// passed, and raise_exception with the template's own words.
  TrackedText render(const std::function<Variables()>& make_variables, const Limits& limits = {}) const;

 private:
  std::string name_;
  Block root_;
};

}  // namespace atelier::text::jinja
