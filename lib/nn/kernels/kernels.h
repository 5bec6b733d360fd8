#pragma once

#include <cstdint>

/// CPU kernels of decoding: plain pointers in, plain pointers out, no LibTorch.
///
/// Every kernel is *row-invariant*: what it computes for one row (one token of one sequence) is the same bit for bit,
/// however many other rows are in the call and however many threads share it. Each sum runs over the same elements in
/// the same order whatever the tiling. That is what makes a result independent of the batch that it was computed in.
namespace atelier::nn::kernels {

using bf16 = std::uint16_t;  ///< the upper half of a float

enum class Type { float32, bfloat16 };

/// y = x w^T (+ bias). x: (rows, in), w: (out, in) as checkpoints store it, y: (rows, out), all contiguous.
/// x, w and bias have one type; y is that type, or f32 where `y_f32`. Sums are f32.
struct LinearArgs {
  Type type;
  const void* x;
  const void* w;
  const void* bias;  ///< (out) or null
  void* y;
  bool y_f32;
  std::int64_t rows, in, out;
};

/// One query token of one sequence against its cache. K and V: (kv_heads, capacity, head_dim); positions [0, length) are
/// attended to, in memory order. Grouped queries: head h reads kv head h / (heads / kv_heads).
struct AttentionArgs {
  Type type;
  const void* q;  ///< (heads, head_dim)
  const void* k;
  const void* v;
  void* out;  ///< (heads, head_dim)
  std::int64_t heads, kv_heads, head_dim, length, capacity;
  float scale;
  float softcap;  ///< 0: none; else scores become softcap * tanh(score / softcap)
};

/// The kernels of one instruction set. `begin` and `end` bound the work of one thread: output columns of linear, rows of
/// the element-wise ones, blocks of attention.
struct Table {
  const char* name;
  void (*linear)(const LinearArgs&, std::int64_t begin, std::int64_t end);
  /// y = x / rms(x) * (1 + w) in f32, rounded once. x, y: (rows, n) with strides of x and y equal to `stride`.
  void (*rms_norm)(Type, const void* x, const void* w, void* y, std::int64_t n, std::int64_t stride, float eps,
                   std::int64_t begin, std::int64_t end);
  /// gate = gelu_tanh(gate) * up; (rows, n).
  void (*geglu)(Type, void* gate, const void* up, std::int64_t n, std::int64_t begin, std::int64_t end);
  /// x = cap * tanh(x / cap), in place; begin and end count elements.
  void (*softcap)(float* x, float cap, std::int64_t begin, std::int64_t end);
  /// Half-split rotation in place. x: (rows, heads, head_dim); cos, sin: (rows, head_dim / 2).
  void (*rope)(Type, void* x, const float* cos, const float* sin, std::int64_t heads, std::int64_t head_dim,
               std::int64_t begin, std::int64_t end);
  /// Attention over keys [first, last) for the query heads of one kv head: leaves per query head the maximum score m, the
  /// sum l of exp(score - m), and the weighted sum of values in acc (group, head_dim), to be merged by attention_merge.
  void (*attention_block)(const AttentionArgs&, std::int64_t kv_head, std::int64_t first, std::int64_t last, float* m,
                          float* l, float* acc, float* scores);
  void (*attention_merge)(const AttentionArgs&, std::int64_t kv_head, std::int64_t blocks, const float* m,
                          const float* l, const float* acc);
};

/// Keys per attention block: fixed, so that the order of sums does not depend on the number of threads.
inline constexpr std::int64_t attention_block_keys = 256;

/// The best table that this processor runs; or, with ATELIER_ISA=scalar|avx2|avx512|avx512bf16, that one if it can.
const Table& table();
/// A table by name, or null where this build or processor lacks it (tests compare them all).
const Table* find_table(const char* name);

}  // namespace atelier::nn::kernels
