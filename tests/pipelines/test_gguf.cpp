// GGUF files as models: configuration, tokenizer, logits and texts.
#include <cmath>
#include <cstring>

#include "base/json.h"
#include "models/gemma/gguf.h"
#include "pipelines/generation.h"
#include "pipelines/prompt.h"
#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/gguf_file.h"
#include "support/scratch.h"
#include "text/gguf_tokenizer.h"
#include "text/sentencepiece_model.h"

namespace {

using namespace atelier;
using base::Json;
using pipelines::TextModel;
using pipelines::TextModelFiles;
using test::GgufBuilder;
using test::little_endian;

const std::string tiny = std::string(ATELIER_TEST_DATA) + "/gguf/tiny.gguf";
const std::string shipped = std::string(ATELIER_MODELS) + "/tiny-gemma";

Json goldens() { return base::read_json_file(std::string(ATELIER_TEST_DATA) + "/gguf/goldens.json"); }

/// Names of the shipped model's tensors in a GGUF file.
std::string gguf_name(std::string name) {
  const std::pair<const char*, const char*> outer[] = {{"model.embed_tokens.weight", "token_embd.weight"},
                                                       {"model.norm.weight", "output_norm.weight"}};
  for (const auto& [there, here] : outer)
    if (name == there) return here;
  const std::pair<const char*, const char*> parts[] = {{"input_layernorm", "attn_norm"},
                                                       {"self_attn.q_proj", "attn_q"},
                                                       {"self_attn.k_proj", "attn_k"},
                                                       {"self_attn.v_proj", "attn_v"},
                                                       {"self_attn.o_proj", "attn_output"},
                                                       {"post_attention_layernorm", "post_attention_norm"},
                                                       {"pre_feedforward_layernorm", "ffn_norm"},
                                                       {"mlp.gate_proj", "ffn_gate"},
                                                       {"mlp.up_proj", "ffn_up"},
                                                       {"mlp.down_proj", "ffn_down"},
                                                       {"post_feedforward_layernorm", "post_ffw_norm"}};
  name = name.substr(std::string("model.layers.").size());
  const std::size_t dot = name.find('.');
  for (const auto& [there, here] : parts)
    if (name.substr(dot + 1) == std::string(there) + ".weight")
      return "blk." + name.substr(0, dot) + "." + here + ".weight";
  return name;
}

std::string bytes_of(const at::Tensor& t) {
  return {static_cast<const char*>(t.const_data_ptr()), static_cast<std::size_t>(t.nbytes())};
}

void add_vocabulary(GgufBuilder& b) {
  const auto model = text::parse_sentencepiece_model(test::get_file(shipped + "/tokenizer.model"), "tokenizer.model");
  std::string texts, scores, types;
  for (const text::Piece& piece : model.pieces) {
    std::uint32_t bits;
    std::memcpy(&bits, &piece.score, sizeof bits);
    texts += GgufBuilder::text(piece.text);
    scores += little_endian(bits);
    types += little_endian(static_cast<std::uint32_t>(piece.type));
  }
  b.add("tokenizer.ggml.model", std::string_view("llama"));
  b.list("tokenizer.ggml.tokens", 8, model.pieces.size(), texts);
  b.list("tokenizer.ggml.scores", 6, model.pieces.size(), scores);
  b.list("tokenizer.ggml.token_type", 5, model.pieces.size(), types);
  b.add("tokenizer.ggml.bos_token_id", 2u)
      .add("tokenizer.ggml.eos_token_id", 1u)
      .add("tokenizer.ggml.eot_token_id", 107u);
  const Json config = base::read_json_file(shipped + "/tokenizer_config.json");
  b.add("tokenizer.chat_template", std::string_view(config["chat_template"].get<std::string>()));
}

void add_config(GgufBuilder& b) {
  const Json c = base::read_json_file(shipped + "/config.json");
  const auto number = [&](const char* key, const char* from) {
    b.add(std::string("gemma2.") + key, c[from].get<std::uint32_t>());
  };
  b.add("general.architecture", std::string_view("gemma2"));
  number("context_length", "max_position_embeddings");
  number("embedding_length", "hidden_size");
  number("block_count", "num_hidden_layers");
  number("feed_forward_length", "intermediate_size");
  number("attention.head_count", "num_attention_heads");
  number("attention.head_count_kv", "num_key_value_heads");
  number("attention.key_length", "head_dim");
  number("attention.value_length", "head_dim");
  number("attention.sliding_window", "sliding_window");
  b.add("gemma2.attention.layer_norm_rms_epsilon", 1e-6F).add("gemma2.rope.freq_base", c["rope_theta"].get<float>());
  b.add("gemma2.attn_logit_softcapping", 50.0F).add("gemma2.final_logit_softcapping", 30.0F);
}

/// The shipped model as a GGUF file whose matrices are in bf16 (30) or f32 (0).
std::string converted(std::uint32_t type) {
  GgufBuilder b;
  add_config(b);
  add_vocabulary(b);
  const auto source = io::WeightSource::open(shipped);
  for (const std::string& name : source->names()) {
    const at::Tensor weight = source->load(name, at::kFloat, at::kCPU);
    const bool norm = weight.dim() == 1;
    const at::Tensor stored = norm ? weight + 1 : weight.to(type == 0 ? at::kFloat : at::kBFloat16);
    std::vector<std::uint64_t> sizes(weight.sizes().rbegin(), weight.sizes().rend());
    b.tensor(gguf_name(name), sizes, norm ? 0 : type, bytes_of(stored));
  }
  return b.file();
}

pipelines::GenerationResult answer(const TextModel& model, const std::string& question, double temperature) {
  pipelines::GenerationRequest request;
  request.prompt = pipelines::build_prompt(model, question, pipelines::PromptOptions{}).ids;
  request.stop_ids = pipelines::stop_ids_of(model, /*chat=*/true);
  request.max_tokens = 30;
  request.sampling.temperature = temperature;
  request.seed = 3;
  return pipelines::generate_one(model, request);
}

}  // namespace

