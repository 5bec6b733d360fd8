#include "models/gemma/config.h"

#include <cmath>
#include <cstdio>
#include <limits>

#include "base/error.h"
#include "models/gemma/model.h"
#include "support/doctest_last.h"

namespace {

using namespace atelier;
using base::Json;
using models::gemma::Config;
using models::gemma::parse_config;

/// gemma-2-2b as published.
Json gemma2_2b() {
  return Json::parse(R"({"architectures":["Gemma2ForCausalLM"],"attention_bias":false,"attn_logit_softcapping":50.0,
    "bos_token_id":2,"cache_implementation":"hybrid","eos_token_id":1,"final_logit_softcapping":30.0,"head_dim":256,
    "hidden_act":"gelu_pytorch_tanh","hidden_activation":"gelu_pytorch_tanh","hidden_size":2304,"intermediate_size":9216,
    "max_position_embeddings":8192,"model_type":"gemma2","num_attention_heads":8,"num_hidden_layers":26,
    "num_key_value_heads":4,"pad_token_id":0,"query_pre_attn_scalar":256,"rms_norm_eps":1e-06,"rope_theta":10000.0,
    "sliding_window":4096,"torch_dtype":"float32","vocab_size":256000})");
}

/// gemma-3-4b-it as published: a sparse text_config inside a multimodal one.
Json gemma3_4b() {
  return Json::parse(
      R"({"architectures":["Gemma3ForConditionalGeneration"],"boi_token_index":255999,"eos_token_id":[1,106],
    "image_token_index":262144,"mm_tokens_per_image":256,"model_type":"gemma3","text_config":{"hidden_size":2560,
    "intermediate_size":10240,"model_type":"gemma3_text","num_hidden_layers":34,"rope_scaling":{"factor":8.0,
    "rope_type":"linear"},"sliding_window":1024},"vision_config":{"hidden_size":1152}})");
}

std::string error_of(const Json& json) {
  try {
    parse_config(json, "config.json");
  } catch (const base::Error& error) {
    CHECK(error.code() == base::ExitCode::data);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("published configurations") {
  const Config two = parse_config(gemma2_2b(), "config.json");
  CHECK(two.sliding.size() == 26);
  CHECK(two.sliding[0]);
  CHECK_FALSE(two.sliding[1]);
  CHECK(two.attention_scale == 0.0625);
  CHECK(two.attention_softcap == 50);
  CHECK(two.final_softcap == 30);
  CHECK(two.tied_head);
  CHECK(two.parameters() == 2614341888);

  const Config four = parse_config(gemma3_4b(), "config.json");
  CHECK(four.vocab_size == 262208);
  CHECK(four.heads == 8);
  CHECK(four.kv_heads == 4);
  CHECK(four.head_dim == 256);
  CHECK(four.window == 1024);
  CHECK(four.sliding[4]);
  CHECK_FALSE(four.sliding[5]);
  CHECK(four.rope_theta == 1e6);
  CHECK(four.rope_factor == 8);
  CHECK(four.rope_local_theta == 1e4);
  CHECK(four.rope_local_factor == 1);
  CHECK(four.attention_softcap == 0);
  CHECK(four.final_softcap == 0);
}

TEST_CASE("old and new keys mean the same") {
  Json old = gemma3_4b()["text_config"];
  old.update(Json{{"rope_theta", 1e6}, {"rope_local_base_freq", 2e4}, {"sliding_window_pattern", 6}});
  Json now = gemma3_4b()["text_config"];
  now.erase("rope_scaling");
  now["rope_parameters"] = {{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}}},
                            {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 2e4}}}};
  now["layer_types"] = Json::array();
  for (int i = 0; i < 34; ++i) now["layer_types"].push_back((i + 1) % 6 ? "sliding_attention" : "full_attention");
  const Config a = parse_config(old, "a"), b = parse_config(now, "b");
  CHECK(a.sliding == b.sliding);
  CHECK(a.rope_theta == b.rope_theta);
  CHECK(a.rope_factor == b.rope_factor);
  CHECK(a.rope_local_theta == b.rope_local_theta);

  Json flat = gemma2_2b();
  flat.erase("rope_theta");
  flat["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 12345.0}};
  CHECK(parse_config(flat, "c").rope_theta == 12345);
  CHECK(parse_config(flat, "c").rope_local_theta == 12345);
}

