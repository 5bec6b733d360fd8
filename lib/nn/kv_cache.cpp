#include "nn/kv_cache.h"

#include <algorithm>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

namespace atelier::nn {

std::int64_t LayerCache::filled() const { return window_ > 0 ? std::min(positions_, window_) : positions_; }

void LayerCache::reserve(std::int64_t positions, const at::Tensor& like) {
  const std::int64_t bound = window_ > 0 ? std::min(window_, limit_) : limit_;
  const std::int64_t have = k_.defined() ? k_.size(1) : 0;
  if (positions <= have) return;
  // Grows by half, so that a long context costs a few copies and a short one little memory.
  const std::int64_t capacity = std::max(positions, std::min(bound, std::max<std::int64_t>(have + have / 2, 64)));
  const std::int64_t kept = filled();
  for (auto* t : {&k_, &v_}) {
    auto grown = at::empty({like.size(1), capacity, like.size(2)}, like.options());
    if (kept > 0) grown.narrow(1, 0, kept).copy_(t->narrow(1, 0, kept));
    *t = grown;
  }
}

void LayerCache::write(std::int64_t slot, const at::Tensor& k, const at::Tensor& v) {
  k_.narrow(1, slot, k.size(0)).copy_(k.transpose(0, 1));
  v_.narrow(1, slot, v.size(0)).copy_(v.transpose(0, 1));
}

void LayerCache::append(const at::Tensor& k, const at::Tensor& v) {
  const std::int64_t n = k.size(0);
  if (recording_) {
    recorded_k_.push_back(k.transpose(0, 1));
    recorded_v_.push_back(v.transpose(0, 1));
  }
  if (window_ == 0) {
    reserve(positions_ + n, k);
    write(positions_, k, v);
    positions_ += n;
    return;
  }
  reserve(std::min(positions_ + n, window_), k);
  const std::int64_t skipped = std::max<std::int64_t>(0, n - window_);  // already out of the window
  positions_ += skipped;
  for (std::int64_t done = skipped; done < n;) {
    const std::int64_t slot = positions_ % window_;
    const std::int64_t part = std::min(n - done, window_ - slot);
    write(slot, k.narrow(0, done, part), v.narrow(0, done, part));
    done += part;
    positions_ += part;
  }
}

std::pair<at::Tensor, at::Tensor> LayerCache::past() const {
  if (positions_ == 0) return {};
  if (window_ == 0) return {k_.narrow(1, 0, positions_), v_.narrow(1, 0, positions_)};
  const std::int64_t kept = std::min(positions_, window_ - 1);
  if (kept == 0) return {};
  return in_order(positions_ - kept, kept);
}

/// Kept positions [first, first + count) in order of position.
std::pair<at::Tensor, at::Tensor> LayerCache::in_order(std::int64_t first, std::int64_t count) const {
  if (window_ == 0) return {k_.narrow(1, first, count), v_.narrow(1, first, count)};
  const std::int64_t slot = first % window_;
  const auto unroll = [&](const at::Tensor& t) {
    const std::int64_t part = std::min(count, window_ - slot);
    if (part == count) return t.narrow(1, slot, count);
    return at::cat({t.narrow(1, slot, part), t.narrow(1, 0, count - part)}, 1);
  };
  return {unroll(k_), unroll(v_)};
}

bool LayerCache::can_truncate(std::int64_t n) const {
  // A query at n sees [n - window + 1, n), the ring holds [positions - window, positions).
  return n <= positions_ && (window_ == 0 || positions_ <= window_ || n + 1 >= positions_);
}

void LayerCache::truncate(std::int64_t n) { positions_ = n; }

bool LayerCache::can_cut(std::int64_t begin, std::int64_t count) const {
  if (begin + count > positions_) return false;
  return window_ == 0 || positions_ <= window_ || begin + count <= positions_ - (window_ - 1);
}

void LayerCache::cut(std::int64_t begin, std::int64_t count, const std::function<at::Tensor(const at::Tensor&)>& turn) {
  const std::int64_t behind = std::max(begin + count, positions_ - filled());
  const std::int64_t moved = positions_ - behind;
  if (window_ == 0) {
    if (moved > 0) {
      k_.narrow(1, begin, moved).copy_(turn(k_.narrow(1, behind, moved)));
      v_.narrow(1, begin, moved).copy_(v_.narrow(1, behind, moved).clone());
    }
    positions_ -= count;
    return;
  }
  std::vector<at::Tensor> keys, values;
  if (positions_ <= window_ && begin > 0) {
    const auto [k, v] = in_order(0, begin);
    keys.push_back(k), values.push_back(v);
  }
  if (moved > 0) {
    const auto [k, v] = in_order(behind, moved);
    keys.push_back(turn(k)), values.push_back(v);
  }
  const std::int64_t left = positions_ - count;
  if (left == 0)
    *this = LayerCache(window_, limit_);
  else
    restore(left, at::cat(keys, 1), at::cat(values, 1));
}

void LayerCache::restore(std::int64_t positions, const at::Tensor& k, const at::Tensor& v) {
  const std::int64_t kept = std::min(k.size(1), window_ > 0 ? window_ : positions);
  const std::int64_t capacity = window_ > 0 ? std::min(positions, window_) : positions;
  at::Tensor laid[2];
  const at::Tensor* from[2] = {&k, &v};
  for (int i = 0; i < 2; ++i) {
    const at::Tensor last = from[i]->narrow(1, from[i]->size(1) - kept, kept);
    laid[i] = at::empty({k.size(0), capacity, k.size(2)}, k.options());
    for (std::int64_t done = 0; done < kept;) {
      const std::int64_t slot = (positions - kept + done) % capacity;  // capacity is the window once a ring is full
      const std::int64_t part = std::min(kept - done, capacity - slot);
      laid[i].narrow(1, slot, part).copy_(last.narrow(1, done, part));
      done += part;
    }
  }
  k_ = laid[0];
  v_ = laid[1];
  positions_ = positions;
}

std::pair<at::Tensor, at::Tensor> LayerCache::stop_recording() {
  recording_ = false;
  const auto k = std::exchange(recorded_k_, {}), v = std::exchange(recorded_v_, {});
  if (k.empty()) return {};
  return {at::cat(k, 1), at::cat(v, 1)};
}

LayerCache LayerCache::fork() const {
  LayerCache copy = *this;
  copy.recorded_k_.clear(), copy.recorded_v_.clear(), copy.recording_ = false;
  if (k_.defined()) {
    // Only what is filled: a fork for one more token must not cost the whole capacity.
    copy.k_ = k_.narrow(1, 0, filled()).clone(at::MemoryFormat::Contiguous);
    copy.v_ = v_.narrow(1, 0, filled()).clone(at::MemoryFormat::Contiguous);
  }
  return copy;
}

std::int64_t LayerCache::bytes() const { return k_.defined() ? 2 * static_cast<std::int64_t>(k_.nbytes()) : 0; }

bool KvCache::can_truncate(std::int64_t n) const {
  return std::all_of(layers.begin(), layers.end(), [n](const LayerCache& layer) { return layer.can_truncate(n); });
}

void KvCache::truncate(std::int64_t n) {
  for (auto& layer : layers) layer.truncate(n);
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
