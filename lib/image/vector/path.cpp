#include "image/vector/path.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "base/error.h"

namespace atelier::image {
namespace {

constexpr std::uint64_t kMaxPoints = 2'000'000, kMaxWork = 1'000'000'000;
constexpr int kMaxChords = 1000;  // of one curve

Point operator+(Point p, Point q) { return {p.x + q.x, p.y + q.y}; }
Point operator-(Point p, Point q) { return {p.x - q.x, p.y - q.y}; }
Point operator*(double s, Point p) { return {s * p.x, s * p.y}; }
double length(Point p) { return std::hypot(p.x, p.y); }

int chords(double wanted) { return static_cast<int>(std::clamp(std::ceil(wanted), 1.0, double{kMaxChords})); }

// Of a circle so that no chord is farther off than the tolerance.
int chords_of_turn(double radius, double angle, double tolerance) {
  if (!(radius > tolerance)) return std::max(4, chords(2 * std::abs(angle)));
  return std::max(4, chords(std::abs(angle) / (2 * std::acos(1 - tolerance / radius))));
}

}  // namespace

Transform Transform::operator*(const Transform& inner) const {
  return {a * inner.a + c * inner.b, b * inner.a + d * inner.b,     a * inner.c + c * inner.d,
          b * inner.c + d * inner.d, a * inner.e + c * inner.f + e, b * inner.e + d * inner.f + f};
}

double Transform::scale() const { return std::sqrt(std::abs(a * d - b * c)); }

void Budget::points(std::size_t count) {
  points_ += count;
  if (points_ > kMaxPoints) {
    throw base::Error(base::ExitCode::data, fmt::format("{}: is too complex (more than {} points)", name_, kMaxPoints));
  }
}

void Budget::work(std::uint64_t steps) {
  work_ += steps;
  if (work_ > kMaxWork) throw base::Error(base::ExitCode::data, fmt::format("{}: is too complex to be drawn", name_));
}

void PathBuilder::move(Point to) {
  start_ = current_ = to;
  open_ = false;
}

void PathBuilder::add(Point to) {
  budget_.points(1);
  if (!open_) {
    path_.push_back({{current_}, false});
    open_ = true;
  }
  path_.back().points.push_back(to);
  current_ = to;
}

void PathBuilder::line(Point to) { add(to); }

void PathBuilder::cubic(Point c1, Point c2, Point to) {
  const Point from = current_;
  const double bend = std::max(length(from - 2 * c1 + c2), length(c1 - 2 * c2 + to));
  const int count = chords(std::sqrt(0.75 * bend / tolerance_));
  for (int i = 1; i < count; ++i) {
    const double t = static_cast<double>(i) / count, s = 1 - t;
    add(s * s * s * from + 3 * s * s * t * c1 + 3 * s * t * t * c2 + t * t * t * to);
  }
  add(to);
}

void PathBuilder::quadratic(Point control, Point to) {
  cubic(current_ + (2.0 / 3) * (control - current_), to + (2.0 / 3) * (control - to), to);
}

void PathBuilder::arc(double rx, double ry, double rotation, bool large, bool sweep, Point to) {
  const Point from = current_;
  rx = std::abs(rx);
  ry = std::abs(ry);
  if (rx == 0 || ry == 0) return add(to);
  if (from.x == to.x && from.y == to.y) return;
  const double angle = rotation * std::numbers::pi / 180, cosine = std::cos(angle), sine = std::sin(angle);
  const Point half = 0.5 * (from - to);
  const Point p{cosine * half.x + sine * half.y, -sine * half.x + cosine * half.y};
  const double needed = p.x * p.x / (rx * rx) + p.y * p.y / (ry * ry);
  if (needed > 1) {  // too small to reach: as large as needed
    rx *= std::sqrt(needed);
    ry *= std::sqrt(needed);
  }
  const double squares = rx * rx * p.y * p.y + ry * ry * p.x * p.x;
  const double root = std::sqrt(std::max(0.0, (rx * rx * ry * ry - squares) / squares)) * (large == sweep ? -1 : 1);
  const Point c{root * rx * p.y / ry, -root * ry * p.x / rx};
  const Point centre = Point{cosine * c.x - sine * c.y, sine * c.x + cosine * c.y} + 0.5 * (from + to);
  const double first = std::atan2((p.y - c.y) / ry, (p.x - c.x) / rx);
  double turn = std::atan2((-p.y - c.y) / ry, (-p.x - c.x) / rx) - first;
  if (sweep && turn < 0) turn += 2 * std::numbers::pi;
  if (!sweep && turn > 0) turn -= 2 * std::numbers::pi;
  const int count = chords_of_turn(std::max(rx, ry), turn, tolerance_);
  for (int i = 1; i < count; ++i) {
    const double t = first + turn * i / count, x = rx * std::cos(t), y = ry * std::sin(t);
    add(centre + Point{cosine * x - sine * y, sine * x + cosine * y});
  }
  add(to);
}

void PathBuilder::ellipse(Point centre, double rx, double ry) {
  const int count = chords_of_turn(std::max(rx, ry), 2 * std::numbers::pi, tolerance_);
  move({centre.x + rx, centre.y});
  for (int i = 1; i < count; ++i) {
    const double t = 2 * std::numbers::pi * i / count;
    line({centre.x + rx * std::cos(t), centre.y + ry * std::sin(t)});
  }
  close();
}

void PathBuilder::close() {
  if (!open_) add(current_);  // a lone point, which a round cap shows
  path_.back().closed = true;
  move(start_);
}

Path transformed(Path path, const Transform& transform) {
  for (Contour& contour : path) {
    for (Point& point : contour.points) point = transform(point);
  }
  return path;
}

namespace {

class Stroker {
 public:
  Stroker(const StrokeStyle& style, double tolerance, Budget& budget)
      : style_(style), radius_(style.width / 2), budget_(budget) {
    const int count = chords_of_turn(radius_, 2 * std::numbers::pi, tolerance);
    for (int i = 0; i < count; ++i) {
      const double t = 2 * std::numbers::pi * i / count;
      disc_.push_back({radius_ * std::cos(t), radius_ * std::sin(t)});
    }
  }

