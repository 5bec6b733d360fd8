// Sampling against transformers' logits processors; goldens from scripts/fixtures/sampling.py.
#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "io/weight_source.h"
#include "pipelines/sampling.h"
#include "support/doctest_last.h"

namespace {

using namespace atelier;
using pipelines::SamplingOptions;
using text::TokenId;

const SamplingOptions open_options{.temperature = 1, .top_k = 0, .top_p = 1};

std::vector<float> random_logits(std::size_t n, std::uint64_t seed) {
  base::Generator generator(seed);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = static_cast<float>(base::uniform(generator) * 8 - 4);
  return logits;
}

}  // namespace

TEST_CASE("what the filters leave is what transformers' processors leave") {
  const auto source = io::WeightSource::open(std::string(ATELIER_TEST_DATA) + "/sampling.safetensors");
  int cases = 0;
  for (; source->has(fmt::format("logits_{:02}", cases)); ++cases) {
    CAPTURE(cases);
    const auto get = [&](const char* name, at::ScalarType type) {
      return source->load(fmt::format("{}_{:02}", name, cases), type, at::kCPU);
    };
    const auto logits = get("logits", at::kFloat), expected = get("probabilities", at::kFloat),
               o = get("options", at::kDouble);
    const auto history = get("history", at::kInt);
    const double* option = o.const_data_ptr<double>();
    const SamplingOptions options{.temperature = option[1],
                                  .top_k = static_cast<std::int64_t>(option[2]),
                                  .top_p = option[3],
                                  .min_p = option[4],
                                  .repeat_penalty = option[0],
                                  .repeat_last_n = -1};
    const auto kept = pipelines::filtered_distribution({logits.const_data_ptr<float>(), 1000},
                                                       {{history.const_data_ptr<TokenId>(), 30}, {}}, options);
    std::vector<double> mine(1000, 0.0);
    for (const auto& candidate : kept) mine[candidate.id] = candidate.probability;
    std::vector<double> theirs(expected.const_data_ptr<float>(), expected.const_data_ptr<float>() + 1000);
    // Every third case is full of ties. Which of equal tokens the nucleus ends with is arbitrary there (torch.sort is not
    // stable), so their probabilities are compared, not their ids.
    if (cases % 3 == 2)
      for (auto* p : {&mine, &theirs}) std::sort(p->begin(), p->end());
    double difference = 0;
    for (int i = 0; i < 1000; ++i) {
      difference = std::max(difference, std::abs(mine[i] - theirs[i]));
      CHECK((mine[i] > 0) == (theirs[i] > 0));
    }
    CHECK(difference < 1e-6);
  }
  CHECK(cases == 12);
}

TEST_CASE("draws follow the distribution: chi-square of 100,000 draws") {
  const auto logits = random_logits(200, 7);
  const SamplingOptions options{.temperature = 0.9, .top_k = 50, .top_p = 0.9};
  const auto expected = pipelines::filtered_distribution(logits, {}, options);
  base::Generator generator(11);
  std::map<TokenId, int> counts;
  constexpr int draws = 100000;
  for (int i = 0; i < draws; ++i) ++counts[pipelines::sample(logits, {}, options, generator)];
  double chi_square = 0;
  int seen = 0;
  for (const auto& [id, probability] : expected) {
    chi_square += std::pow(counts[id] - probability * draws, 2) / (probability * draws);
    seen += counts[id];
  }
  CHECK(seen == draws);  // nothing that the filters dropped
  const double freedom = static_cast<double>(expected.size()) - 1;
  CHECK(chi_square < freedom + 4 * std::sqrt(2 * freedom));
}

TEST_CASE("greedy takes the most likely token, the first of equals") {
  base::Generator generator(1);
  std::vector<float> logits = {1, 5, 5, 2};
  CHECK(pipelines::sample(logits, {}, {.temperature = 0}, generator) == 1);
}

