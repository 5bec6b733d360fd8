// Gemma against transformers: the goldens come from scripts/fixtures/gemma.py.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>

#include "base/json.h"
#include "base/seed.h"
#include "io/weight_source.h"
#include "models/gemma/model.h"
#include "models/gemma/names.h"
#include "support/doctest_last.h"

namespace {

using namespace atelier;
using models::gemma::CausalLm;

std::string folder(const std::string& name) { return std::string(ATELIER_TEST_DATA) + "/gemma/" + name; }

std::shared_ptr<CausalLm> load(const std::string& name, at::ScalarType dtype = at::kFloat) {
  const auto config = models::gemma::parse_config(base::read_json_file(folder(name) + "/config.json"), "config.json");
  auto model = std::make_shared<CausalLm>(config);
  auto source = io::WeightSource::open(folder(name));
  const models::gemma::Names names(*source, config.tied_head);
  names.note_ignored(*source);
  nn::load_parameters(*model, *source, names, dtype, at::kCPU);
  CHECK(source->missing().empty());
  CHECK(source->unused().empty());
  return model;
}

at::Tensor golden(const std::string& name, const std::string& tensor) {
  auto source = io::WeightSource::open(folder(name) + "/goldens.safetensors");
  return source->load(tensor, tensor == "logits" ? at::kFloat : at::kInt, at::kCPU);
}

std::vector<std::int32_t> ids(const at::Tensor& t) {
  return {t.const_data_ptr<std::int32_t>(), t.const_data_ptr<std::int32_t>() + t.numel()};
}

at::Tensor step(const CausalLm& model, std::vector<std::int32_t> tokens, std::vector<nn::KvCache*> caches) {
  return model.logits(model.forward({tokens, caches}));
}

/// Logits of a prompt, put in by chunks of the given length.
at::Tensor chunked_logits(const CausalLm& model, const std::vector<std::int32_t>& prompt, std::size_t chunk) {
  auto cache = model.new_cache();
  std::vector<at::Tensor> parts;
  for (std::size_t i = 0; i < prompt.size(); i += chunk) {
    const std::vector<std::int32_t> part(prompt.begin() + i, prompt.begin() + std::min(prompt.size(), i + chunk));
    parts.push_back(step(model, part, {&cache}));
  }
  return at::cat(parts, 0);
}

const char* const all[] = {"gemma1", "gemma2", "gemma3", "gemma3-multimodal"};

}  // namespace

TEST_CASE("logits equal transformers' within 1e-4, whatever the chunks of the prompt") {
  const at::NoGradGuard no_grad;
  for (const std::string name : all) {
    CAPTURE(name);
    const auto model = load(name);
    const auto prompt = ids(golden(name, "prompt"));
    const auto expected = golden(name, "logits");
    for (const std::size_t chunk : {75, 70, 16, 15, 7, 1}) {
      CAPTURE(chunk);
      const double difference = (chunked_logits(*model, prompt, chunk) - expected).abs().max().item<double>();
      CHECK(difference < 1e-4);
      MESSAGE(name << ", chunks of " << chunk << ": largest difference " << difference);
    }
  }
}

TEST_CASE("64 greedy tokens equal transformers'") {
  const at::NoGradGuard no_grad;
  for (const std::string name : all) {
    CAPTURE(name);
    const auto model = load(name);
    auto cache = model->new_cache();
    auto logits = step(*model, ids(golden(name, "greedy_prompt")), {&cache});
    std::vector<std::int32_t> generated;
    for (int i = 0; i < 64; ++i) {
      generated.push_back(logits[-1].argmax().item<std::int32_t>());
      logits = step(*model, {generated.back()}, {&cache});
    }
    CHECK(generated == ids(golden(name, "greedy_ids")));
  }
}

TEST_CASE("a row of a batch of unequal lengths is the same bit for bit as alone") {
  const at::NoGradGuard no_grad;
  for (const std::string name : {"gemma2", "gemma3"})
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      CAPTURE(name);
      const auto model = load(name, dtype);
      const auto prompt = ids(golden(name, "prompt"));
      constexpr int batch = 7;
      std::vector<nn::KvCache> together, alone;
      for (int b = 0; b < batch; ++b)
        for (auto* caches : {&together, &alone}) {
          caches->push_back(model->new_cache());
          step(*model, {prompt.begin(), prompt.begin() + 1 + 11 * b}, {&caches->back()});
        }
      for (int round = 0; round < 20; ++round) {
        std::vector<nn::KvCache*> caches;
        std::vector<std::int32_t> tokens;
        for (int b = 0; b < batch; ++b) {
          caches.push_back(&together[b]);
          tokens.push_back(prompt[(round * batch + b) % prompt.size()]);
        }
        const auto logits = step(*model, tokens, caches);
        for (int b = 0; b < batch; ++b) CHECK(at::equal(logits[b], step(*model, {tokens[b]}, {&alone[b]})[0]));
      }
    }
}

