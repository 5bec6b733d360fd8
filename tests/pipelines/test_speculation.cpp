// Speculative decoding: every byte and every number as without, by look-up and by a draft model; and the distribution that the
// logits ask for.
#include <cmath>
#include <filesystem>
#include <map>

#include <ATen/core/grad_mode.h>

#include "base/json.h"
#include "models/gemma/names.h"
#include "pipelines/generation.h"
#include "pipelines/prompt.h"
#include "pipelines/prompt_cache.h"
#include "support/doctest_last.h"
#include "support/scratch.h"
#include "text/constraint/constraint.h"

namespace {

using namespace atelier;
using pipelines::GenerationRequest;
using pipelines::GenerationResult;
using pipelines::TextModel;
using pipelines::TextModelFiles;

const std::string shipped = std::string(ATELIER_MODELS) + "/tiny-gemma";

const TextModelFiles& files() {
  static const auto opened = TextModelFiles::open(shipped, {"cpu", "auto"});
  return opened;
}

std::shared_ptr<const TextModel> model() {
  static const auto loaded = TextModel::load(files());
  return loaded;
}

/// The shipped model without its last layer: sometimes right.
std::shared_ptr<const TextModel> draft() {
  static const test::Scratch folder;
  static const auto loaded = [] {
    for (const auto& file : std::filesystem::directory_iterator(shipped))
      std::filesystem::copy_file(file.path(), folder.path() / file.path().filename());
    base::Json config = base::read_json_file(shipped + "/config.json");
    config["num_hidden_layers"] = config["num_hidden_layers"].get<int>() - 1;
    test::put_file(folder.file("config.json"), config.dump());
    return TextModel::load(TextModelFiles::open(folder.path().native(), {"cpu", "auto"}));
  }();
  return loaded;
}

std::vector<text::TokenId> prompt(const std::string& text) {
  return pipelines::build_prompt(*model(), text, pipelines::PromptOptions{}).ids;
}

/// Things to say, some of which repeat the prompt.
const std::vector<std::string> questions = {"Write a caption for a picture of a red circle.",
                                            "Translate into German: a large yellow diamond at the top right",
                                            "Draw me a small blue star, a small blue square and a small blue circle.",
                                            "Hello!", "Where is the small brown circle kept?"};

std::vector<GenerationRequest> requests(double temperature, std::int64_t repeats = 1) {
  std::vector<GenerationRequest> all;
  for (std::int64_t r = 0; r < repeats; ++r)
    for (const std::string& question : questions) {
      GenerationRequest request;
      request.prompt = prompt(question);
      request.max_tokens = 40;
      request.sampling.temperature = temperature;
      request.seed = 100 + all.size();
      request.stop_ids = pipelines::stop_ids_of(*model(), /*chat=*/true);
      request.tag = all.size();
      all.push_back(std::move(request));
    }
  return all;
}

std::vector<GenerationResult> run(std::vector<GenerationRequest> all, std::int64_t batch,
                                  const pipelines::Speculation& how) {
  std::vector<GenerationResult> results(all.size());
  std::size_t given = 0;
  pipelines::generate(
      *model(), batch,
      [&]() -> std::optional<GenerationRequest> {
        if (given == all.size()) return std::nullopt;
        all[given].speculation = how;
        return all[given++];
      },
      [&](const GenerationRequest& request, GenerationResult result) { results[request.tag] = std::move(result); });
  return results;
}

void check_same(const std::vector<GenerationResult>& a, const std::vector<GenerationResult>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(a[i].text == b[i].text);
    CHECK(a[i].token_ids == b[i].token_ids);
    CHECK(a[i].finish_reason == b[i].finish_reason);
    CHECK(a[i].decoded_tokens == b[i].decoded_tokens);
    REQUIRE(a[i].logprobs.size() == b[i].logprobs.size());
    for (std::size_t t = 0; t < a[i].logprobs.size(); ++t) {
      CHECK(a[i].logprobs[t].chosen.logprob == b[i].logprobs[t].chosen.logprob);
      REQUIRE(a[i].logprobs[t].top.size() == b[i].logprobs[t].top.size());
      for (std::size_t k = 0; k < a[i].logprobs[t].top.size(); ++k)
        CHECK(a[i].logprobs[t].top[k].logprob == b[i].logprobs[t].top[k].logprob);
    }
  }
}

std::int64_t proposed(const std::vector<GenerationResult>& results) {
  std::int64_t sum = 0;
  for (const auto& result : results) sum += result.proposed_tokens;
  return sum;
}

std::int64_t accepted(const std::vector<GenerationResult>& results) {
  std::int64_t sum = 0;
  for (const auto& result : results) sum += result.accepted_tokens;
  return sum;
}

/// Look-ups, a draft model that is sometimes right, and one that always is. Drafts as cheap as real ones are.
std::vector<pipelines::Speculation> ways() {
  return {{.tokens = 8},
          {.tokens = 1},
          {.tokens = 4, .draft = draft(), .draft_cost = 0.05},
          {.tokens = 6, .draft = model(), .draft_cost = 0.05}};
}

