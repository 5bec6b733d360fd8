#include "nn/kv_cache.h"

#include <algorithm>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include "nn/cache_codes.h"

namespace atelier::nn {
namespace {

using Parts = LayerCache::Parts;

/// The same operation on every part.
template <typename Step>
Parts each(const Parts& parts, Step step) {
  Parts results;
  for (const at::Tensor& part : parts) results.push_back(step(part));
  return results;
}

Parts join(const std::vector<Parts>& pieces) {
  Parts joined;
  for (std::size_t i = 0; i < pieces.front().size(); ++i) {
    std::vector<at::Tensor> all;
    for (const Parts& piece : pieces) all.push_back(piece[i]);
    joined.push_back(all.size() == 1 ? all.front() : at::cat(all, 1));
  }
  return joined;
}

Parts narrow(const Parts& parts, std::int64_t first, std::int64_t count) {
  return each(parts, [&](const at::Tensor& part) { return part.narrow(1, first, count); });
}

}  // namespace

std::vector<CachePart> cache_parts(CacheFormat format, at::ScalarType dtype, std::int64_t head_dim) {
  if (format == CacheFormat::full) return {{"key", dtype, head_dim}, {"value", dtype, head_dim}};
  return {{"key", at::kChar, head_dim},
          {"value", at::kChar, head_dim},
          {"key_scale", at::kFloat, 1},
          {"value_scale", at::kFloat, 1}};
}

/// k and v: (kv_heads, n, head_dim).
Parts LayerCache::encode(const at::Tensor& k, const at::Tensor& v) const {
  if (format_ == CacheFormat::full) return {k, v};
  const auto [key_codes, key_scales] = to_codes(k);
  const auto [value_codes, value_scales] = to_codes(v);
  return {key_codes, value_codes, key_scales, value_scales};
}

std::pair<at::Tensor, at::Tensor> LayerCache::decode(const Parts& parts, at::ScalarType dtype) const {
  if (format_ == CacheFormat::full) return {parts[0], parts[1]};
  return {from_codes(parts[0], parts[2], dtype), from_codes(parts[1], parts[3], dtype)};
}

std::int64_t LayerCache::filled() const { return window_ > 0 ? std::min(positions_, window_) : positions_; }

void LayerCache::reserve(std::int64_t positions, const Parts& like) {
  const std::int64_t bound = window_ > 0 ? std::min(window_, limit_) : limit_;
  const std::int64_t have = parts_.empty() ? 0 : parts_[0].size(1);
  if (positions <= have) return;
  // Grows by half, so that a long context costs a few copies and a short one little memory.
  const std::int64_t capacity = std::max(positions, std::min(bound, std::max<std::int64_t>(have + have / 2, 64)));
  const std::int64_t kept = filled();
  parts_.resize(like.size());
  for (std::size_t i = 0; i < like.size(); ++i) {
    auto grown = at::empty({like[i].size(0), capacity, like[i].size(2)}, like[i].options());
    if (kept > 0) grown.narrow(1, 0, kept).copy_(parts_[i].narrow(1, 0, kept));
    parts_[i] = grown;
  }
}

/// Puts parts of consecutive positions, at most a window of them, to their places.
void LayerCache::write(std::int64_t position, const Parts& parts) {
  const std::int64_t count = parts[0].size(1);
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t slot = window_ > 0 ? (position + done) % window_ : position + done;
    const std::int64_t piece = window_ > 0 ? std::min(count - done, window_ - slot) : count - done;
    for (std::size_t i = 0; i < parts.size(); ++i)
      parts_[i].narrow(1, slot, piece).copy_(piece == count ? parts[i] : parts[i].narrow(1, done, piece));
    done += piece;
  }
}

void LayerCache::append(const at::Tensor& k, const at::Tensor& v) {
  const std::int64_t n = k.size(0);
  const Parts added = encode(k.transpose(0, 1), v.transpose(0, 1));
  if (recording_) recorded_.push_back(added);
  reserve(window_ > 0 ? std::min(positions_ + n, window_) : positions_ + n, added);
  const std::int64_t skipped = window_ > 0 ? std::max<std::int64_t>(0, n - window_) : 0;  // already out of the window
  write(positions_ + skipped, skipped == 0 ? added : narrow(added, skipped, n - skipped));
  positions_ += n;
}

std::pair<at::Tensor, at::Tensor> LayerCache::past(at::ScalarType dtype) const {
  const std::int64_t kept = window_ > 0 ? std::min(positions_, window_ - 1) : positions_;
  if (kept == 0) return {};
  return decode(in_order(positions_ - kept, kept), dtype);
}

std::pair<at::Tensor, at::Tensor> LayerCache::as_seen(const at::Tensor& k, const at::Tensor& v) const {
  return decode(encode(k.transpose(0, 1), v.transpose(0, 1)), k.scalar_type());
}

