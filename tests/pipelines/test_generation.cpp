// How replies end: stop texts among broken characters, deadlines that come early, logits that are no numbers.
#include <algorithm>
#include <cmath>
#include <limits>

#include "pipelines/generation.h"
#include "support/doctest_last.h"

namespace {

using namespace atelier;
using pipelines::FinishReason;
using pipelines::GenerationRequest;
using pipelines::GenerationResult;
using pipelines::TextModel;

std::shared_ptr<const TextModel> model() {
  static const auto loaded =
      TextModel::load(pipelines::TextModelFiles::open(std::string(ATELIER_MODELS) + "/tiny-gemma", {"cpu", "auto"}));
  return loaded;
}

std::vector<text::TokenId> prompt(int words) {
  std::string text = "Hello";
  for (int i = 1; i < words; ++i) text += " circle";
  std::vector<text::TokenId> ids = model()->tokenizer->encode(text);
  ids.insert(ids.begin(), model()->bos);
  return ids;
}

/// Any token as likely as any other: among them bytes that are no characters.
GenerationRequest babble(std::uint64_t seed) {
  GenerationRequest request;
  request.prompt = prompt(3);
  request.max_tokens = 80;
  request.sampling.temperature = 100;
  request.sampling.top_k = 0;
  request.sampling.top_p = 1;
  request.seed = seed;
  return request;
}

std::string decode(const std::vector<text::TokenId>& ids, std::size_t count) {
  return model()->tokenizer->decode(std::span(ids).first(count));
}

/// A prompt that is in the cache already, with logits of one's own choice behind it.
class Given final : public pipelines::PromptState {
 public:
  explicit Given(float logit) : logit_(logit) {}
  Entered enter(const TextModel& of, std::span<const text::TokenId> tokens, nn::KvCache& cache) override {
    cache = of.network->new_cache();
    Entered entered{pipelines::prefill_logits(of, tokens, cache), static_cast<std::int64_t>(tokens.size())};
    entered.logits.mutable_data_ptr<float>()[7] = logit_;
    return entered;
  }

 private:
  float logit_;
};

}  // namespace

TEST_CASE("a stop text behind broken characters: the tokens are those that begin before it") {
  int broken = 0, cut = 0;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    CAPTURE(seed);
    const GenerationResult whole = pipelines::generate_one(*model(), babble(seed));
    const std::size_t count = whole.token_ids.size();
    for (std::size_t from = count / 2; from + 1 < count; ++from) {
      const std::string before = decode(whole.token_ids, from), after = decode(whole.token_ids, from + 1);
      const std::string piece = after.starts_with(before) ? after.substr(before.size()) : "";
      if (model()->tokenizer->bytes(whole.token_ids[from - 1]).empty()) continue;  // a control token, which is nowhere in the text
      if (piece.size() < 4 || piece.find("\xEF\xBF\xBD") != std::string::npos || before.find(piece) != std::string::npos)
        continue;
      broken += before.find("\xEF\xBF\xBD") != std::string::npos;
      for (const std::string& stop : {piece, piece.substr(1)}) {
        GenerationRequest request = babble(seed);
        request.stop_texts = {stop};
        request.logprobs = 0;
        const GenerationResult result = pipelines::generate_one(*model(), request);
        CHECK(result.finish_reason == FinishReason::stop_text);
        CHECK(result.text == whole.text.substr(0, whole.text.find(stop)));
        CHECK(result.token_ids.size() == result.logprobs.size());
        if (result.text != before + piece.substr(0, piece.size() - stop.size())) continue;  // it came earlier than here
        ++cut;
        CHECK(result.token_ids.size() == from + (stop == piece ? 0 : 1));
      }
      break;
    }
  }
  CHECK(broken >= 3);
  CHECK(cut >= 6);
}

TEST_CASE("a deadline ends a long prompt between its chunks") {
  GenerationRequest request = babble(1);
  request.prompt = prompt(3 * pipelines::prefill_chunk / 2);
  REQUIRE(static_cast<std::int64_t>(request.prompt.size()) > pipelines::prefill_chunk);
  request.deadline_seconds = 0;
  for (const bool shared : {false, true}) {
    if (shared) request.shared = pipelines::share_prompt(2);
    const GenerationResult result = pipelines::generate_one(*model(), request);
    CHECK(result.finish_reason == FinishReason::deadline);
    CHECK(result.text.empty());
    CHECK(result.decoded_tokens == 0);
    CHECK_FALSE(result.failure);
  }
  // The prompt is not held to have been computed.
  request.deadline_seconds.reset();
  request.max_tokens = 1;
  CHECK(pipelines::generate_one(*model(), request).token_ids.size() == 1);
}

TEST_CASE("logits that are no numbers fail the row that has them, and no other") {
  std::vector<GenerationRequest> requests(3, babble(5));
  for (auto& request : requests) request.max_tokens = 4;
  const GenerationResult alone = pipelines::generate_one(*model(), requests[0]);
  requests[1].shared = std::make_shared<Given>(std::numeric_limits<float>::quiet_NaN());
  std::size_t given = 0, failed = 0;
  pipelines::generate(
      *model(), 3,
      [&]() -> std::optional<GenerationRequest> {
        if (given == requests.size()) return std::nullopt;
        requests[given].tag = given;
        return requests[given++];
      },
      [&](const GenerationRequest& request, const GenerationResult& result) {
        CHECK(result.failure.has_value() == (request.tag == 1));
        failed += result.failure.has_value();
        if (result.failure) CHECK(result.failure->code() == base::ExitCode::condition);
        if (!result.failure) CHECK(result.token_ids == alone.token_ids);
      });
  CHECK(failed == 1);
}
