#pragma once

#include <span>
#include <string_view>

namespace atelier::text {

struct BuiltinTemplate {
  std::string_view name, source;
};

/// The files lib/text/templates/*.jinja, compiled in.
std::span<const BuiltinTemplate> builtin_templates();

}  // namespace atelier::text
