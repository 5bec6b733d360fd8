#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pipelines/prompt.h"
#include "pipelines/text_model.h"

namespace atelier::cli {

/// Answers a list of prompts with the model as it is at the moment, greedily, into FOLDER/step-N.jsonl: a line
/// {"step","prompt","text","finish_reason"} for each.
class SampleWriter {
 public:
  /// `path`: a prompt a line, or JSON Lines with "prompt"; blank lines are left out. Error(no_input); Error(data): a bad line,
  /// no prompts, a prompt that does not fit the model's context.
  SampleWriter(const std::string& path, std::string folder, std::shared_ptr<const pipelines::TextModel> model,
               pipelines::PromptMode mode, std::int64_t max_tokens);

  /// Looks at the stop flag.
  void write(std::int64_t step) const;

 private:
  std::string folder_;
  std::shared_ptr<const pipelines::TextModel> model_;
  std::int64_t max_tokens_;
  std::vector<std::string> texts_;
  std::vector<pipelines::Prompt> prompts_;
};

}  // namespace atelier::cli
