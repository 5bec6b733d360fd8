#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace atelier::nn {

/// Keys and values of one layer of one sequence. A layer with a sliding window keeps only its window, as a ring.
class LayerCache {
 public:
  /// `window` 0: every position is kept, up to `limit` of them.
  LayerCache(std::int64_t window, std::int64_t limit) : window_(window), limit_(limit) {}

  /// Adds the keys and values of the next n positions, each (n, kv_heads, head_dim). A window keeps the last `window`.
  void append(const at::Tensor& k, const at::Tensor& v);

  /// What a query at the next position may see besides itself and the positions appended with it: the last
  /// min(positions, window - 1) keys and values in order of position, each (kv_heads, m, head_dim); m may be 0, and then the
  /// tensors are undefined.
  std::pair<at::Tensor, at::Tensor> past() const;

  /// All kept keys and values in memory order (a ring is not unrolled), each (kv_heads, capacity, head_dim), and how many of
  /// the first positions in memory are filled.
  const at::Tensor& keys() const { return k_; }
  const at::Tensor& values() const { return v_; }
  std::int64_t filled() const;

  std::int64_t window() const { return window_; }
  /// An independent copy, for a second continuation of the same prefix.
  LayerCache fork() const;
  std::int64_t bytes() const;

 private:
  void reserve(std::int64_t positions, const at::Tensor& like);
  void write(std::int64_t slot, const at::Tensor& k, const at::Tensor& v);

  at::Tensor k_, v_;  ///< (kv_heads, capacity, head_dim)
  std::int64_t window_, limit_, positions_ = 0;
};

/// The caches of all layers of one sequence.
struct KvCache {
  std::vector<LayerCache> layers;
  std::int64_t positions = 0;  ///< tokens seen so far

  KvCache fork() const;
  std::int64_t bytes() const;
};

}  // namespace atelier::nn