TEST_CASE("every number at -1, 0, its largest, one more, and as another type") {
  struct Field {
    const char* key;
    double low, high;
  };
  const Field fields[] = {{"vocab_size", 1, 1 << 22},
                          {"hidden_size", 1, 1 << 16},
                          {"intermediate_size", 1, 1 << 19},
                          {"num_hidden_layers", 1, 512},
                          {"num_attention_heads", 1, 1024},
                          {"num_key_value_heads", 1, 1024},
                          {"head_dim", 2, 1024},
                          {"max_position_embeddings", 1, 1 << 24},
                          {"sliding_window", 1, 1 << 24},
                          {"query_pre_attn_scalar", 1e-3, 1e6},
                          {"rms_norm_eps", 0, 1},
                          {"rope_theta", 1, 1e9},
                          {"attn_logit_softcapping", 1e-3, 1e6},
                          {"final_logit_softcapping", 1e-3, 1e6}};
  for (const Field& field : fields) {
    CAPTURE(field.key);
    const auto with = [&](Json value) {
      Json json = gemma2_2b();
      json[field.key] = std::move(value);
      return error_of(json);
    };
    const std::string named = std::string("\"") + field.key + "\"";
    CHECK(with(-1).find(named) != std::string::npos);
    if (field.low > 0) CHECK(with(0).find(named) != std::string::npos);
    CHECK(with(static_cast<std::int64_t>(field.high) + 1).find(named) != std::string::npos);
    CHECK(with(std::numeric_limits<std::int64_t>::max()).find(named) != std::string::npos);
    CHECK(with("8").find(named) != std::string::npos);
    CHECK(with(Json::array()).find(named) != std::string::npos);
    CHECK(with(1e300).find(named) != std::string::npos);
    // The largest value is in range, though it need not go with the other fields (heads and their groups).
    const std::string largest = with(static_cast<std::int64_t>(field.high));
    CHECK((largest.empty() || largest.find("multiple") != std::string::npos));
  }
}

TEST_CASE("what is not understood is refused, by name") {
  const auto with = [](const char* key, Json value) {
    Json json = gemma2_2b();
    json[key] = std::move(value);
    return error_of(json);
  };
  CHECK(with("model_type", "llama").find("known are gemma, gemma2, gemma3") != std::string::npos);
  CHECK(with("model_type", 2).find("model_type") != std::string::npos);
  CHECK(with("hidden_activation", "relu").find("hidden_activation") != std::string::npos);
  CHECK(with("layer_types", Json::array({"full_attention"})).find("layer_types") != std::string::npos);
  CHECK(with("layer_types", Json(26, "chunked_attention")).find("chunked_attention") != std::string::npos);
  CHECK(with("rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}}).find("yarn") != std::string::npos);
  CHECK(with("rope_scaling", {{"rope_type", "linear"}}).find("factor") != std::string::npos);
  CHECK(with("rope_parameters", 3).find("rope_parameters") != std::string::npos);
  CHECK(with("num_key_value_heads", 3).find("multiple") != std::string::npos);
  CHECK(with("head_dim", 255).find("head_dim") != std::string::npos);
  CHECK(with("attention_bias", "no").find("attention_bias") != std::string::npos);
  CHECK(with("use_bidirectional_attention", true).find("bidirectional") != std::string::npos);
  CHECK(error_of(Json::array()).find("object") != std::string::npos);
  CHECK(error_of(Json::object()).find("model_type") != std::string::npos);
  CHECK(error_of({{"model_type", "gemma3"}, {"text_config", 1}}).find("text_config") != std::string::npos);
  for (const Json& type : {Json("gemma2"), Json("llama"), Json(-1)}) {
    Json mixed = gemma3_4b();
    mixed["text_config"]["model_type"] = type;
    CHECK(error_of(mixed).find("text_config") != std::string::npos);
    CHECK(error_of(mixed).find("model_type") != std::string::npos);
  }
}

TEST_CASE("an explicit null switches a cap off") {
  Json json = gemma2_2b();
  json["attn_logit_softcapping"] = nullptr;
  json.erase("final_logit_softcapping");
  CHECK(parse_config(json, "c").attention_softcap == 0);
  CHECK(parse_config(json, "c").final_softcap == 30);
}

TEST_CASE("caches of sliding layers end with their window") {
  const Config c = parse_config(gemma2_2b(), "config.json");
  const std::int64_t position = 2 * 4 * 256 * 2;  // keys and values, heads, head_dim, bf16
  CHECK(models::gemma::cache_bytes(c, 1000, at::kBFloat16) == 26 * 1000 * position);
  CHECK(models::gemma::cache_bytes(c, 8192, at::kBFloat16) == 13 * (8192 + 4096) * position);
}
