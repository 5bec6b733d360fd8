#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/adapters/peft_config.h"

namespace atelier::models::adapters {

/// Which modules a configuration selects, with which rank and scale: peft's rules. Paths are transformers' ones.
class PeftMatcher {
 public:
  /// Error(data): an expression that is malformed, or of a kind or size that is not supported. `what` names the file.
  PeftMatcher(const PeftConfig& config, const std::string& what);
  ~PeftMatcher();

  /// `linear`: the module is a Linear other than the model's head, so that "all-linear" means it.
  bool selects(const std::string& path, bool linear) const;
  std::int64_t rank(const std::string& path) const;
  double scale(const std::string& path) const;  ///< alpha / rank, or alpha / sqrt(rank)

 private:
  struct Rules;
  const PeftConfig config_;
  std::unique_ptr<const Rules> rules_;
};

}  // namespace atelier::models::adapters
