#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "image/image.h"
#include "models/rrdb/rrdb.h"

namespace atelier::pipelines {

/// The file and headers of a network that enlarges pictures.
struct UpscalerFiles {
  std::string path;
  models::rrdb::File file;

  /// .safetensors, or .pth and its kin through the restricted reader. Error(no_input), Error(data).
  static UpscalerFiles open(const std::string& path);
};

/// Pictures enlarged by an RRDB network (ESRGAN, Real-ESRGAN), in f32.
class Upscaler {
 public:
  /// Pixels on each side that a tile shares with its neighbours, and the width on each side of the seam's middle in which one
  /// fades into the other: what stands in the result has been computed with at least their difference around it.
  static constexpr std::int64_t kMargin = 32, kFade = 8;
  static constexpr std::int64_t kSmallestTile = 3 * kMargin;

  /// Looks at the stop flag between tensors.
  static std::shared_ptr<const Upscaler> load(const UpscalerFiles& files, at::Device device);

  std::int64_t scale() const { return network_->config().scale(); }
  /// In how many tiles of this size a picture is computed.
  static std::int64_t tiles(const models::rrdb::Config& config, std::int64_t width, std::int64_t height,
                            std::int64_t tile);

  struct Result {
    image::Image picture;
    bool finite = true;  ///< false: it would hold NaN or infinity
  };
  /// `picture`: RGB. `tile`: how many of its pixels along each side the network sees at once, which bounds the memory; at least
  /// kSmallestTile. Calls `on_tile` after each; looks at the stop flag before. Error(data) above image::kMaxPixels.
  Result enlarge(const image::Image& picture, std::int64_t tile, const std::function<void()>& on_tile = {}) const;

 private:
  explicit Upscaler(std::shared_ptr<models::rrdb::RrdbNet> network) : network_(std::move(network)) {}

  std::shared_ptr<models::rrdb::RrdbNet> network_;
};

}  // namespace atelier::pipelines
