#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace atelier::report {

/// Charts as SVG elements that stand in a page: sizes in pixels, colours from the page's style sheet (report/page.h), the
/// numbers behind each mark in its <title>.

/// One bar, and how far it reaches in a bad case or may reach (p95, an interval).
struct Bar {
  std::string label;
  double value = 0;
  std::optional<std::pair<double, double>> interval;
  std::size_t series = 0;  ///< colour
};
struct BarChart {
  std::string title, unit;
  std::vector<Bar> bars;  ///< from the top; values that are not finite are left out
};
std::string to_svg(const BarChart& chart);

struct Point {
  double x = 0, y = 0;
  std::optional<std::pair<double, double>> interval;  ///< of y
  std::string label;                                  ///< for its <title>
};
struct Series {
  std::string name;
  std::vector<Point> points;
};
struct Plot {
  std::string title, x_label, y_label;
  std::vector<Series> series;  ///< each in its own colour, named in a legend where there are several
  bool lines = false;          ///< joins a series' points, by x
};
std::string to_svg(const Plot& plot);

/// Round numbers from at most `low` to at least `high`, about `wanted` of them.
std::vector<double> ticks(double low, double high, int wanted);

}  // namespace atelier::report
