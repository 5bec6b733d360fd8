#include "cli/decoding_options.h"

#include <algorithm>
#include <utility>

#include "cli/validators.h"

namespace atelier::cli {

using pipelines::TextModel;
using pipelines::TextModelFiles;

namespace {

/// More rows than this are not computed at once anyway (nn::max_invariant_rows), and the last is no proposal.
constexpr long long most_proposed = 63;
constexpr std::int64_t drafted_by_default = 5;

std::int64_t most_at_once(const DecodingFlags& flags) {
  return flags.speculate.value_or(flags.draft.empty() ? 0 : drafted_by_default);
}

}  // namespace

void add_decoding_flags(CLI::App& app, DecodingFlags& f) {
  const std::string group = "Speed and memory";
  app.add_option("--speculate", f.speculate,
                 "Propose up to N tokens at once, which the model checks in one pass: looked up in prompt and reply, "
                 "or drafted by "
                 "--draft. Changes no byte of a result on a CPU, and proposes less where little is right (default 0; 5 "
                 "with --draft)")
      ->type_name("N")
      ->check(whole_in_range(0, most_proposed))
      ->group(group);
  app.add_option("--draft", f.draft, "A smaller model with the same tokenizer, which proposes for --speculate")
      ->type_name("PATH")
      ->group(group);
  app.add_option("--kv-cache", f.kv_cache,
                 "Keep keys and values as they are computed (auto; bf16 where --dtype is), or in 8 bits: about half of "
                 "the memory of "
                 "a long context, and a small error (docs/decoding.md)")
      ->check(one_of({"auto", "bf16", "int8"}))
      ->capture_default_str()
      ->group(group);
}

nn::CacheFormat cache_format_of(const DecodingFlags& flags, const TextModelFiles& files) {
  if (flags.kv_cache == "bf16" && files.dtype != at::kBFloat16)
    throw base::Error(base::ExitCode::usage, "--kv-cache bf16: the model computes in fp32",
                      "give --dtype bf16 as well");
  return flags.kv_cache == "int8" ? nn::CacheFormat::int8 : nn::CacheFormat::full;
}

std::uint64_t proposal_bytes(const DecodingFlags& flags, const TextModelFiles& files, std::int64_t batch) {
  constexpr std::int64_t bytes_of_logit = 12;  // as plan_memory has it
  const std::int64_t rows =
      std::clamp(batch * (1 + most_at_once(flags)), batch, std::max(batch, nn::max_invariant_rows));
  return static_cast<std::uint64_t>((rows - batch) * files.config.vocab_size * bytes_of_logit);
}

std::optional<TextModelFiles> open_draft_files(const CommonOptions& options, const DecodingFlags& flags) {
  if (flags.draft.empty()) return std::nullopt;
  TextModelFiles files = TextModelFiles::open(flags.draft, {options.device, options.dtype});
  files.cache = cache_format_of(flags, files);
  for (const auto& file : files.weights->files()) options.record->model_files.push_back(file.path);
  return files;
}

std::shared_ptr<const TextModel> load_draft(const std::optional<TextModelFiles>& files, const TextModel& model) {
  if (!files) return nullptr;
  auto draft = TextModel::load(*files);
  pipelines::require_same_vocabulary(model, *draft, files->gguf ? files->gguf->file->path() : files->folder);
  return draft;
}

pipelines::Speculation speculation_of(const DecodingFlags& flags, std::shared_ptr<const TextModel> draft,
                                      std::int64_t count) {
  pipelines::Speculation how;
  how.tokens = most_at_once(flags);
  how.draft = std::move(draft);
  if (how.draft && how.tokens > 0 && count > 1) how.draft_prompt = pipelines::share_prompt(count);
  return how;
}

}  // namespace atelier::cli
