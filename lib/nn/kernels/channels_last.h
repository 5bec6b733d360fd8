#pragma once

#include <cstdint>

#include "nn/kernels/kernels.h"

namespace atelier::nn::kernels {

/// Group normalisation (arXiv:1803.08494) of (batch, pixels, channels), contiguous, with what stands around it in image models:
/// y = act(norm(x + added) weight + bias). y may be x.
struct GroupNormArgs {
  Type type;
  const void* x;
  void* y;
  const void* weight;  ///< (channels)
  const void* bias;    ///< (channels)
  const float* added;  ///< (batch, channels), or null
  std::int64_t batch, pixels, channels, groups;
  float eps;
  bool silu;
};

/// Kernels over pixels whose channels lie side by side. Sums run over blocks of a fixed number of pixels: a result depends neither
/// on the threads nor on the rest of the batch.
struct ChannelsLast {
  /// Of pixels [first, last): per channel the sums of d and d d with d = x - (the channel of the first pixel). (2, channels)
  void (*group_norm_sums)(const GroupNormArgs&, std::int64_t batch, std::int64_t first, std::int64_t last, float* sums);
  /// Factor and summand per channel, (2, channels), from the sums of all blocks.
  void (*group_norm_fold)(const GroupNormArgs&, std::int64_t batch, std::int64_t blocks, const float* sums, float* map);
  void (*group_norm_apply)(const GroupNormArgs&, std::int64_t batch, std::int64_t first, std::int64_t last, const float* map);
  /// y = a gelu(b), gelu the exact one (by the error function), for rows [begin, end) of x (rows, 2 n) = a, b. y: (rows, n).
  void (*gelu_gate)(Type, const void* x, void* y, std::int64_t n, std::int64_t begin, std::int64_t end);
};

inline constexpr std::int64_t group_norm_block = 128;  ///< pixels

/// For this processor, as table().
const ChannelsLast& channels_last();
/// Of a table by name, or null.
const ChannelsLast* find_channels_last(const char* table_name);

}  // namespace atelier::nn::kernels
