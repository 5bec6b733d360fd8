#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

namespace atelier::schedulers {

/// Where noise comes from: one independent stream for each result of a batch, so that result k does not depend on its company.
class NoiseSource {
 public:
  virtual ~NoiseSource() = default;

  /// Standard normal numbers (N, ...) on the CPU, drawn in `dtype` (a float16 draw is not a rounded float32 draw); row k
  /// comes from stream k.
  virtual at::Tensor normal(at::IntArrayRef shape, at::ScalarType dtype) = 0;
  /// The streams' seeds, N of them: DPM++ SDE grows its Brownian trees from them.
  virtual std::span<const std::uint64_t> seeds() const = 0;
};

/// Stream k is torch.Generator("cpu").manual_seed(seeds[k]). The pipeline draws its first latents from the same object, as
/// diffusers does with its list of generators.
class SeededNoise : public NoiseSource {
 public:
  explicit SeededNoise(std::span<const std::uint64_t> seeds);

  /// `shape[0]` must be the number of seeds: Error(internal) otherwise.
  at::Tensor normal(at::IntArrayRef shape, at::ScalarType dtype) override;
  std::span<const std::uint64_t> seeds() const override { return seeds_; }
  at::Generator& generator(std::size_t k) { return generators_.at(k); }

 private:
  std::vector<std::uint64_t> seeds_;
  std::vector<at::Generator> generators_;
};

}  // namespace atelier::schedulers
