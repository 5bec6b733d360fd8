#include "models/vae/tiling.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>

#include "base/stop.h"

namespace atelier::models::vae {
namespace {

/// Fades the last rows (dimension 2) or columns (3) of `before` into the first ones of `tile`.
void blend(const at::Tensor& before, at::Tensor& tile, std::int64_t dim, std::int64_t extent) {
  extent = std::min({before.size(dim), tile.size(dim), extent});
  if (extent == 0) return;
  auto rise =
      at::arange(extent, tile.options().dtype(at::kFloat)).div(static_cast<double>(extent)).to(tile.scalar_type());
  rise = dim == 2 ? rise.view({1, 1, extent, 1}) : rise.view({1, 1, 1, extent});
  auto target = tile.narrow(dim, 0, extent);
  target.copy_(before.narrow(dim, before.size(dim) - extent, extent) * (1 - rise) + target * rise);
}

}  // namespace

at::Tensor by_tiles(const at::Tensor& x, const Tiles& t, const std::function<at::Tensor(const at::Tensor&)>& work) {
  std::vector<at::Tensor> above, finished;
  for (std::int64_t i = 0; i < x.size(2); i += t.step) {
    std::vector<at::Tensor> row, kept;
    for (std::int64_t j = 0; j < x.size(3); j += t.step) {
      base::throw_if_stopped();
      const auto piece = x.narrow(2, i, std::min(t.tile, x.size(2) - i)).narrow(3, j, std::min(t.tile, x.size(3) - j));
      at::Tensor tile = work(piece).contiguous();
      // A neighbour has been blended itself by now, as in the reference.
      if (i > 0) blend(above[row.size()], tile, 2, t.blend);
      if (j > 0) blend(row.back(), tile, 3, t.blend);
      kept.push_back(tile.narrow(2, 0, std::min(t.keep, tile.size(2))).narrow(3, 0, std::min(t.keep, tile.size(3))));
      row.push_back(tile);
    }
    finished.push_back(at::cat(kept, 3));
    above = std::move(row);
  }
  return at::cat(finished, 2);
}

}  // namespace atelier::models::vae
