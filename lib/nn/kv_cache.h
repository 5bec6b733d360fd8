#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace atelier::nn {

/// How a cache holds its numbers: as they are computed, or in 8 bits.
enum class CacheFormat { full, int8 };

/// What a layer's cache consists of. full: keys and values. int8: codes of both, and for every head and position one f32
/// scale for its key and one for its value; the number is code x scale (nn/cache_codes.h).
struct CachePart {
  std::string name;  ///< key, value, key_scale, value_scale
  at::ScalarType dtype;
  std::int64_t width;  ///< numbers per head and position
};
std::vector<CachePart> cache_parts(CacheFormat format, at::ScalarType dtype, std::int64_t head_dim);

/// Keys and values of one layer of one sequence. A layer with a sliding window keeps only its window, as a ring.
class LayerCache {
 public:
  /// One tensor (kv_heads, positions, width) for each part, in the order of cache_parts.
  using Parts = std::vector<at::Tensor>;

  /// `window` 0: every position is kept, up to `limit` of them.
  LayerCache(std::int64_t window, std::int64_t limit, CacheFormat format = CacheFormat::full)
      : window_(window), limit_(limit), format_(format) {}

  /// Adds the keys and values of the next n positions, each (n, kv_heads, head_dim). A window keeps the last `window`.
  void append(const at::Tensor& k, const at::Tensor& v);

  /// What a query at the next position may see besides itself and the positions appended with it: the last
  /// min(positions, window - 1) keys and values in order of position, each (kv_heads, m, head_dim); m may be 0, and then the
  /// tensors are undefined. Codes are turned into numbers of `dtype`.
  std::pair<at::Tensor, at::Tensor> past(at::ScalarType dtype = at::kFloat) const;
  /// Keys and values (n, kv_heads, head_dim) as queries see them once they are appended, (kv_heads, n, head_dim).
  std::pair<at::Tensor, at::Tensor> as_seen(const at::Tensor& k, const at::Tensor& v) const;

  /// All kept keys and values, or their codes, in memory order (a ring is not unrolled), each (kv_heads, capacity, head_dim),
  /// and how many of the first positions in memory are filled. Scales, where there are codes: (kv_heads, capacity, 1).
  const at::Tensor& keys() const { return parts_[0]; }
  const at::Tensor& values() const { return parts_[1]; }
  const at::Tensor& key_scales() const { return parts_[2]; }
  const at::Tensor& value_scales() const { return parts_[3]; }
  std::int64_t filled() const;

  std::int64_t window() const { return window_; }
  std::int64_t positions() const { return positions_; }
  CacheFormat format() const { return format_; }
  /// Whether n more positions can be appended without overwriting any.
  bool has_room(std::int64_t n) const { return window_ == 0 || positions_ + n <= window_; }

  /// Whether all but the first n positions can be forgotten: a ring that has gone round has lost what lay before its window.
  bool can_truncate(std::int64_t n) const;
  void truncate(std::int64_t n);

  /// The next up to `count` positions, at most a window of them, are tried: what they push out is kept until end_trial, which
  /// can go back to any place since. Trials do not nest.
  void begin_trial(std::int64_t count);
  void end_trial(std::int64_t positions);

  /// Whether the positions [begin, begin + count) can be taken out of the middle: a ring must still hold, behind them, all
  /// that its next query may see.
  bool can_cut(std::int64_t begin, std::int64_t count) const;
  /// Takes them out. Those behind move down by `count`; `turn` gets their keys (kv_heads, m, head_dim), rotated for their
  /// old places, and returns them rotated for the new ones.
  void cut(std::int64_t begin, std::int64_t count, const std::function<at::Tensor(const at::Tensor&)>& turn);

  /// As if `positions` positions had been appended, of which the last m have these parts: all of them, or for a window at
  /// least the last window - 1.
  void restore(std::int64_t positions, const Parts& parts);

  /// From now on keeps a copy of everything that is appended, also of what a window forgets.
  void start_recording() { recording_ = true; }
  /// What was recorded since, in order of position; recording ends. Empty where nothing was.
  Parts stop_recording();

  /// An independent copy, for a second continuation of the same prefix.
  LayerCache fork() const;
  std::int64_t bytes() const;

 private:
  Parts encode(const at::Tensor& k, const at::Tensor& v) const;
  std::pair<at::Tensor, at::Tensor> decode(const Parts& parts, at::ScalarType dtype) const;
  void reserve(std::int64_t positions, const Parts& like);
  void write(std::int64_t position, const Parts& parts);
  Parts in_order(std::int64_t first, std::int64_t count) const;

  Parts parts_;  ///< (kv_heads, capacity, width) each; empty before the first position
  std::vector<Parts> recorded_;
  bool recording_ = false;
  Parts pushed_out_;               ///< in order of position, of a trial
  std::int64_t trial_begin_ = -1;  ///< position; -1: there is none
  std::int64_t window_, limit_, positions_ = 0;
  CacheFormat format_;
};

/// The caches of all layers of one sequence.
struct KvCache {
  std::vector<LayerCache> layers;
  std::int64_t positions = 0;  ///< tokens seen so far

  /// Forgets all but the first n positions, where every layer can.
  bool can_truncate(std::int64_t n) const;
  void truncate(std::int64_t n);
  void begin_trial(std::int64_t count);
  void end_trial(std::int64_t n);
  KvCache fork() const;
  std::int64_t bytes() const;
};

}  // namespace atelier::nn
