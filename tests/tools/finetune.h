#pragma once

#include <doctest/doctest.h>

#include <algorithm>

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "support/process.h"
#include "support/scratch.h"

namespace atelier::test {

/// A folder with a model that has a tokenizer and no weights (--init random), so small that a step takes a millisecond, and rows.
class FinetuneFolder {
 public:
  FinetuneFolder() {
    namespace fs = std::filesystem;
    fs::create_directory(folder.path() / "model");
    for (const auto& entry : fs::directory_iterator(std::string(ATELIER_TEST_DATA) + "/text/tokenizers/gemma"))
      fs::copy(entry.path(), folder.path() / "model" / entry.path().filename());
    base::Json config = {{"model_type", "gemma2"},
                         {"vocab_size", 1536},
                         {"hidden_size", 16},
                         {"intermediate_size", 24},
                         {"num_hidden_layers", 2},
                         {"num_attention_heads", 2},
                         {"num_key_value_heads", 1},
                         {"head_dim", 8},
                         {"max_position_embeddings", 128},
                         {"sliding_window", 16},
                         {"query_pre_attn_scalar", 8},
                         {"attn_logit_softcapping", nullptr},
                         {"final_logit_softcapping", nullptr},
                         {"eos_token_id", base::Json::array({1, 20})},
                         {"torch_dtype", "float32"}};
    folder.write("model/config.json", config.dump());
    std::string rows;
    for (int i = 0; i < 14; ++i) {
      std::string words;
      for (int w = 0; w <= i % 5; ++w) words += " hello";
      rows += R"({"prompt":"count )" + std::to_string(i) + R"(","completion":")" + words + "\"}\n";
    }
    data = folder.write("data.jsonl", rows);
  }

  std::string file(const std::string& name) const { return folder.file(name); }

  /// gemma-finetune on the rows, all weights from nothing, into `output`.
  std::vector<std::string> full(const std::string& output, std::vector<std::string> more = {}) const {
    std::vector<std::string> args{"--model",      file("model"), "--init",   "random",     "--method",     "full",
                                  "--data",       data,          "--output", file(output), "--seed",       "5",
                                  "--threads",    "1",           "--lr",     "0.01",       "--batch-size", "2",
                                  "--grad-accum", "2",           "--warmup", "0"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  /// The same with an adapter on a model that `full` has written.
  std::vector<std::string> lora(const std::string& model, const std::string& output,
                                std::vector<std::string> more = {}) const {
    std::vector<std::string> args{"--model",      file(model), "--data",    data, "--output", file(output),
                                  "--seed",       "5",         "--threads", "1",  "--lr",     "0.01",
                                  "--batch-size", "2",         "--rank",    "2",  "--alpha",  "4"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }

  TempFolder folder;
  std::string data;
};

inline Result finetune(std::vector<std::string> args) {
  return run({.program = tool("gemma-finetune"), .args = std::move(args), .timeout = std::chrono::seconds(120)});
}

/// Lines of metrics.jsonl.
inline std::vector<base::Json> metrics(const std::string& folder) {
  std::vector<base::Json> found;
  for (const std::string& line : lines_of(get_file(folder + "/metrics.jsonl")))
    found.push_back(base::parse_json(line, "metrics"));
  return found;
}

/// Names of a folder's entries that begin with `start`, sorted.
inline std::vector<std::string> entries_of(const std::string& folder, const std::string& start = "") {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored))
    if (entry.path().filename().native().starts_with(start)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

/// The tensors of two checkpoints are equal bit for bit, and so are the losses of all steps.
inline void check_same_checkpoint(const std::string& a, const std::string& b) {
  for (const char* name : {"weights", "optimizer", "history", "random"}) {
    CAPTURE(name);
    const std::string file = std::string("/") + name + ".safetensors";
    CHECK(!get_file(a + file).empty());
    CHECK(get_file(a + file) == get_file(b + file));
  }
}

}  // namespace atelier::test