TEST_CASE("configuration, tokens and logits of a Gemma 3 are transformers'") {
  const Json expected = goldens();
  const auto files = TextModelFiles::open(tiny, {"cpu", "fp32"});
  for (const auto& [key, value] : expected["config"].items()) {
    CAPTURE(key);
    CHECK(files.config_json[key].get<double>() == doctest::Approx(value.get<double>()).epsilon(1e-6));
  }
  const auto model = TextModel::load(files);
  CHECK(files.weights->unused().empty());
  CHECK(model->stop_ids == std::vector<text::TokenId>{1, 5});
  CHECK(model->bos == 2);
  CHECK(model->instruction_tuned);
  for (const auto& [text, ids] : expected["texts"].items()) {
    CAPTURE(text);
    // A marker in a user's text is cut apart, which SentencePiece does not do.
    if (text.find("<start_of_turn>") == std::string::npos)
      CHECK(model->tokenizer->encode(text) == ids.get<std::vector<text::TokenId>>());
    CHECK(model->tokenizer->encode(text, /*trusted=*/true).size() <= ids.size());
  }
  auto cache = model->network->new_cache();
  const auto prompt = expected["prompt"].get<std::vector<text::TokenId>>();
  const auto logits = pipelines::prefill_logits(*model, prompt, cache);
  for (std::int64_t i = 0; i < logits.size(1); ++i)
    CHECK(std::fabs(logits[0][i].item<float>() - expected["logits"][static_cast<std::size_t>(i)].get<float>()) < 2e-4F);
  CHECK((TextModelFiles::open(tiny, {"cpu", "auto"}).dtype == at::kBFloat16));
}

TEST_CASE("the text of a converted model is the folder's") {
  const test::Scratch folder;
  for (const std::uint32_t type : {30u, 0u}) {
    CAPTURE(type);
    test::put_file(folder.file("m.gguf"), converted(type));
    const auto files = TextModelFiles::open(folder.file("m.gguf"), {"cpu", "bf16"});
    const auto model = TextModel::load(files);
    const auto original = TextModel::load(TextModelFiles::open(shipped, {"cpu", "bf16"}));
    CHECK(files.weights->missing().empty());
    CHECK(files.weights->unused().empty());
    CHECK(model->stop_ids == original->stop_ids);
    for (const char* question : {"Hello!", "Write a caption for a picture of a red circle.", "<end_of_turn> é \t 12"})
      for (const double temperature : {0.0, 1.0}) {
        const auto a = answer(*original, question, temperature), b = answer(*model, question, temperature);
        CHECK(a.text == b.text);
        CHECK(a.prompt_tokens == b.prompt_tokens);
      }
  }
}

