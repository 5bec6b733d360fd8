#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace atelier::image {

/// Within the room: outlines and how they become pixels.

struct Point {
  double x = 0;
  double y = 0;
};

/// x' = a x + c y + e, y' = b x + d y + f, in the order of SVG's matrix().
struct Transform {
  double a = 1, b = 0, c = 0, d = 1, e = 0, f = 0;

  Point operator()(Point p) const { return {a * p.x + c * p.y + e, b * p.x + d * p.y + f}; }
  /// First `inner`, then this one.
  Transform operator*(const Transform& inner) const;
  /// The square root of how much areas grow.
  double scale() const;
};

struct Contour {
  std::vector<Point> points;
  bool closed = false;  ///< matters to strokes; filled contours are always closed
};
using Path = std::vector<Contour>;

/// What a hostile drawing may cost. Error(data) when it is used up.
class Budget {
 public:
  explicit Budget(std::string name) : name_(std::move(name)) {}
  void points(std::size_t count);  ///< at most 2 million
  void work(std::uint64_t steps);  ///< edge crossings and pixels touched: at most 1 billion

 private:
  std::string name_;
  std::uint64_t points_ = 0, work_ = 0;
};

/// Makes contours, curves as chords that are at most `tolerance` off.
class PathBuilder {
 public:
  PathBuilder(double tolerance, Budget& budget) : tolerance_(tolerance), budget_(budget) {}

  void move(Point to);
  void line(Point to);
  void cubic(Point control1, Point control2, Point to);
  void quadratic(Point control, Point to);
  /// SVG's elliptical arc (SVG 1.1, F.6); `rotation` in degrees.
  void arc(double rx, double ry, double rotation, bool large, bool sweep, Point to);
  void ellipse(Point centre, double rx, double ry);
  void close();

  Point current() const { return current_; }
  Path take() { return std::move(path_); }

 private:
  void add(Point to);

  double tolerance_;
  Budget& budget_;
  Path path_;
  Point start_, current_;
  bool open_ = false;
};

Path transformed(Path path, const Transform& transform);

enum class Cap { butt, round, square };
enum class Join { miter, round, bevel };
struct StrokeStyle {
  double width = 1;
  double miter_limit = 4;
  Cap cap = Cap::butt;
  Join join = Join::miter;
};
/// The outline of a stroke, to be filled by the nonzero rule: all its pieces turn the same way.
Path stroked(const Path& path, const StrokeStyle& style, double tolerance, Budget& budget);

/// Fills the path on a canvas of width x height: calls `row` for each row that it touches with the row's number, the
/// first column and the coverage of the pixels from there on, 0 to 1. 16 lines a row, exact within each. Never calls
/// it for an empty span.
using RowSink = std::function<void(int y, int left, std::span<const float> coverage)>;
void fill_path(const Path& path, bool even_odd, int width, int height, Budget& budget, const RowSink& row);

}  // namespace atelier::image