/// Compares all ways of proposing with none, in batches of one and of several.
void check_all_ways(const std::vector<GenerationRequest>& all) {
  const auto expected = run(all, 1, {});
  for (const auto& how : ways())
    for (const std::int64_t batch : {1, 3}) {
      CAPTURE(how.tokens);
      CAPTURE(batch);
      const auto results = run(all, batch, how);
      check_same(results, expected);
      for (const auto& result : results) CHECK(result.accepted_tokens <= result.proposed_tokens);
    }
}

}  // namespace

TEST_CASE("greedy and drawn texts are the same byte for byte, and proposals are made and accepted") {
  for (const double temperature : {0.0, 0.7, 1.0, 3.0}) {
    CAPTURE(temperature);
    check_all_ways(requests(temperature));
  }
  for (const auto& how : ways()) {
    const auto results = run(requests(0, 2), 1, how);
    CHECK(proposed(results) > 5);
    CHECK(accepted(results) > 0);
    CHECK(accepted(results) <= proposed(results));
  }
  // A draft that is the model itself is always right, also where tokens are drawn: it draws with the same numbers. Only what it
  // proposed behind the end of a reply is not accepted.
  for (const double temperature : {0.0, 0.7, 3.0})
    for (const auto& result : run(requests(temperature), 2, ways().back()))
      CHECK(result.accepted_tokens + 6 >= result.proposed_tokens);
}

TEST_CASE("filters and penalties see what was said, not what was proposed") {
  auto all = requests(1.5);
  for (auto& request : all) {
    request.sampling.repeat_penalty = 1.3;
    request.sampling.repeat_last_n = 20;
    request.sampling.presence_penalty = 0.5;
    request.sampling.frequency_penalty = 0.2;
    request.sampling.min_p = 0.01;
    request.sampling.top_k = 0;
  }
  check_all_ways(all);
}

TEST_CASE("stop texts, log-probabilities and short budgets end where they end without") {
  auto all = requests(1);
  for (auto& request : all) {
    request.logprobs = 3;
    request.stop_texts = {" blue", "circle"};
  }
  check_all_ways(all);
  for (const std::int64_t most : {1, 2, 3, 5}) {
    for (auto& request : all) request.max_tokens = most, request.stop_texts.clear();
    check_all_ways(all);
  }
}

TEST_CASE("constraints hold, token by token") {
  const auto vocabulary = text::constraint::Vocabulary::from(
      *model()->tokenizer, static_cast<text::TokenId>(model()->network->config().vocab_size));
  const base::Json schema = base::parse_json(
      R"({"type":"object","properties":{"colour":{"enum":["red","blue"]},"shape":{"enum":["circle","square"]},
          "same":{"enum":["red red red red","blue blue blue blue"]}},"required":["colour","shape","same"],"additionalProperties":false})",
      "schema");
  auto all = requests(1);
  all.resize(2);
  for (auto& request : all) {
    request.constraint = text::constraint::Constraint::json_schema(vocabulary, schema);
    request.max_tokens = 120;
    request.logprobs = 1;
  }
  check_all_ways(all);
}

TEST_CASE("a shared prompt, a cache of prompts and keys in 8 bits") {
  auto all = requests(1);
  const auto alone = run(all, 1, {});
  for (auto how : ways()) {
    auto candidates = requests(1);
    for (std::size_t i = 0; i < candidates.size(); ++i) candidates[i].prompt = candidates[0].prompt;
    const auto expected = run(candidates, 1, {});
    const auto shared = pipelines::share_prompt(std::ssize(candidates));
    for (auto& request : candidates) request.shared = shared;
    if (how.draft) how.draft_prompt = pipelines::share_prompt(std::ssize(candidates));
    check_same(run(candidates, 2, how), expected);
  }
  const test::Scratch folder;
  for (int round = 0; round < 2; ++round)
    for (const auto& how : ways()) {
      pipelines::PromptCache cache(folder.path().string(), 1u << 30, files(), {});
      std::string text;
      for (int i = 0; i < 12; ++i)
        text += "There is a small red circle at the top of picture " + std::to_string(i) + ". ";
      auto request = requests(1)[0];
      request.prompt = prompt(text + questions[0]);
      request.shared = cache.state();
      auto plain = request;
      const test::Scratch other;
      pipelines::PromptCache fresh(other.path().string(), 1u << 30, files(), {});
      plain.shared = fresh.state();
      check_same(run({request}, 1, how), run({plain}, 1, {}));
    }
}

TEST_CASE("past the window of the sliding layers") {
  auto all = requests(2);  // far from the end of turn
  all.resize(2);
  for (auto& request : all) {
    request.max_tokens = 180;  // the window is 128
    request.stop_ids.clear();
  }
  const auto expected = run(all, 1, {});
  for (const auto& how : ways()) {
    const auto results = run(all, 2, how);
    check_same(results, expected);
    CHECK(proposed(results) > 0);
  }
}

