#pragma once

#include <memory>
#include <string_view>

#include "base/json.h"
#include "text/constraint/grammar.h"

namespace atelier::text::constraint {

/// Adds the grammar of the JSON texts that a schema accepts, and makes it the start. Error(data): Constraint::json_schema.
void compile_schema(Grammar& grammar, const base::Json& schema, std::string_view what);

}  // namespace atelier::text::constraint
