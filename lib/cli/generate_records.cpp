#include "cli/generate_records.h"

#include <algorithm>

#include "text/utf8.h"

namespace atelier::cli {

using base::Json;

namespace {

/// The piece as text: control tokens by their name, everything else as the bytes that it adds.
std::string token_text(const pipelines::TextModel& model, text::TokenId id) {
  const auto bytes = model.tokenizer->bytes(id);
  return text::replace_invalid(bytes.empty() ? model.tokenizer->piece(id) : bytes);
}

Json token_json(const pipelines::TextModel& model, const pipelines::TokenLogprob& token) {
  return {{"id", token.id}, {"token", token_text(model, token.id)}, {"logprob", token.logprob}};
}

double rate(std::int64_t tokens, double seconds) { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }

Json start_record(const Json& id, std::size_t index) {
  Json record = Json::object();
  if (!id.is_null()) record["id"] = id;
  record["index"] = index;
  return record;
}

}  // namespace

Json logprobs_json(const pipelines::TextModel& model, const std::vector<pipelines::LogprobEntry>& entries) {
  Json list = Json::array();
  for (const auto& entry : entries) {
    Json item = token_json(model, entry.chosen);
    item["top"] = Json::array();
    for (const auto& token : entry.top) item["top"].push_back(token_json(model, token));
    list.push_back(std::move(item));
  }
  return list;
}

Json generation_record(const pipelines::TextModel& model, const Json& id, std::size_t index,
                       const pipelines::GenerationRequest& request, const pipelines::GenerationResult& result,
                       std::int64_t truncated, const Json& extras) {
  Json record = start_record(id, index);
  record["text"] = result.text;
  record["token_ids"] = result.token_ids;
  record["finish_reason"] = pipelines::finish_reason_name(result.finish_reason);
  record["usage"] = {{"prompt_tokens", result.prompt_tokens}, {"completion_tokens", result.token_ids.size()}};
  record["seed"] = request.seed;
  if (request.logprobs) record["logprobs"] = logprobs_json(model, result.logprobs);
  if (extras.is_object())
    for (const auto& [key, value] : extras.items()) record[key] = value;
  record["truncated"] = truncated;
  record["timings"] = {
      {"load_s", model.load_seconds},
      {"prefill_s", result.prefill_seconds},
      {"decode_s", result.decode_seconds},
      {"prefill_tok_per_s", rate(result.prefilled_tokens, result.prefill_seconds)},
      // The first token comes out of the prompt's pass.
      {"decode_tok_per_s", rate(std::max<std::int64_t>(0, result.decoded_tokens - 1), result.decode_seconds)}};
  if (request.speculation.tokens > 0) {  // not "usage": they depend on what was decoded beside this, as times do
    record["timings"]["proposed_tokens"] = result.proposed_tokens;
    record["timings"]["accepted_tokens"] = result.accepted_tokens;
  }
  if (request.constraint) record["timings"]["constraint_s"] = result.constraint_seconds;  // part of decode_s
  return record;
}

Json score_record(const pipelines::TextModel& model, const Json& id, const std::vector<text::TokenId>& tokens,
                  const pipelines::ScoreResult& result, std::int64_t truncated) {
  Json record = start_record(id, 0);
  record["token_ids"] = tokens;
  record["logprobs"] = logprobs_json(model, result.logprobs);
  record["perplexity"] = result.perplexity;
  record["usage"] = {{"prompt_tokens", tokens.size()}, {"completion_tokens", 0}};
  record["truncated"] = truncated;
  record["timings"] = {{"load_s", model.load_seconds},
                       {"prefill_s", result.seconds},
                       {"prefill_tok_per_s", rate(static_cast<std::int64_t>(tokens.size()), result.seconds)}};
  return record;
}

}  // namespace atelier::cli