TEST_CASE("where nothing is right, little is proposed") {
  auto all = requests(100);
  for (auto& request : all) {
    request.sampling.top_k = 0;
    request.sampling.top_p = 1;
    request.max_tokens = 100;
    request.stop_ids.clear();
  }
  for (const auto& how : ways()) {
    if (how.draft == model()) continue;  // always right
    const auto results = run(all, 1, how);
    CAPTURE(how.tokens);
    CHECK(proposed(results) < 500 / 5);
  }
}

TEST_CASE("a draft model with another vocabulary is refused") {
  pipelines::require_same_vocabulary(*model(), *draft(), "draft");
  TextModel other = *draft();
  const auto small = text::Tokenizer::open(std::string(ATELIER_TEST_DATA) + "/text/tokenizers/gemma");
  other.tokenizer = small;
  CHECK_THROWS_AS(pipelines::require_same_vocabulary(*model(), other, "draft"), base::Error);
}

TEST_CASE("drawn tokens follow the model's distribution: chi-square over fixed seeds") {
  // A small model with random weights, of which three tokens of four possible ones each are drawn: 64 outcomes with exact
  // probabilities, against 4,000 draws.
  const std::string folder = std::string(ATELIER_TEST_DATA) + "/gemma/gemma2";
  const auto config = models::gemma::parse_config(base::read_json_file(folder + "/config.json"), "config.json");
  const auto network_of = [&](std::int64_t layers) {
    auto c = config;
    c.layers = layers;
    c.sliding.resize(static_cast<std::size_t>(layers));
    auto network = std::make_shared<models::gemma::CausalLm>(c);
    const auto source = io::WeightSource::open(folder);
    nn::load_parameters(*network, *source, models::gemma::Names(*source, c.tied_head), at::kFloat, at::kCPU);
    return network;
  };
  TextModel random = *model(), guesser = *model();
  random.network = network_of(config.layers);
  guesser.network = network_of(1);
  random.context = guesser.context = config.max_positions;
  const std::vector<text::TokenId> start = {2, 5, 9, 5, 9, 5, 9, 5};
  pipelines::SamplingOptions sampling;
  sampling.top_k = 4;
  sampling.top_p = 1;
  sampling.temperature = 0.5;

  std::map<std::vector<text::TokenId>, double> expected;
  const std::function<void(std::vector<text::TokenId>, double)> spread = [&](std::vector<text::TokenId> said,
                                                                             double p) {
    if (said.size() == 3) {
      expected[said] = p;
      return;
    }
    const at::NoGradGuard no_grad;
    std::vector<text::TokenId> all = start;
    all.insert(all.end(), said.begin(), said.end());
    auto cache = random.network->new_cache();
    const auto logits = pipelines::prefill_logits(random, all, cache);
    const std::span<const float> row(logits.const_data_ptr<float>(), static_cast<std::size_t>(logits.size(1)));
    for (const auto& candidate : pipelines::filtered_distribution(row, {start, said}, sampling)) {
      auto longer = said;
      longer.push_back(candidate.id);
      spread(longer, p * candidate.probability);
    }
  };
  spread({}, 1);

  constexpr int draws = 4000;
  const std::vector<pipelines::Speculation> hows = {
      {.tokens = 4}, {.tokens = 4, .draft = std::make_shared<const TextModel>(guesser), .draft_cost = 0.05}};
  for (const auto& how : hows) {
    std::map<std::vector<text::TokenId>, int> seen;
    std::int64_t right = 0, wrong = 0;
    for (int seed = 0; seed < draws; ++seed) {
      GenerationRequest request;
      request.prompt = start;
      request.max_tokens = 4;  // the last of a budget is never proposed
      request.sampling = sampling;
      request.seed = static_cast<std::uint64_t>(seed);
      request.speculation = how;
      const auto result = pipelines::generate_one(random, request);
      REQUIRE(result.token_ids.size() == 4);
      ++seen[{result.token_ids.begin(), result.token_ids.begin() + 3}];
      right += result.accepted_tokens, wrong += result.proposed_tokens - result.accepted_tokens;
    }
    CHECK(right > 50);
    CHECK(wrong > 50);
    double statistic = 0;
    int cells = 0, rest_seen = draws;
    double rest = draws;
    for (const auto& [tokens, p] : expected) {
      if (p * draws < 5) continue;  // rare ones are counted together
      const double difference = seen[tokens] - p * draws;
      statistic += difference * difference / (p * draws);
      ++cells, rest -= p * draws, rest_seen -= seen[tokens];
    }
    if (rest >= 5) statistic += (rest_seen - rest) * (rest_seen - rest) / rest, ++cells;
    MESSAGE("chi-square " << statistic << " in " << cells << " cells; " << right << " right, " << wrong << " wrong");
    // The 99.9 % point of chi-square with n degrees, by Wilson and Hilferty.
    const double n = cells - 1, t = 1 - 2 / (9 * n) + 3.09 * std::sqrt(2 / (9 * n));
    CHECK(statistic < n * t * t * t);
    for (const auto& [tokens, count] : seen) CHECK(expected.contains(tokens));
  }
}
