#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/common.h"
#include "cli/train_options.h"
#include "models/adapters/peft_config.h"
#include "train/text/dataset.h"

namespace atelier::cli {

enum class FinetuneMethod { lora, qlora, dora, full };

/// Everything that gemma-finetune can be told (CLI.md, "gemma-finetune").
struct FinetuneOptions {
  CommonOptions common;
  TrainFlags train;
  std::string data, eval_data, output;
  std::string method = "lora", init = "model", init_adapter;

  std::int64_t rank = 16;
  double alpha = 32, dropout = 0;
  std::string target_modules = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj";
  std::vector<std::string> rank_patterns, alpha_patterns;
  bool rslora = false, use_dora = false;

  std::int64_t max_seq_len = 1024;
  std::string on_long = "truncate", mask_prompt = "auto";
  bool packing = false, group_by_length = false, no_shuffle = false, special = false, check = false;

  bool best = false, require_improvement = false, merge = false;
  std::string sample_prompts;
  std::int64_t sample_tokens = 128;

  /// Whether the command line or the configuration set a flag, by its long name.
  std::function<bool(const std::string&)> given = [](const std::string&) { return false; };
};

void define_finetune_flags(CLI::App& app, FinetuneOptions& options);

FinetuneMethod method_of(const FinetuneOptions& options);

/// Flags that do not go together, or have no use without another: Error(usage).
void check_finetune_flags(const FinetuneOptions& options);

/// The adapter that the flags describe. Error(usage) for a malformed pattern.
models::adapters::PeftConfig adapter_config(const FinetuneOptions& options);

train::text_data::DatasetOptions dataset_options(const FinetuneOptions& options, std::uint64_t seed);

/// Of the held-out data: in the file's order, never packed.
train::text_data::DatasetOptions held_out_options(const FinetuneOptions& options);

}  // namespace atelier::cli