TEST_CASE("what a model needs and the metadata lack or distort is said") {
  const auto error = [](const auto& change) {
    GgufBuilder b;
    change(b);
    const test::Scratch folder;
    test::put_file(folder.file("m.gguf"), b.file());
    return test::error_of(base::ExitCode::data, [&] {
      const auto files = TextModelFiles::open(folder.file("m.gguf"), {"cpu", "auto"});
      pipelines::TextParts::open(files);
    });
  };
  const auto embedding = [](GgufBuilder& b, std::uint64_t rows) {
    b.tensor("token_embd.weight", {256, rows}, 1, std::string(256 * 2 * rows, '\0'));
  };
  CHECK(test::contains(error([](auto&) {}), "the architecture \"\" is not supported"));
  CHECK(test::contains(error([](auto& b) { b.add("general.architecture", std::string_view("llama")); }),
                       "known are gemma, gemma2 and gemma3"));
  CHECK(test::contains(error([](auto& b) { add_config(b); }), "\"token_embd.weight\" is missing"));
  CHECK(test::contains(
      error([&](auto& b) { b.add("general.architecture", std::string_view("gemma2")), embedding(b, 8); }),
      "\"gemma2.attention.head_count\" is missing"));
  CHECK(test::contains(error([&](auto& b) { add_config(b), embedding(b, 8); }), "tokenizer"));
  CHECK(test::contains(error([&](auto& b) { add_config(b), add_vocabulary(b), embedding(b, 8); }),
                       "4096 tokens for 8 rows"));
  const auto vocabulary = [&](std::uint32_t type, const char* byte, std::uint32_t bos) {
    return [=](GgufBuilder& b) {
      add_config(b);
      embedding(b, 8);
      b.add("tokenizer.ggml.model", std::string_view("llama")).add("tokenizer.ggml.bos_token_id", bos);
      b.list("tokenizer.ggml.tokens", 8, 5,
             GgufBuilder::text("<pad>") + GgufBuilder::text("<eos>") + GgufBuilder::text("<bos>") +
                 GgufBuilder::text("<unk>") + GgufBuilder::text(byte));
      b.list("tokenizer.ggml.scores", 6, 5, std::string(20, '\0'));
      std::string types;
      for (const std::uint32_t t : {3u, 3u, 3u, 2u, type}) types += little_endian(t);
      b.list("tokenizer.ggml.token_type", 5, 5, types);
    };
  };
  CHECK(error(vocabulary(1, "a", 2)) == "(no error)");
  CHECK(test::contains(error(vocabulary(9, "a", 2)), "unknown type 9"));
  CHECK(test::contains(error(vocabulary(6, "<0xG1>", 2)), "byte piece 4"));
  CHECK(test::contains(error(vocabulary(1, "", 2)), "piece 4 is empty"));
  CHECK(test::contains(error(vocabulary(1, "\xFF", 2)), "not UTF-8"));
  CHECK(test::contains(error(vocabulary(1, "a", 77)), "outside the vocabulary"));
  CHECK(test::contains(error(vocabulary(1, "a", 4)), "BOS is no control token"));
}

TEST_CASE("windows, scales and caps of the architectures") {
  const auto config = [](const char* architecture, std::uint32_t layers, const auto& more) {
    const std::string a = architecture;
    GgufBuilder b;
    b.add("general.architecture", std::string_view(a));
    for (const auto& [key, value] :
         std::initializer_list<std::pair<const char*, std::uint32_t>>{{"context_length", 8192},
                                                                      {"embedding_length", 5376},
                                                                      {"block_count", layers},
                                                                      {"feed_forward_length", 64},
                                                                      {"attention.head_count", 32},
                                                                      {"attention.head_count_kv", 16},
                                                                      {"attention.key_length", 128}})
      b.add(a + "." + key, value);
    more(b, a);
    b.tensor("token_embd.weight", {32, 2}, 1, std::string(128, '\0'));
    const std::string file = b.file();
    return models::gemma::parse_config(
        models::gemma::config_from_gguf(
            io::parse_gguf({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "f"), "f"),
        "f");
  };
  const auto nothing = [](auto&, const std::string&) {};
  const auto first = config("gemma", 2, nothing);
  CHECK(first.window == 0);
  CHECK(first.attention_scale == doctest::Approx(1 / std::sqrt(128.0)));
  const auto second = config("gemma2", 26, nothing);
  CHECK(second.attention_softcap == 50);
  CHECK(second.sliding[0]);
  CHECK_FALSE(second.sliding[1]);
  CHECK(second.attention_scale == doctest::Approx(1 / std::sqrt(128.0)));
  CHECK(config("gemma2", 46, nothing).attention_scale == doctest::Approx(1 / std::sqrt(5376.0 / 32)));
  const auto third = config("gemma3", 62, [](auto& b, const std::string& a) {
    b.add(a + ".rope.scaling.type", std::string_view("linear"))
        .add(a + ".rope.scaling.factor", 8.0F)
        .add(a + ".attention.sliding_window", 1024u);
  });
  CHECK(third.attention_softcap == 0);
  CHECK(third.final_softcap == 0);
  CHECK(third.attention_scale == doctest::Approx(1 / std::sqrt(168.0)));
  CHECK(third.rope_factor == 8);
  CHECK(third.rope_local_factor == 1);
  CHECK(third.rope_theta == 1e6);
  CHECK(third.window == 1024);
  CHECK(third.sliding[4]);
  CHECK_FALSE(third.sliding[5]);
  const auto listed = config("gemma3", 2, [](auto& b, const std::string& a) {
    b.list(a + ".attention.sliding_window_pattern", 7, 2, std::string("\0\1", 2));
  });
  CHECK_FALSE(listed.sliding[0]);
  CHECK(listed.sliding[1]);
}
