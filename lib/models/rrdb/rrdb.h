#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/weight_source.h"
#include "nn/conv.h"

namespace atelier::models::rrdb {

/// RRDBNet's sizes, decided once.
struct Config {
  std::int64_t unshuffle =
      1;  ///< the input is first folded by so much into channels: 2 in models of scale 2, 4 in those of 1
  std::int64_t features = 64;   ///< num_feat
  std::int64_t growth = 32;     ///< num_grow_ch
  std::int64_t blocks = 23;     ///< num_block; the anime model has 6
  std::int64_t upsamplers = 2;  ///< each doubles

  /// How much larger pictures become: 4, 2 or 1 of Real-ESRGAN's models, 1 to 16 of ESRGAN's.
  std::int64_t scale() const { return (std::int64_t{1} << upsamplers) / unshuffle; }
  /// How many pixels around one of the input's its result depends on.
  std::int64_t reach() const { return unshuffle * (15 * blocks + 4); }
};

class Block;

/// The generator of ESRGAN (arXiv:1809.00219, section 3.1) and, with the folded input, of Real-ESRGAN (arXiv:2107.10833, figure
/// 4): residual-in-residual dense blocks, then nearest-neighbour doublings with a convolution behind each. Names are
/// Real-ESRGAN's.
class RrdbNet : public nn::Module {
 public:
  explicit RrdbNet(const Config& config);

  /// (B, 3, H, W) RGB in [0, 1], of any size; the result (B, 3, H scale, W scale) may leave [0, 1] a little.
  at::Tensor forward(const at::Tensor& pictures) const;

  const Config& config() const { return config_; }
  at::ScalarType dtype() const { return conv_first_->weight.scalar_type(); }
  at::Device device() const { return conv_first_->weight.device(); }

 private:
  Config config_;
  std::shared_ptr<nn::Conv2d> conv_first_, conv_body_, conv_hr_, conv_last_;
  std::vector<std::shared_ptr<nn::Conv2d>> conv_up_;
  std::vector<std::shared_ptr<Block>> body_;
};

/// Weights under the names of RrdbNet, with the sizes that their shapes tell.
struct File {
  Config config;
  std::shared_ptr<io::WeightSource> weights;
};

/// Recognises Real-ESRGAN's names (`body.0.rdb1.conv1`, also behind `params_ema.` or `params.`), those of ESRGAN's repository
/// (`RRDB_trunk.0.RDB1.conv1`) and its older ones (`model.1.sub.0.RDB1.conv1.0`). Error(data) where the file is of another kind or
/// holds tensors that such a network has no place for.
File open_file(std::shared_ptr<io::WeightSource> file);

}  // namespace atelier::models::rrdb
