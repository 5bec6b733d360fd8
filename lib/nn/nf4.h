#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "nn/module.h"
#include "nn/quantised_blocks.h"
#include "nn/quantised_weight.h"

namespace atelier::nn {

/// The 16 levels of 4-bit NormalFloat: quantiles of the normal distribution, scaled to [-1, 1], with an exact zero
/// (Dettmers et al. 2023, QLoRA, arXiv:2305.14314, appendix E).
extern const std::array<float, 16> nf4_levels;

/// A weight in NF4: blocks of 64 elements of the flattened matrix, each with its largest magnitude, and 4 bits per element:
/// the nearest level of element / magnitude, two to a byte, the first in the upper half (as bitsandbytes packs them). With
/// double quantisation the magnitudes less their mean are held in 8 bits each (QuantisedBlocks): 4.13 bits per element in
/// place of 4.5.
class Nf4Weight : public QuantisedWeight {
 public:
  static constexpr std::int64_t block = 64;

  /// `weight`: (out, in), floating point. Uses LibTorch's threads; the result does not depend on their number.
  static std::shared_ptr<const Nf4Weight> quantise(const at::Tensor& weight, bool double_quantisation = true);

  std::int64_t out() const override { return out_; }
  std::int64_t in() const override { return in_; }
  at::Device device() const override { return codes_.device(); }
  std::int64_t bytes() const override;
  using QuantisedWeight::dequantise;
  at::Tensor dequantise(at::ScalarType dtype, std::int64_t begin, std::int64_t end) const override;

  const at::Tensor& codes() const { return codes_; }  ///< (ceil(elements / 2)) U8
  /// Of the blocks [first, last), (last - first) f32.
  at::Tensor magnitudes(std::int64_t first, std::int64_t last) const;

 private:
  at::Tensor dequantise_anywhere(at::ScalarType dtype, std::int64_t begin, std::int64_t end) const;

  std::int64_t out_ = 0, in_ = 0;
  at::Tensor codes_;
  at::Tensor magnitudes_;  ///< (blocks) f32, or undefined and then
  QuantisedBlocks small_;  ///< their differences from
  double mean_ = 0;
  at::Tensor tree_;  ///< the values of small_'s codes
};

/// As load_parameters, but the weights of all Linear modules whose path starts with `below` are quantised, one after another:
/// at most one is dense at a time, and the pages of the file are let go.
void load_nf4(Module& module, io::WeightSource& source, const NameMap& names, at::ScalarType dtype, at::Device device,
              const std::string& below, bool double_quantisation = true);

/// What load_nf4 makes of an (out, in) weight, in bytes.
std::int64_t nf4_bytes(std::int64_t out, std::int64_t in, bool double_quantisation = true);

}  // namespace atelier::nn