  void add(const Contour& contour) {
    std::vector<Point> points;
    for (const Point& p : contour.points) {
      if (points.empty() || length(p - points.back()) > 1e-9) points.push_back(p);
    }
    const bool closed = contour.closed && points.size() > 1;
    if (closed && length(points.front() - points.back()) <= 1e-9) points.pop_back();
    if (points.size() < 2) {
      if (!points.empty()) lone_point(points.front());
      return;
    }
    const std::size_t n = points.size(), segments = closed ? n : n - 1;
    for (std::size_t i = 0; i < segments; ++i) segment(points[i], points[(i + 1) % n]);
    for (std::size_t i = closed ? 0 : 1; i < (closed ? n : n - 1); ++i) {
      join(points[(i + n - 1) % n], points[i], points[(i + 1) % n]);
    }
    if (!closed) {
      cap(points[1], points[0]);
      cap(points[n - 2], points[n - 1]);
    }
  }

  Path take() { return std::move(pieces_); }

 private:
  static Point direction(Point from, Point to) { return (1 / length(to - from)) * (to - from); }
  static Point normal(Point d) { return {-d.y, d.x}; }

  void piece(std::vector<Point> points) {
    double area = 0;
    for (std::size_t i = 0; i < points.size(); ++i) {
      const Point p = points[i], q = points[(i + 1) % points.size()];
      area += p.x * q.y - q.x * p.y;
    }
    if (area < 0) std::reverse(points.begin(), points.end());
    budget_.points(points.size());
    pieces_.push_back({std::move(points), true});
  }

  void disc(Point centre) {
    std::vector<Point> points = disc_;
    for (Point& p : points) p = p + centre;
    piece(std::move(points));
  }

  void segment(Point from, Point to) {
    const Point side = radius_ * normal(direction(from, to));
    piece({from + side, to + side, to - side, from - side});
  }

  void join(Point before, Point at, Point after) {
    const Point in = direction(before, at), out = direction(at, after);
    const double cross = in.x * out.y - in.y * out.x, dot = in.x * out.x + in.y * out.y;
    if (std::abs(cross) < 1e-9 && dot > 0) return;
    constexpr double kSmooth = 0.98;  // the cosine of a turn that only flattened curves make
    if (style_.join == Join::round && dot < kSmooth) return disc(at);
    const double outer = cross > 0 ? -radius_ : radius_;
    const Point first = outer * normal(in), second = outer * normal(out);
    std::vector<Point> points = {at, at + first, at + second};
    const double half_sine_squared = (1 - dot) / 2;  // of half the turn; the miter is 1 / cos of that
    const double half_cosine_squared = 1 - half_sine_squared;
    if (style_.join == Join::miter && half_cosine_squared * style_.miter_limit * style_.miter_limit >= 1) {
      points.insert(points.begin() + 2, at + (1 / (2 * half_cosine_squared)) * (first + second));
    }
    piece(std::move(points));
  }

  // The end of an open line, coming from `from`.
  void cap(Point from, Point end) {
    if (style_.cap == Cap::round) disc(end);
    if (style_.cap == Cap::square) segment(end, end + radius_ * direction(from, end));
  }

  void lone_point(Point at) {
    if (style_.cap == Cap::round) disc(at);
    if (style_.cap == Cap::square) segment(at - Point{radius_, 0}, at + Point{radius_, 0});
  }

  const StrokeStyle& style_;
  double radius_;
  Budget& budget_;
  std::vector<Point> disc_;
  Path pieces_;
};

}  // namespace

Path stroked(const Path& path, const StrokeStyle& style, double tolerance, Budget& budget) {
  if (!(style.width > 0)) return {};
  Stroker stroker(style, tolerance, budget);
  for (const Contour& contour : path) stroker.add(contour);
  return stroker.take();
}

}  // namespace atelier::image