TEST_CASE("several tokens at once are the same bit for bit as one at a time, and can be taken back") {
  const at::NoGradGuard no_grad;
  base::Generator generator(3);
  for (const std::string name : {"gemma1", "gemma2", "gemma3"})
    for (const auto dtype : {at::kFloat, at::kBFloat16})
      for (const auto format : {nn::CacheFormat::full, nn::CacheFormat::int8}) {
        CAPTURE(name);
        CAPTURE(dtype == at::kFloat);
        const auto model = load(name, dtype);
        model->set_cache_format(format);
        const auto prompt = ids(golden(name, "prompt"));
        // Two sequences whose tokens come in runs, of which some prove wrong, beside two that get one at a time.
        std::vector<nn::KvCache> runs, singles;
        std::size_t at[2] = {5, 12};
        for (int s = 0; s < 2; ++s)
          for (auto* caches : {&runs, &singles}) {
            caches->push_back(model->new_cache());
            step(*model, {prompt.begin(), prompt.begin() + at[s]}, {&caches->back()});
          }
        while (at[0] + 20 < prompt.size() && at[1] + 20 < prompt.size()) {
          std::vector<std::int32_t> tokens;
          std::vector<std::int64_t> counts, right;
          std::vector<nn::KvCache*> caches;
          for (int s = 0; s < 2; ++s) {
            counts.push_back(1 + static_cast<std::int64_t>(generator() % 16));  // up to the window
            right.push_back(1 + static_cast<std::int64_t>(generator() % counts[s]));
            for (std::int64_t i = 0; i < counts[s]; ++i) tokens.push_back(i < right[s] ? prompt[at[s] + i] : 7);
            caches.push_back(&runs[s]);
            runs[s].begin_trial(counts[s]);
          }
          const auto logits = model->logits(model->forward({tokens, caches, counts}));
          for (std::int64_t s = 0, row = 0; s < 2; row += counts[s++]) {
            for (std::int64_t i = 0; i < right[s]; ++i)
              CHECK(at::equal(logits[row + i], step(*model, {prompt[at[s] + i]}, {&singles[s]})[0]));
            at[s] += static_cast<std::size_t>(right[s]);
            runs[s].end_trial(static_cast<std::int64_t>(at[s]));
          }
        }
        CHECK(at[0] + at[1] > 60);
      }
}

TEST_CASE("a cache in 8 bits: half a scale off, through chunks, forks and cuts") {
  const at::NoGradGuard no_grad;
  for (const std::string name : {"gemma1", "gemma2", "gemma3"}) {
    CAPTURE(name);
    const auto model = load(name);
    const auto prompt = ids(golden(name, "prompt"));
    const auto full = chunked_logits(*model, prompt, 75);
    model->set_cache_format(nn::CacheFormat::int8);
    for (const std::size_t chunk : {75, 16, 1}) {
      const double error = (chunked_logits(*model, prompt, chunk) - full).abs().mean().item<double>();
      CHECK(error > 0);
      CHECK(error < 0.02 * full.abs().mean().item<double>());
      MESSAGE(name << ", chunks of " << chunk << ": mean error " << error << " of "
                   << full.abs().mean().item<double>());
    }
    auto cache = model->new_cache();
    step(*model, {prompt.begin(), prompt.begin() + 40}, {&cache});
    CHECK((cache.layers.back().keys().scalar_type() == at::kChar));
    auto fork = cache.fork();
    step(*model, {5}, {&cache});
    const auto next = step(*model, {prompt[40]}, {&fork});
    CHECK((next[0] - full[40]).abs().mean().item<double>() < 0.02 * full.abs().mean().item<double>());
    auto shorter = model->new_cache(), cut = model->new_cache();
    // So short that every row of both is computed alike, and the first layer's values are the same.
    const std::vector<std::int32_t> with(prompt.begin(), prompt.begin() + 60);
    std::vector<std::int32_t> without = with;
    without.erase(without.begin() + 5, without.begin() + 25);
    step(*model, without, {&shorter});
    step(*model, with, {&cut});
    if (name == "gemma1") {
      REQUIRE(model->cut(cut, 5, 20));
      const auto [k, v] = cut.layers[0].past();
      const auto [wanted_k, wanted_v] = shorter.layers[0].past();
      CHECK((k - wanted_k).abs().max().item<double>() < 0.02 * wanted_k.abs().max().item<double>());
      CHECK(at::equal(v, wanted_v));
    }
  }
}

