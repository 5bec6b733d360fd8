// What is added to the painted picture is the membrane that is spanned by original - painted along the border:
// Laplace's equation, solved by conjugate gradients with one multigrid cycle as preconditioner. Coarse grids join 2x2
// pixels (aggregation), which needs no care for the region's shape.
#include "image/poisson.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "image/mask.h"

namespace atelier::image {
namespace {

using Values = std::vector<float>;

constexpr float kTolerance = 0.05f;  // levels of 255
constexpr int kMaxIterations = 200;
constexpr int kCoarsest = 4;  // pixels a side
constexpr float kDamping = 0.8f;
constexpr int kSmoothings = 2, kCoarsestSmoothings = 16;
// Corrections that are constant over 2x2 pixels are too small by about half (Braess 1995).
constexpr float kCoarseScale = 0.5f;

// The equations of one grid: diagonal[i] * x[i] - right[i] * x[i+1] - right[i-1] * x[i-1] - below[i] * x[i+stride] -
// ... = b[i]. A border of one pixel that belongs to nothing surrounds it.
struct Grid {
  Grid(int w, int h) : width(w), height(h), stride(static_cast<std::size_t>(w) + 2) {
    const std::size_t size = stride * (static_cast<std::size_t>(h) + 2);
    for (Values* values : {&right, &below, &fixed, &diagonal, &inverse, &x, &b, &rest}) values->assign(size, 0.0f);
  }
  std::size_t at(int px, int py) const {
    return (static_cast<std::size_t>(py) + 1) * stride + static_cast<std::size_t>(px) + 1;
  }

  // Once right, below and fixed (the weight of neighbours whose value is given) are there.
  void finish() {
    for (int y = 0; y < height; ++y) {
      for (std::size_t i = at(0, y), end = i + static_cast<std::size_t>(width); i < end; ++i) {
        diagonal[i] = right[i] + right[i - 1] + below[i] + below[i - stride] + fixed[i];
        inverse[i] = diagonal[i] > 0 ? kDamping / diagonal[i] : 0.0f;
      }
    }
  }

  int width, height;
  std::size_t stride;
  Values right, below, fixed, diagonal, inverse, x, b, rest;
};

// result = b - A x
void residual(const Grid& g, const float* __restrict b, const float* __restrict x, float* __restrict result) {
  const float* __restrict diagonal = g.diagonal.data();
  const float* __restrict right = g.right.data();
  const float* __restrict below = g.below.data();
  const std::size_t stride = g.stride;
  for (int y = 0; y < g.height; ++y) {
    for (std::size_t i = g.at(0, y), end = i + static_cast<std::size_t>(g.width); i < end; ++i) {
      result[i] = b[i] - diagonal[i] * x[i] + right[i] * x[i + 1] + right[i - 1] * x[i - 1] + below[i] * x[i + stride] +
                  below[i - stride] * x[i - stride];
    }
  }
}

void smooth(Grid& g, int times) {
  for (int t = 0; t < times; ++t) {
    residual(g, g.b.data(), g.x.data(), g.rest.data());
    for (std::size_t i = 0; i < g.x.size(); ++i) g.x[i] += g.inverse[i] * g.rest[i];
  }
}

class Solver {
 public:
  explicit Solver(std::unique_ptr<Grid> finest) {
    grids_.push_back(std::move(finest));
    while (std::max(grids_.back()->width, grids_.back()->height) > kCoarsest) grids_.push_back(coarser(*grids_.back()));
  }

  // Solves A x = b for the finest grid by preconditioned conjugate gradients.
  Values solve(const Values& b) {
    const Grid& g = *grids_.front();
    Values x(b.size(), 0.0f), r = b, p(b.size(), 0.0f), ap(b.size(), 0.0f), zeros(b.size(), 0.0f);
    double previous = 0;
    for (int i = 0; i < kMaxIterations; ++i) {
      const Values& z = precondition(r);
      const double product = dot(r, z);
      if (largest(z) < kTolerance || !(product > 0)) break;
      const auto beta = static_cast<float>(i == 0 ? 0.0 : product / previous);
      for (std::size_t k = 0; k < p.size(); ++k) p[k] = z[k] + beta * p[k];
      residual(g, zeros.data(), p.data(), ap.data());  // -A p
      const auto alpha = static_cast<float>(-product / dot(p, ap));
      for (std::size_t k = 0; k < p.size(); ++k) {
        x[k] += alpha * p[k];
        r[k] += alpha * ap[k];
      }
      previous = product;
    }
    return x;
  }

