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
  const std::int64_t first = (positions_ - kept) % window_;
  const auto unroll = [&](const at::Tensor& t) {
    const std::int64_t part = std::min(kept, window_ - first);
    if (part == kept) return t.narrow(1, first, kept);
    return at::cat({t.narrow(1, first, part), t.narrow(1, 0, kept - part)}, 1);
  };
  return {unroll(k_), unroll(v_)};
}

LayerCache LayerCache::fork() const {
  LayerCache copy = *this;
  if (k_.defined()) {
    // Only what is filled: a fork for one more token must not cost the whole capacity.
    copy.k_ = k_.narrow(1, 0, filled()).clone(at::MemoryFormat::Contiguous);
    copy.v_ = v_.narrow(1, 0, filled()).clone(at::MemoryFormat::Contiguous);
  }
  return copy;
}

std::int64_t LayerCache::bytes() const { return k_.defined() ? 2 * static_cast<std::int64_t>(k_.nbytes()) : 0; }

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