TEST_CASE("penalties look at what they should") {
  const std::vector<float> logits = {2, -2, 1, 0};
  const std::vector<TokenId> prompt = {0, 1}, reply = {2, 2};
  SUBCASE("repeat: prompt and reply, the last n only") {
    auto options = open_options;
    options.repeat_penalty = 2;
    options.repeat_last_n = 2;  // only the reply
    auto p = pipelines::filtered_distribution(logits, {prompt, reply}, options);
    CHECK(std::abs(std::log(p[0].probability / p[1].probability) - (2 - 0.5)) < 1e-6);
    options.repeat_last_n = -1;  // 0: 2 -> 1, 1: -2 -> -4, 2: 1 -> 0.5
    p = pipelines::filtered_distribution(logits, {prompt, reply}, options);
    CHECK(std::abs(std::log(p[0].probability / p[1].probability) - 0.5) < 1e-6);
    CHECK(std::abs(std::log(p[0].probability / p[3].probability) - 5) < 1e-6);
  }
  SUBCASE("presence and frequency: the reply only") {
    auto options = open_options;
    options.presence_penalty = 0.5;
    options.frequency_penalty = 0.25;
    const auto p = pipelines::filtered_distribution(logits, {prompt, reply}, options);
    CHECK(p[0].id == 0);  // 2 - 0 against 1 - 0.5 - 2 * 0.25
    CHECK(p[1].id == 2);
    CHECK(std::abs(std::log(p[0].probability / p[1].probability) - 2) < 1e-6);
  }
}

TEST_CASE("the whole vocabulary under a nucleus: the partial sort finds what a full one would") {
  const auto logits = random_logits(50000, 3);
  for (const double top_p : {0.001, 0.1, 0.5, 0.9, 0.999}) {
    const auto kept = pipelines::filtered_distribution(logits, {}, {.temperature = 0.7, .top_k = 0, .top_p = top_p});
    const auto all = pipelines::filtered_distribution(logits, {}, {.temperature = 0.7, .top_k = 0, .top_p = 1});
    double sum = 0;
    std::size_t n = 0;
    while (n < all.size() && (n == 0 || sum < top_p)) sum += all[n++].probability;
    CHECK(kept.size() == n);
    for (std::size_t i = 0; i < n; i += 97) CHECK(kept[i].id == all[i].id);
  }
}

TEST_CASE("log-probabilities are the log-softmax of the logits as they are") {
  const std::vector<float> logits = {0, 1, 2, 3};
  const auto entry = pipelines::logprob_entry(logits, 1, 2);
  const double log_total = std::log(1 + std::exp(1) + std::exp(2) + std::exp(3));
  CHECK(std::abs(entry.chosen.logprob - (1 - log_total)) < 1e-12);
  REQUIRE(entry.top.size() == 2);
  CHECK(entry.top[0].id == 3);
  CHECK(std::abs(entry.top[1].logprob - (2 - log_total)) < 1e-12);
  CHECK(pipelines::logprob_entry(logits, 0, 0).top.empty());
  CHECK(pipelines::logprob_entry(logits, 0, 100).top.size() == 4);
}

TEST_CASE("a constraint leaves its tokens only, before any filter") {
  std::vector<float> logits(200, 0.0F);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 7);
  std::vector<std::uint64_t> allowed(4, 0);
  for (const TokenId id : {3, 64, 70, 199}) allowed[id / 64] |= std::uint64_t{1} << (id % 64);
  base::Generator generator(1);
  std::map<TokenId, int> counts;
  for (int i = 0; i < 4000; ++i) ++counts[pipelines::sample(logits, {}, open_options, generator, allowed)];
  CHECK(counts.size() == 4);
  const auto all = pipelines::filtered_distribution(logits, {}, {.top_k = 2, .top_p = 1}, allowed);
  REQUIRE(all.size() == 2);  // 3 % 7 and 199 % 7 are 3, the others less
  CHECK(all[0].id == 3);
  CHECK(all[1].id == 199);
  CHECK(pipelines::sample(logits, {}, {.temperature = 0}, generator, allowed) == 3);
  const std::vector<TokenId> reply = {3, 3, 3};
  CHECK(pipelines::sample(logits, {{}, reply}, {.temperature = 0, .presence_penalty = 1}, generator, allowed) == 199);
}