/// Kept positions [first, first + count) in order of position.
Parts LayerCache::in_order(std::int64_t first, std::int64_t count) const {
  if (window_ == 0) return narrow(parts_, first, count);
  const std::int64_t slot = first % window_, piece = std::min(count, window_ - slot);
  if (piece == count) return narrow(parts_, slot, count);
  return join({narrow(parts_, slot, piece), narrow(parts_, 0, count - piece)});
}

bool LayerCache::can_truncate(std::int64_t n) const {
  // A query at n sees [n - window + 1, n), the ring holds [positions - window, positions).
  return n <= positions_ && (window_ == 0 || positions_ <= window_ || n + 1 >= positions_);
}

void LayerCache::truncate(std::int64_t n) { positions_ = n; }

void LayerCache::begin_trial(std::int64_t count) {
  trial_begin_ = positions_;
  pushed_out_.clear();
  if (window_ == 0 || positions_ + count <= window_) return;
  const std::int64_t first = std::max(positions_, window_) - window_;
  pushed_out_ =
      each(in_order(first, positions_ + count - window_ - first), [](const at::Tensor& part) { return part.clone(); });
}

void LayerCache::end_trial(std::int64_t positions) {
  const std::int64_t first = std::max(trial_begin_, window_);  // the first position that pushed one out
  trial_begin_ = -1;
  const Parts saved = std::exchange(pushed_out_, {});
  const std::int64_t back = std::max(positions, first), undone = positions_ - back;
  positions_ = positions;
  if (window_ == 0 || undone <= 0) return;
  write(back, narrow(saved, back - first, undone));  // a place has the same remainder a window earlier
}

bool LayerCache::can_cut(std::int64_t begin, std::int64_t count) const {
  if (begin + count > positions_) return false;
  return window_ == 0 || positions_ <= window_ || begin + count <= positions_ - (window_ - 1);
}

void LayerCache::cut(std::int64_t begin, std::int64_t count, const std::function<at::Tensor(const at::Tensor&)>& turn) {
  const std::int64_t behind = std::max(begin + count, positions_ - filled());
  const std::int64_t moved = positions_ - behind, left = positions_ - count;
  if (left == 0) {
    *this = LayerCache(window_, limit_, format_);
    return;
  }
  std::vector<Parts> pieces;
  if (begin > 0 && window_ > 0 && positions_ <= window_) pieces.push_back(in_order(0, begin));
  if (moved > 0) {
    const Parts old = in_order(behind, moved);
    const auto [k, v] = decode(old, at::kFloat);
    Parts turned = encode(turn(k), v);
    for (std::size_t i = 1; i < old.size(); i += 2) turned[i] = old[i].clone();  // values stay as they are
    pieces.push_back(std::move(turned));
  }
  if (window_ > 0) return restore(left, join(pieces));
  if (moved > 0) write(begin, pieces.front());
  positions_ = left;
}

void LayerCache::restore(std::int64_t positions, const Parts& parts) {
  const std::int64_t given = parts[0].size(1);
  const std::int64_t kept = std::min(given, window_ > 0 ? window_ : positions);
  const std::int64_t capacity = window_ > 0 ? std::min(positions, window_) : positions;
  const Parts last = narrow(parts, given - kept, kept);
  parts_ = each(
      last, [&](const at::Tensor& part) { return at::empty({part.size(0), capacity, part.size(2)}, part.options()); });
  positions_ = positions;
  write(positions - kept, last);
}

Parts LayerCache::stop_recording() {
  recording_ = false;
  const auto recorded = std::exchange(recorded_, {});
  return recorded.empty() ? Parts() : join(recorded);
}

LayerCache LayerCache::fork() const {
  LayerCache copy = *this;
  copy.recorded_.clear(), copy.recording_ = false;
  copy.pushed_out_.clear(), copy.trial_begin_ = -1;
  // Only what is filled: a fork for one more token must not cost the whole capacity.
  copy.parts_ = each(parts_, [this](const at::Tensor& part) {
    return part.narrow(1, 0, filled()).clone(at::MemoryFormat::Contiguous);
  });
  return copy;
}

std::int64_t LayerCache::bytes() const {
  std::int64_t sum = 0;
  for (const at::Tensor& part : parts_) sum += static_cast<std::int64_t>(part.nbytes());
  return sum;
}

bool KvCache::can_truncate(std::int64_t n) const {
  return std::all_of(layers.begin(), layers.end(), [n](const LayerCache& layer) { return layer.can_truncate(n); });
}

void KvCache::truncate(std::int64_t n) {
  for (auto& layer : layers) layer.truncate(n);
  positions = n;
}

void KvCache::begin_trial(std::int64_t count) {
  for (auto& layer : layers) layer.begin_trial(count);
}

void KvCache::end_trial(std::int64_t n) {
  for (auto& layer : layers) layer.end_trial(n);
  positions = n;
}

KvCache KvCache::fork() const {
  KvCache copy;
  copy.positions = positions;
  for (const auto& layer : layers) copy.layers.push_back(layer.fork());
  return copy;
}

std::int64_t KvCache::bytes() const {
  std::int64_t sum = 0;
  for (const auto& layer : layers) sum += layer.bytes();
  return sum;
}

}  // namespace atelier::nn
