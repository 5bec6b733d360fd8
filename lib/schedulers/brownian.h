#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include <ATen/core/Tensor.h>

namespace atelier::schedulers {

/// numpy.random.SeedSequence(entropy, spawn_key=..., pool_size=24): many seeds from one, independent of each other
/// (O'Neill 2015, "Developing a seed_seq alternative").
class SeedSequence {
 public:
  explicit SeedSequence(std::uint64_t entropy, std::initializer_list<std::uint64_t> spawn_key = {});
  /// First word of generate_state(n): the only one that is needed here.
  std::uint32_t first() const;

 private:
  static constexpr std::size_t kPool = 24;
  std::array<std::uint32_t, kPool> pool_{};
};

/// A Brownian motion over [t0, t1], fixed by its seed alone: whatever is asked and in which order, the path is the same. Gives
/// the numbers of torchsde.BrownianInterval(halfway_tree=True, tol=1e-6, pool_size=24, entropy=seed) on the CPU, which
/// halves the interval again and again (Brownian bridges) down to points of 6 decimals.
class BrownianTree {
 public:
  /// t0 < t1; `shape` and `dtype` of the increments.
  BrownianTree(double t0, double t1, std::vector<std::int64_t> shape, at::ScalarType dtype, std::uint64_t seed);

  /// W(b) - W(a), a <= b; both are cut to [t0, t1].
  at::Tensor increment(double a, double b) const;

 private:
  /// A halving of the interval: `key` numbers the nodes of one depth from left to right.
  struct Node {
    double start, end;
    std::uint64_t key, depth;
    at::Tensor increment;
  };
  at::Tensor draw(std::uint64_t seed) const;
  void collect(const Node& node, double a, double b, at::Tensor& sum) const;

  double start_, end_;  // rounded
  std::vector<std::int64_t> shape_;
  at::ScalarType dtype_;
  std::uint64_t seed_;
  at::Tensor whole_;  // the increment over all of it
};

}  // namespace atelier::schedulers
