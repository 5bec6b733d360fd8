#pragma once

#include <cstdint>
#include <functional>
#include <utility>
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
  std::int64_t positions() const { return positions_; }

  /// Whether all but the first n positions can be forgotten: a ring that has gone round has lost what lay before its window.
  bool can_truncate(std::int64_t n) const;
  void truncate(std::int64_t n);

  /// Whether the positions [begin, begin + count) can be taken out of the middle: a ring must still hold, behind them, all
  /// that its next query may see.
  bool can_cut(std::int64_t begin, std::int64_t count) const;
  /// Takes them out. Those behind move down by `count`; `turn` gets their keys (kv_heads, m, head_dim), rotated for their
  /// old places, and returns them rotated for the new ones.
  void cut(std::int64_t begin, std::int64_t count, const std::function<at::Tensor(const at::Tensor&)>& turn);

  /// As if `positions` positions had been appended, of which the last m have these keys and values, each (kv_heads, m,
  /// head_dim): all of them, or for a window at least the last window - 1.
  void restore(std::int64_t positions, const at::Tensor& k, const at::Tensor& v);

  /// From now on keeps a copy of everything that is appended, also of what a window forgets.
  void start_recording() { recording_ = true; }
  /// What was recorded since, in order of position, each (kv_heads, n, head_dim); recording ends. Undefined where nothing was.
  std::pair<at::Tensor, at::Tensor> stop_recording();

  /// An independent copy, for a second continuation of the same prefix.
  LayerCache fork() const;
  std::int64_t bytes() const;

 private:
  void reserve(std::int64_t positions, const at::Tensor& like);
  void write(std::int64_t slot, const at::Tensor& k, const at::Tensor& v);

  std::pair<at::Tensor, at::Tensor> in_order(std::int64_t first, std::int64_t count) const;

  at::Tensor k_, v_;  ///< (kv_heads, capacity, head_dim)
  std::vector<at::Tensor> recorded_k_, recorded_v_;
  bool recording_ = false;
  std::int64_t window_, limit_, positions_ = 0;
};

/// The caches of all layers of one sequence.
struct KvCache {
  std::vector<LayerCache> layers;
  std::int64_t positions = 0;  ///< tokens seen so far

  /// Forgets all but the first n positions, where every layer can.
  bool can_truncate(std::int64_t n) const;
  void truncate(std::int64_t n);
  KvCache fork() const;
  std::int64_t bytes() const;
};

}  // namespace atelier::nn
