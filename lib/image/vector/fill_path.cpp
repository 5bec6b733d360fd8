// Scan conversion: along each of 16 lines a row the spans inside the path, whose ends count by the part of a pixel
// that they cover.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "image/vector/path.h"

namespace atelier::image {
namespace {

constexpr int kLines = 16;

struct Edge {
  int first, last;  // lines that it crosses, counted from the top of the canvas, `last` excluded
  double x, step;   // on line `first`, and from line to line
  int turn;         // +1 downwards, -1 upwards
};

class Scanner {
 public:
  Scanner(bool even_odd, int width, int height) : even_odd_(even_odd), width_(width), height_(height) {}

  void add(Point from, Point to) {
    left_ = std::min({left_, from.x, to.x});
    right_ = std::max({right_, from.x, to.x});
    const int turn = from.y < to.y ? 1 : -1;
    if (turn < 0) std::swap(from, to);
    const int first = line_below(from.y), last = line_below(to.y);
    if (first >= last) return;
    const double slope = (to.x - from.x) / (to.y - from.y);
    const double y = (first + 0.5) / kLines;
    edges_.push_back({first, last, from.x + (y - from.y) * slope, slope / kLines, turn});
  }

  void run(Budget& budget, const RowSink& row) {
    const int left = clamp_column(std::floor(left_)), right = clamp_column(std::ceil(right_));
    if (edges_.empty() || left >= right) return;
    std::sort(edges_.begin(), edges_.end(), [](const Edge& a, const Edge& b) { return a.first < b.first; });
    int bottom = 0;
    for (const Edge& edge : edges_) {
      budget.work(static_cast<std::uint64_t>(edge.last - edge.first));
      bottom = std::max(bottom, edge.last);
    }
    const int top_row = edges_.front().first / kLines, end_row = (bottom + kLines - 1) / kLines;
    budget.work(static_cast<std::uint64_t>(end_row - top_row) * static_cast<std::uint64_t>(right - left));
    left_column_ = left;
    columns_ = right - left;
    for (int y = top_row; y < end_row; ++y) {
      coverage_.assign(static_cast<std::size_t>(columns_), 0.0f);
      whole_.assign(static_cast<std::size_t>(columns_) + 1, 0.0f);
      for (int line = y * kLines; line < (y + 1) * kLines; ++line) scan(line);
      float running = 0;
      for (std::size_t i = 0; i < coverage_.size(); ++i) {
        running += whole_[i];
        coverage_[i] = std::clamp((coverage_[i] + running) / kLines, 0.0f, 1.0f);
      }
      row(y, left, coverage_);
    }
  }

 private:
  int clamp_column(double x) const { return static_cast<int>(std::clamp(x, 0.0, static_cast<double>(width_))); }

  // The first line whose middle is at or below y.
  int line_below(double y) const {
    return static_cast<int>(std::clamp(std::ceil(y * kLines - 0.5), 0.0, static_cast<double>(height_) * kLines));
  }

  void scan(int line) {
    for (; next_ < edges_.size() && edges_[next_].first <= line; ++next_) active_.push_back(edges_[next_]);
    std::erase_if(active_, [&](const Edge& edge) { return edge.last <= line; });
    std::sort(active_.begin(), active_.end(), [](const Edge& a, const Edge& b) { return a.x < b.x; });
    int winding = 0;
    double start = 0;
    for (Edge& edge : active_) {
      const bool was_inside = inside(winding);
      winding += edge.turn;
      if (!was_inside && inside(winding)) start = edge.x;
      if (was_inside && !inside(winding)) span(start, edge.x);
    }
    for (Edge& edge : active_) edge.x += edge.step;
  }

  bool inside(int winding) const { return even_odd_ ? winding % 2 != 0 : winding != 0; }

  void span(double from, double to) {
    from = std::clamp(from - left_column_, 0.0, static_cast<double>(columns_));
    to = std::clamp(to - left_column_, 0.0, static_cast<double>(columns_));
    const auto first = static_cast<std::size_t>(from), last = static_cast<std::size_t>(to);
    if (first == last) {
      if (first < coverage_.size()) coverage_[first] += static_cast<float>(to - from);
      return;
    }
    coverage_[first] += static_cast<float>(static_cast<double>(first) + 1 - from);
    whole_[first + 1] += 1;
    whole_[last] -= 1;
    if (last < coverage_.size()) coverage_[last] += static_cast<float>(to - static_cast<double>(last));
  }

  bool even_odd_;
  int width_, height_, left_column_ = 0, columns_ = 0;
  double left_ = 1e300, right_ = -1e300;
  std::vector<Edge> edges_, active_;
  std::size_t next_ = 0;
  std::vector<float> coverage_, whole_;  // parts of pixels, and the changes of the number of whole ones
};

}  // namespace

void fill_path(const Path& path, bool even_odd, int width, int height, Budget& budget, const RowSink& row) {
  Scanner scanner(even_odd, width, height);
  for (const Contour& contour : path) {
    for (std::size_t i = 0; i < contour.points.size(); ++i) {
      scanner.add(contour.points[i], contour.points[(i + 1) % contour.points.size()]);
    }
  }
  scanner.run(budget, row);
}

}  // namespace atelier::image
