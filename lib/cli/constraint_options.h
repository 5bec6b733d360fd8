#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "pipelines/generation.h"
#include "text/constraint/constraint.h"

namespace atelier::cli {

/// What the text must be.
struct ConstraintFlags {
  bool json_object = false;
  std::string json_schema;  ///< a file, or the schema itself where it begins with {
  std::string regex;
  bool any() const { return json_object || !json_schema.empty() || !regex.empty(); }
};

void add_constraint_flags(CLI::App& app, ConstraintFlags& flags);

/// Finds out what is wrong before a model is loaded: Error(usage) for flags that do not go together, Error(no_input) and
/// Error(data) for the schema or the expression.
void check_constraint(const ConstraintFlags& flags, const std::vector<std::string>& stop, bool score);

/// The constraints of a run, compiled once for all jobs that ask for the same.
class ConstraintCache {
 public:
  /// Puts the constraint, if any, into a request. Error(condition) where the shortest text that conforms has no room.
  void apply(const ConstraintFlags& flags, const pipelines::TextModel& model, pipelines::GenerationRequest& request);

 private:
  std::shared_ptr<const text::constraint::Vocabulary> vocabulary_;
  std::map<std::string, std::shared_ptr<text::constraint::Constraint>> compiled_;
};

}  // namespace atelier::cli