 private:
  static std::unique_ptr<Grid> coarser(const Grid& fine) {
    auto result = std::make_unique<Grid>((fine.width + 1) / 2, (fine.height + 1) / 2);
    for (int y = 0; y < fine.height; ++y) {
      for (int x = 0; x < fine.width; ++x) {
        const std::size_t from = fine.at(x, y), to = result->at(x / 2, y / 2);
        if (x % 2 == 1) result->right[to] += kCoarseScale * fine.right[from];
        if (y % 2 == 1) result->below[to] += kCoarseScale * fine.below[from];
        result->fixed[to] += kCoarseScale * fine.fixed[from];
      }
    }
    result->finish();
    return result;
  }

  // One V cycle for A z = r from z = 0, symmetric as conjugate gradients want it.
  const Values& precondition(const Values& r) {
    grids_.front()->b = r;
    cycle(0);
    return grids_.front()->x;
  }

  void cycle(std::size_t level) {
    Grid& g = *grids_[level];
    std::fill(g.x.begin(), g.x.end(), 0.0f);
    if (level + 1 == grids_.size()) {
      smooth(g, kCoarsestSmoothings);
      return;
    }
    smooth(g, kSmoothings);
    residual(g, g.b.data(), g.x.data(), g.rest.data());
    Grid& coarse = *grids_[level + 1];
    std::fill(coarse.b.begin(), coarse.b.end(), 0.0f);
    for (int y = 0; y < g.height; ++y) {
      for (int x = 0; x < g.width; ++x) coarse.b[coarse.at(x / 2, y / 2)] += g.rest[g.at(x, y)];
    }
    cycle(level + 1);
    for (int y = 0; y < g.height; ++y) {
      for (int x = 0; x < g.width; ++x) {
        const std::size_t i = g.at(x, y);
        if (g.inverse[i] > 0) g.x[i] += coarse.x[coarse.at(x / 2, y / 2)];
      }
    }
    smooth(g, kSmoothings);
  }

  static double dot(const Values& a, const Values& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    return sum;
  }

  static float largest(const Values& values) {
    float result = 0;
    for (const float value : values) result = std::max(result, std::abs(value));
    return result;
  }

  std::vector<std::unique_ptr<Grid>> grids_;
};

struct Region {
  const Mask& mask;
  Box box;
  bool inside(int x, int y) const {
    return x >= 0 && y >= 0 && x < mask.width && y < mask.height && *mask.at(x, y) != 0;
  }
  // In the picture but not in the region: its value is given.
  bool given(int x, int y) const {
    return x >= 0 && y >= 0 && x < mask.width && y < mask.height && *mask.at(x, y) == 0;
  }
};

constexpr int kNeighbours[4][2] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}};

std::unique_ptr<Grid> make_grid_of(const Region& region) {
  auto grid = std::make_unique<Grid>(region.box.width, region.box.height);
  for (int y = 0; y < grid->height; ++y) {
    for (int x = 0; x < grid->width; ++x) {
      const int px = region.box.left + x, py = region.box.top + y;
      if (!region.inside(px, py)) continue;
      const std::size_t i = grid->at(x, y);
      if (region.inside(px + 1, py)) grid->right[i] = 1;
      if (region.inside(px, py + 1)) grid->below[i] = 1;
      for (const auto& [dx, dy] : kNeighbours) grid->fixed[i] += region.given(px + dx, py + dy) ? 1.0f : 0.0f;
    }
  }
  grid->finish();
  return grid;
}

}  // namespace

FloatImage solve_poisson(const Image& original, const Image& painted, const Mask& mask) {
  FloatImage result(painted.width, painted.height, 3);
  std::copy(painted.data.begin(), painted.data.end(), result.data.begin());
  const Region region{mask, bounding_box(mask)};
  if (region.box.empty()) return result;
  auto finest = make_grid_of(region);
  const Grid layout = *finest;
  Solver solver(std::move(finest));
  for (int c = 0; c < 3; ++c) {
    Values b(layout.b.size(), 0.0f);
    for (int y = 0; y < region.box.height; ++y) {
      for (int x = 0; x < region.box.width; ++x) {
        const int px = region.box.left + x, py = region.box.top + y;
        if (!region.inside(px, py)) continue;
        for (const auto& [dx, dy] : kNeighbours) {
          if (!region.given(px + dx, py + dy)) continue;
          b[layout.at(x, y)] += static_cast<float>(original.at(px + dx, py + dy)[c] - painted.at(px + dx, py + dy)[c]);
        }
      }
    }
    const Values membrane = solver.solve(b);
    for (int y = 0; y < region.box.height; ++y) {
      for (int x = 0; x < region.box.width; ++x)
        result.at(region.box.left + x, region.box.top + y)[c] += membrane[layout.at(x, y)];
    }
  }
  return result;
}

}  // namespace atelier::image
