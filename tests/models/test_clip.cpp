// The CLIP text encoders against transformers; goldens from scripts/fixtures/diffusion.py.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include "models/clip/text_encoder.h"
#include "models/seeded.h"
#include "support/doctest_last.h"
#include "support/errors.h"

namespace {

using namespace atelier;
using models::clip::TextEncoder;
using test::difference;
using test::diffusion_golden;

TextEncoder tiny(const std::string& name, at::ScalarType dtype = at::kFloat) {
  TextEncoder model(models::clip::parse_text_config(test::diffusion_config("clip." + name), "config.json"));
  test::fill_seeded(model, dtype);
  return model;
}

at::Tensor prompts() {
  auto ids = at::full({3, 77}, 98, at::kLong);
  const std::int64_t lengths[] = {75, 0, 30};
  for (std::int64_t row = 0; row < 3; ++row) {
    ids[row][0] = 97;
    ids[row].narrow(0, 1, lengths[row]).copy_((at::arange(lengths[row]) * 31 + row * 7).remainder(96));
  }
  return ids;
}

at::Tensor every(const at::Tensor& hidden, std::int64_t step) { return hidden.slice(1, 0, std::nullopt, step); }

}  // namespace

TEST_CASE("hidden states and pooled embeddings equal transformers' within 1e-4") {
  const at::NoGradGuard no_grad;
  for (const std::string name : {"l", "h", "g"}) {
    CAPTURE(name);
    const auto model = tiny(name);
    const auto out = model.forward(prompts());
    CHECK(out.hidden_states.size() == 4);
    CHECK(difference(every(out.last_hidden, 4), diffusion_golden("clip." + name + ".last")) < 1e-4);
    CHECK(difference(every(out.hidden_states[2], 4), diffusion_golden("clip." + name + ".hidden")) < 1e-4);
    CHECK(difference(every(out.hidden_states[0], 19), diffusion_golden("clip." + name + ".first")) < 1e-4);
    CHECK(out.text_embeds.defined() == (name == "g"));
    CHECK(difference(name == "g" ? out.text_embeds : out.pooled, diffusion_golden("clip." + name + ".pooled")) < 1e-4);
    CHECK(difference(model.final_norm(out.hidden_states[3]), out.last_hidden) == 0);
  }
}

TEST_CASE("a prompt's embeddings are the same bit for bit alone and in a batch") {
  const at::NoGradGuard no_grad;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto model = tiny("g", dtype);
    const auto together = model.forward(prompts());
    for (std::int64_t row = 0; row < 3; ++row) {
      const auto alone = model.forward(prompts().narrow(0, row, 1));
      CHECK(at::equal(together.last_hidden.narrow(0, row, 1), alone.last_hidden));
      CHECK(at::equal(together.hidden_states[2].narrow(0, row, 1), alone.hidden_states[2]));
      CHECK(at::equal(together.text_embeds.narrow(0, row, 1), alone.text_embeds));
    }
  }
}

TEST_CASE("token embeddings may be put in place of the table's") {
  const at::NoGradGuard no_grad;
  const auto model = tiny("l");
  const auto ids = prompts();
  auto embeddings = model.embed_tokens(ids);
  CHECK(at::equal(model.forward(ids, embeddings).last_hidden, model.forward(ids).last_hidden));
  embeddings[2][3].fill_(0.5);
  const auto changed = model.forward(ids, embeddings).last_hidden, before = model.forward(ids).last_hidden;
  CHECK(at::equal(changed.narrow(0, 0, 2), before.narrow(0, 0, 2)));
  CHECK(at::equal(changed[2].narrow(0, 0, 3), before[2].narrow(0, 0, 3)));
  CHECK_FALSE(at::equal(changed[2].narrow(0, 3, 1), before[2].narrow(0, 3, 1)));
}

TEST_CASE("the end of the text is the first end-of-text token, by the older rule the largest id") {
  const at::NoGradGuard no_grad;
  auto ids = prompts().narrow(0, 2, 1);
  const auto old_rule = tiny("l").forward(ids), new_rule = tiny("h").forward(ids);
  CHECK(at::equal(old_rule.pooled[0], old_rule.last_hidden[0][31]));
  CHECK(at::equal(new_rule.pooled[0], new_rule.last_hidden[0][31]));
}

TEST_CASE("ids, lengths and configurations out of range are refused") {
  const at::NoGradGuard no_grad;
  const auto model = tiny("l");
  CHECK(test::contains(test::error_of(base::ExitCode::data,
                                      [&] {
                                        model.forward(at::full({1, 4}, 99, at::kLong));
                                      }),
                       "vocabulary of 99"));
  CHECK(test::contains(test::error_of(base::ExitCode::data,
                                      [&] {
                                        model.forward(at::full({1, 4}, -1, at::kLong));
                                      }),
                       "vocabulary"));
  CHECK(test::contains(test::error_of(base::ExitCode::data,
                                      [&] {
                                        model.forward(at::full({1, 78}, 1, at::kLong));
                                      }),
                       "77 positions"));
  const auto with = [](const std::string& key, const base::Json& value) {
    auto json = test::diffusion_config("clip.g");
    json[key] = value;
    return test::error_of(base::ExitCode::data, [&] { models::clip::parse_text_config(json, "config.json"); });
  };
  for (const std::string key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "max_position_embeddings", "projection_dim", "layer_norm_eps", "eos_token_id"})
    for (const base::Json& value : {base::Json(-1), base::Json(std::int64_t{1} << 40), base::Json("many")}) {
      CAPTURE(key);
      CHECK(test::contains(with(key, value), key));
    }
  CHECK(test::contains(with("hidden_act", "tanh"), "tanh"));
  CHECK(test::contains(with("model_type", "t5"), "t5"));
  CHECK(test::contains(with("num_attention_heads", 5), "num_attention_heads"));
}