TEST_CASE("a fork goes its own way") {
  const at::NoGradGuard no_grad;
  const auto model = load("gemma2");
  const auto prompt = ids(golden("gemma2", "prompt"));
  auto a = model->new_cache();
  step(*model, {prompt.begin(), prompt.begin() + 30}, {&a});
  auto b = a.fork();
  step(*model, {5}, {&a});
  const auto from_fork = step(*model, {prompt[30]}, {&b});
  CHECK((from_fork[0] - golden("gemma2", "logits")[30]).abs().max().item<double>() < 1e-4);
}

TEST_CASE("sliding layers keep their window and no more") {
  const at::NoGradGuard no_grad;
  const auto model = load("gemma2");
  const auto prompt = ids(golden("gemma2", "prompt"));
  auto cache = model->new_cache();
  step(*model, prompt, {&cache});
  for (std::size_t i = 0; i < cache.layers.size(); ++i)
    CHECK(cache.layers[i].keys().size(1) <= (model->config().sliding[i] ? 16 : 256));
  CHECK(cache.layers[0].filled() == 16);
  CHECK(cache.layers[1].filled() == 75);
}

TEST_CASE("bf16 follows fp32") {
  const at::NoGradGuard no_grad;
  for (const std::string name : all) {
    CAPTURE(name);
    const auto logits = chunked_logits(*load(name, at::kBFloat16), ids(golden(name, "prompt")), 75);
    const auto expected = golden(name, "logits");
    CHECK((logits - expected).abs().mean().item<double>() < 0.05 * expected.abs().mean().item<double>());
  }
}

TEST_CASE("positions can be taken out of a cache") {
  // Keys of the first layer depend on their own token and place alone: there a cut cache holds what the shorter prompt gives.
  const at::NoGradGuard no_grad;
  struct Case {
    const char* name;
    std::int64_t begin, count;
  };
  for (const Case c : {Case{"gemma1", 5, 20}, {"gemma1", 0, 74}, {"gemma1", 60, 15}, {"gemma2", 5, 40}, {"gemma2", 0, 59},
                       {"gemma3", 3, 50}}) {
    CAPTURE(c.name);
    const auto model = load(c.name);
    const auto prompt = ids(golden(c.name, "prompt"));
    auto whole = model->new_cache(), expected = model->new_cache();
    step(*model, prompt, {&whole});
    std::vector<std::int32_t> shorter = prompt;
    shorter.erase(shorter.begin() + c.begin, shorter.begin() + c.begin + c.count);
    step(*model, shorter, {&expected});
    REQUIRE(model->cut(whole, c.begin, c.count));
    CHECK(whole.positions == static_cast<std::int64_t>(shorter.size()));
    const auto [k, v] = whole.layers[0].past();
    const auto [wanted_k, wanted_v] = expected.layers[0].past();
    REQUIRE(k.sizes() == wanted_k.sizes());
    CHECK((k - wanted_k).abs().max().item<double>() < 1e-4);
    CHECK((v - wanted_v).abs().max().item<double>() < 1e-4);
    CHECK(step(*model, {5}, {&whole}).isfinite().all().item<bool>());
  }
  // The window of a sliding layer (16) no longer has what lies before the cut.
  const auto model = load("gemma2");
  const auto prompt = ids(golden("gemma2", "prompt"));
  auto cache = model->new_cache();
  step(*model, prompt, {&cache});
  CHECK_FALSE(model->cut(cache, 50, 20));
  CHECK(cache.positions == 75);
}

TEST_CASE("a cache goes back to an earlier position, as long as its windows hold it") {
  const at::NoGradGuard no_grad;
  const auto model = load("gemma2");
  const auto prompt = ids(golden("gemma2", "prompt"));
  auto cache = model->new_cache();
  step(*model, {prompt.begin(), prompt.begin() + 15}, {&cache});
  CHECK(cache.can_truncate(7));
  cache.truncate(7);
  const auto again = step(*model, {prompt.begin() + 7, prompt.begin() + 30}, {&cache});
  CHECK((again - golden("gemma2", "logits").narrow(0, 7, 23)).abs().max().item<double>() < 1e-4);
  CHECK_FALSE(cache.can_truncate(20));
  CHECK(cache.can_truncate(29));
  CHECK(cache.can_truncate(30));
  cache.truncate(29);
  CHECK((step(*model, {prompt[29]}, {&cache})[0] - golden("gemma2", "logits")[29]).abs().max().item<double>() < 1e-4);
}
