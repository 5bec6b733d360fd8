#include "cli/finetune_samples.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "cli/text_lines.h"
#include "io/file_system.h"
#include "pipelines/generation.h"
#include "text/utf8.h"
#include "train/precision.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

constexpr std::size_t kLargestFile = 64u << 20;

std::string prompt_of(const std::string& line, const std::string& where) {
  if (!text::is_utf8(line)) throw Error(ExitCode::data, where + ": not valid UTF-8");
  if (!line.starts_with("{")) return line;
  const Json row = base::parse_json(line, where);
  return base::JsonFields(row, where).string("prompt");
}

}  // namespace

SampleWriter::SampleWriter(const std::string& path, std::string folder,
                           std::shared_ptr<const pipelines::TextModel> model, pipelines::PromptMode mode,
                           std::int64_t max_tokens)
    : folder_(std::move(folder)), model_(std::move(model)), max_tokens_(max_tokens) {
  for_each_line(path, kLargestFile, [&](const std::string& line, const std::string& where) {
    texts_.push_back(prompt_of(line, where));
    try {
      prompts_.push_back(
          pipelines::build_prompt(*model_, texts_.back(), {.mode = mode, .max_tokens = max_tokens_, .tools = {}}));
    } catch (const Error& error) {
      throw Error(error.code(), where + ": " + error.what(), error.hint());
    }
  });
  if (prompts_.empty()) throw Error(ExitCode::data, path + ": no prompts");
}

void SampleWriter::write(std::int64_t step) const {
  const train::WithoutAutocast plain(model_->network->device());
  std::vector<pipelines::GenerationResult> results(prompts_.size());
  std::size_t next = 0;
  pipelines::generate(
      *model_, /*batch_size=*/8,
      [&]() -> std::optional<pipelines::GenerationRequest> {
        if (next == prompts_.size()) return std::nullopt;
        pipelines::GenerationRequest request;
        request.prompt = prompts_[next].ids;
        request.max_tokens = max_tokens_;
        request.sampling.temperature = 0;
        request.stop_ids = pipelines::stop_ids_of(*model_, prompts_[next].chat);
        request.tag = next++;
        return request;
      },
      [&](const pipelines::GenerationRequest& request, pipelines::GenerationResult result) {
        results[request.tag] = std::move(result);
      });
  std::string lines;
  for (std::size_t i = 0; i < results.size(); ++i)
    lines += base::dump_json({{"step", step},
                              {"prompt", texts_[i]},
                              {"text", results[i].text},
                              {"finish_reason", pipelines::finish_reason_name(results[i].finish_reason)}}) +
             "\n";
  io::file_system().create_folders(folder_);
  io::write_atomically(fmt::format("{}/step-{}.jsonl", folder_, step), lines);
}

}  // namespace atelier::cli
