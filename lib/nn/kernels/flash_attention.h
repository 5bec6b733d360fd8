#pragma once

#include <cstdint>

#include "nn/kernels/kernels.h"

namespace atelier::nn::kernels {

/// softmax(q k^T scale) v for whole sequences without materialised scores (FlashAttention's online softmax, arXiv:2205.14135).
/// Tensors are (batch, tokens, heads, head_dim) in any order with unit stride within a head; strides count elements.
struct FlashArgs {
  struct Side {
    const void* data;
    std::int64_t batch_stride, token_stride, head_stride;
  };

  Type type;
  Side q, k, v;
  void* out;  ///< (batch, queries, heads head_dim), contiguous
  std::int64_t batch, heads, queries, keys, head_dim;
  float scale;              ///< above 0
  bool causal = false;      ///< query i attends to keys [0, past + i] only; there are past + queries of them
  std::int64_t past = 0;    ///< of a causal one
  std::int64_t window = 0;  ///< of a causal one: only to the last `window` of them; 0: to all
  float softcap = 0;        ///< 0: none; else scores become softcap * tanh(score / softcap)
  std::int64_t group = 1;   ///< heads of queries that share a head of keys and values
  float* sums = nullptr;    ///< (batch, heads, queries), where gradients are wanted: log2 of each query's sum of e^score
};

/// The gradients of an attention that was computed with `sums`, given dy of its result (Algorithm 2 of arXiv:2307.08691). Without
/// past, window, softcap and groups.
struct FlashGradientArgs {
  FlashArgs forward;
  FlashArgs::Side dy;
  void *dq, *dk, *dv;  ///< as `out`: (batch, tokens, heads head_dim), contiguous
};

/// The kernels of one instruction set for one type. A query's result depends on its own row, keys and values alone: not on the
/// other queries, the batch, or the threads.
struct FlashKernels {
  /// Elements of f32 that one (batch, head) takes packed; 64-byte aligned memory is wanted.
  std::int64_t (*packed_size)(const FlashArgs&);
  /// Elements of f32 that one thread needs to compute.
  std::int64_t (*scratch_size)(const FlashArgs&);
  /// Brings keys and values of one (batch, head of theirs) into the order in which they are read.
  void (*pack)(const FlashArgs&, std::int64_t batch, std::int64_t head, float* packed);
  /// Queries [begin, end) of one (batch, head of queries); the bounds are multiples of flash_queries but for the last.
  void (*attend)(const FlashArgs&, std::int64_t batch, std::int64_t head, const float* packed, std::int64_t begin,
                 std::int64_t end, float* scratch);
  /// Elements of f32 that one thread needs for gradients.
  std::int64_t (*gradient_scratch_size)(const FlashGradientArgs&);
  /// dq, dk and dv of one (batch, head).
  void (*gradients)(const FlashGradientArgs&, std::int64_t batch, std::int64_t head, float* scratch);
};

inline constexpr std::int64_t flash_queries = 48;  ///< that share one pass over keys and values

/// For this processor (and ATELIER_ISA, as table() takes it); null where it has none: then LibTorch's own serve.
const FlashKernels* flash_kernels(Type type);
/// Of a table by name, or null.
const FlashKernels* find_flash_kernels(const char* table_name, Type type);

}  // namespace atelier::nn::kernels
