#include "schedulers/noise.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>

#include "base/error.h"

namespace atelier::schedulers {

SeededNoise::SeededNoise(std::span<const std::uint64_t> seeds) : seeds_(seeds.begin(), seeds.end()) {
  for (const std::uint64_t seed : seeds) generators_.push_back(at::detail::createCPUGenerator(seed));
}

at::Tensor SeededNoise::normal(at::IntArrayRef shape, at::ScalarType dtype) {
  if (shape.empty() || shape[0] != static_cast<std::int64_t>(generators_.size())) {
    throw base::Error(base::ExitCode::internal, fmt::format("noise for {} results, wanted for {}", generators_.size(),
                                                            shape.empty() ? 0 : shape[0]));
  }
  std::vector<std::int64_t> one = shape.vec();
  one[0] = 1;
  std::vector<at::Tensor> rows;
  for (at::Generator& generator : generators_) rows.push_back(at::randn(one, generator, at::TensorOptions(dtype)));
  return rows.size() == 1 ? rows[0] : at::cat(rows);
}

}  // namespace atelier::schedulers
