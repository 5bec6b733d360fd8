#include "pipelines/upscaling.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/stop.h"
#include "nn/packed_weight.h"
#include "pipelines/pixels.h"
#include "pipelines/weight_files.h"

namespace atelier::pipelines {
namespace {

/// Rows or columns of the given picture that the network sees at once.
struct Span {
  std::int64_t begin = 0, end = 0;
  std::int64_t length() const { return end - begin; }
};

/// Spans of `tile` over `length`, neighbours sharing twice the margin or more. All begin at a multiple of `fold`.
std::vector<Span> spans(std::int64_t length, std::int64_t tile, std::int64_t fold) {
  tile = tile / fold * fold;
  const std::int64_t step = tile - 2 * Upscaler::kMargin;
  std::vector<Span> all;
  for (std::int64_t begin = 0; begin + tile < length; begin += step) all.push_back({begin, begin + tile});
  all.push_back({std::max<std::int64_t>(0, length - tile) / fold * fold, length});
  return all;
}

/// Joins pieces along one dimension of the result: each fades into the next around the middle of what they share.
class Joiner {
 public:
  Joiner(std::int64_t dim, std::int64_t scale) : dim_(dim), scale_(scale) {}

  /// What is finished with `piece` (..., span's length * scale, ...), given the span that follows or null.
  at::Tensor next(const at::Tensor& piece, const Span& span, const Span* following) {
    const std::int64_t zone = 2 * Upscaler::kFade * scale_;
    std::vector<at::Tensor> parts;
    std::int64_t from = 0;
    if (tail_.defined()) {
      from = (seam_ - Upscaler::kFade - span.begin) * scale_;
      at::Tensor rise = (at::arange(zone, piece.options()) + 0.5) / static_cast<double>(zone);
      rise = dim_ == 1 ? rise.view({1, zone, 1}) : rise.view({1, 1, zone});
      parts.push_back(tail_ * (1 - rise) + piece.narrow(dim_, from, zone) * rise);
      from += zone;
    }
    std::int64_t to = piece.size(dim_);
    if (following != nullptr) {
      seam_ = (span.end + following->begin) / 2;
      to = (seam_ - Upscaler::kFade - span.begin) * scale_;
      tail_ = piece.narrow(dim_, to, zone).clone();
    }
    parts.push_back(piece.narrow(dim_, from, to - from));
    return at::cat(parts, dim_);
  }

 private:
  std::int64_t dim_, scale_, seam_ = 0;
  at::Tensor tail_;
};

}  // namespace

UpscalerFiles UpscalerFiles::open(const std::string& path) {
  if (!exists(path)) throw base::Error(base::ExitCode::no_input, fmt::format("{}: no such file", path));
  if (is_folder(path)) throw base::Error(base::ExitCode::no_input, fmt::format("{}: a folder, not a file", path));
  return {path, models::rrdb::open_file(open_weights_file(path))};
}

std::shared_ptr<const Upscaler> Upscaler::load(const UpscalerFiles& files, at::Device device) {
  const at::NoGradGuard no_grad;
  auto network = std::make_shared<models::rrdb::RrdbNet>(files.file.config);
  nn::load_parameters(*network, *files.file.weights, nn::NameMap(), at::kFloat, device);
  nn::pack_when_used(*network);
  return std::shared_ptr<const Upscaler>(new Upscaler(std::move(network)));
}

std::int64_t Upscaler::tiles(const models::rrdb::Config& config, std::int64_t width, std::int64_t height,
                             std::int64_t tile) {
  return static_cast<std::int64_t>(spans(width, tile, config.unshuffle).size() *
                                   spans(height, tile, config.unshuffle).size());
}

Upscaler::Result Upscaler::enlarge(const image::Image& picture, std::int64_t tile,
                                   const std::function<void()>& on_tile) const {
  if (tile < kSmallestTile) throw base::Error(base::ExitCode::internal, "a tile smaller than its margins");
  const at::NoGradGuard no_grad;
  const std::int64_t s = scale();
  image::check_size(picture.width * s, picture.height * s, "the enlarged picture");
  const at::Tensor whole = to_unit_tensor(picture);  // (1, 3, H, W)
  const auto rows = spans(picture.height, tile, network_->config().unshuffle);
  const auto columns = spans(picture.width, tile, network_->config().unshuffle);
  Result result{image::Image(static_cast<int>(picture.width * s), static_cast<int>(picture.height * s), 3), true};
  const auto follower = [](const std::vector<Span>& all, std::size_t i) {
    return i + 1 < all.size() ? &all[i + 1] : nullptr;
  };
  Joiner bands(1, s);
  int finished = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    Joiner joiner(2, s);
    std::vector<at::Tensor> parts;
    for (std::size_t j = 0; j < columns.size(); ++j) {
      base::throw_if_stopped();
      const at::Tensor seen =
          whole.narrow(2, rows[i].begin, rows[i].length()).narrow(3, columns[j].begin, columns[j].length());
      const at::Tensor piece = network_->forward(seen.to(network_->device())).to(at::kCPU)[0];  // (3, h s, w s)
      parts.push_back(joiner.next(piece, columns[j], follower(columns, j)));
      if (on_tile) on_tile();
    }
    const at::Tensor done = bands.next(at::cat(parts, 2), rows[i], follower(rows, i));  // (3, some rows, W s)
    result.finite = result.finite && at::isfinite(done).all().item<bool>();
    image::paste(result.picture, to_image(done * 2 - 1), 0, finished);
    finished += static_cast<int>(done.size(1));
  }
  return result;
}

}  // namespace atelier::pipelines
