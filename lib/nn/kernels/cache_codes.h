#pragma once

#include <cstdint>

#include "nn/kernels/kernels.h"

/// Kernels over keys and values in 8 bits: one f32 scale for each head and position, number = code x scale.
namespace atelier::nn::kernels {

struct CodeTable {
  const char* name;
  /// Codes of one head and position; returns the scale: the greatest magnitude / 127.
  float (*encode)(Type, const void* x, std::int64_t n, std::int8_t* codes);
  /// As Table::attention_block, where args.k and args.v are codes with scales (kv_heads, capacity); args.type is that of the
  /// query. Its results are merged by Table::attention_merge.
  void (*attention_block)(const AttentionArgs& args, const float* k_scales, const float* v_scales, std::int64_t kv_head,
                          std::int64_t first, std::int64_t last, float* m, float* l, float* acc);
};

/// The longest head of which attention_block takes codes.
inline constexpr std::int64_t most_coded_head = 1024;

/// The one that goes with table().
const CodeTable& code_table();
const CodeTable* find_code_table(const char* name);

}  // namespace atelier::nn::kernels
