#include "report/chart.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "report/text.h"

namespace atelier::report {
namespace {

constexpr double kCharacter = 7.2;  // width of one at 12 px, in the widest of the usual fonts
constexpr std::size_t kColours = 8, kMaxLabel = 48;

std::string colour(std::size_t series) { return fmt::format("var(--s{})", series % kColours); }

std::size_t characters(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

/// At most kMaxLabel characters, the rest an ellipsis.
std::string shortened(const std::string& text) {
  if (characters(text) <= kMaxLabel) return text;
  std::size_t seen = 0, at = 0;
  for (; at < text.size(); ++at)
    if ((text[at] & 0xC0) != 0x80 && seen++ == kMaxLabel - 1) break;
  return text.substr(0, at) + "…";
}

std::string svg_begin(double width, double height, const std::string& title) {
  return fmt::format(
      "<svg class=\"chart\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
      "height=\"{1:.0f}\" "
      "role=\"img\" aria-label=\"{2}\">\n<text class=\"title\" x=\"0\" y=\"16\">{2}</text>\n",
      width, height, escape(title));
}

std::string text_at(double x, double y, const char* anchor, const std::string& text, const char* style = "label") {
  return fmt::format("<text class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", style, x, y, anchor,
                     escape(text));
}

std::string line(double x1, double y1, double x2, double y2, const char* style) {
  return fmt::format("<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>\n", style, x1, y1,
                     x2, y2);
}

std::string tick_text(double value) { return fmt::format("{:.6g}", value); }

bool usable(const std::optional<std::pair<double, double>>& interval) {
  return interval && std::isfinite(interval->first) && std::isfinite(interval->second);
}

std::string with_interval(double value, const std::optional<std::pair<double, double>>& interval) {
  return usable(interval)
             ? fmt::format("{} ({} to {})", number(value), number(interval->first), number(interval->second))
             : number(value);
}

/// Maps values to pixels.
struct Scale {
  double low = 0, high = 1, from = 0, to = 1;
  double operator()(double value) const { return from + (value - low) / (high - low) * (to - from); }
};

struct Range {
  double low = INFINITY, high = -INFINITY;
  void take(double value) {
    if (std::isfinite(value)) low = std::min(low, value), high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

}  // namespace

std::vector<double> ticks(double low, double high, int wanted) {
  if (!(high > low)) high = low + std::max(std::abs(low) * 0.1, 1e-6);
  const double rough = (high - low) / std::max(1, wanted);
  const double power = std::pow(10, std::floor(std::log10(rough)));
  const double unit = rough / power;
  const double step = power * (unit <= 1 ? 1 : unit <= 2 ? 2 : unit <= 2.5 ? 2.5 : unit <= 5 ? 5 : 10);
  std::vector<double> values;
  const double first = std::floor(low / step), last = std::ceil(high / step);
  for (double k = first; k <= last; ++k) values.push_back(k * step);
  return values;
}

std::string to_svg(const BarChart& chart) {
  std::vector<Bar> bars;
  Range range;
  range.take(0);
  std::size_t longest = 0;
  for (const Bar& bar : chart.bars) {
    if (!std::isfinite(bar.value)) continue;
    bars.push_back(bar);
    range.take(bar.value);
    if (usable(bar.interval)) range.take(bar.interval->first), range.take(bar.interval->second);
    longest = std::max(longest, characters(shortened(bar.label)));
  }
  if (bars.empty()) return {};
  // short labels can be wider than the mean says: "dpmpp_2m"
  const double left = static_cast<double>(longest) * kCharacter + 22, plot = 460, right = 84, top = 30, pitch = 24;
  const double bottom = top + pitch * static_cast<double>(bars.size());
  const auto marks = ticks(range.low, range.high, 5);
  const Scale x{marks.front(), marks.back(), left, left + plot};
  std::string out = svg_begin(left + plot + right, bottom + 36, chart.title);
  for (const double mark : marks) {
    out += line(x(mark), top - 4, x(mark), bottom, "grid");
    out += text_at(x(mark), bottom + 14, "middle", tick_text(mark), "tick");
  }
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const Bar& bar = bars[i];
    const double y = top + pitch * static_cast<double>(i), middle = y + pitch / 2 - 2;
    const double a = std::min(x(0), x(bar.value)), b = std::max(x(0), x(bar.value));
    double end = b;
    out += text_at(left - 8, middle + 4, "end", shortened(bar.label));
    out += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"2\" "
        "fill=\"{}\"><title>{}</title></rect>\n",
        a, y + 2, std::max(1.0, b - a), pitch - 8, colour(bar.series),
        escape(fmt::format("{}: {} {}", bar.label, with_interval(bar.value, bar.interval), chart.unit)));
    if (usable(bar.interval)) {
      out += line(x(bar.interval->first), middle, x(bar.interval->second), middle, "whisker");
      out += line(x(bar.interval->second), middle - 4, x(bar.interval->second), middle + 4, "whisker");
      end = std::max(end, x(bar.interval->second));
    }
    out += text_at(end + 6, middle + 4, "start", number(bar.value), "value");
  }
  out += text_at(left + plot, bottom + 30, "end", chart.unit, "tick");
  return out + "</svg>\n";
}

namespace {

std::string legend(const std::vector<Series>& series, double x, double top) {
  std::string out;
  double y = top;
  for (std::size_t i = 0; i < series.size(); ++i, y += 18) {
    out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"10\" height=\"10\" rx=\"2\" fill=\"{}\"/>\n", x, y - 9,
                       colour(i));
    out += text_at(x + 16, y, "start", shortened(series[i].name));
  }
  return out;
}

std::string marks_of(const Series& series, std::size_t index, const Scale& x, const Scale& y, bool lines) {
  std::vector<Point> points;
  for (const Point& point : series.points)
    if (std::isfinite(point.x) && std::isfinite(point.y)) points.push_back(point);
  std::string out;
  if (lines && points.size() > 1) {
    std::ranges::stable_sort(points, {}, &Point::x);
    std::string path;
    for (const Point& point : points) path += fmt::format("{:.1f},{:.1f} ", x(point.x), y(point.y));
    out +=
        fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n", path, colour(index));
  }
  for (const Point& point : points) {
    if (usable(point.interval))
      out += fmt::format(
          "<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\" stroke-opacity=\"0.5\"/>\n",
          x(point.x), y(point.interval->first), y(point.interval->second), colour(index));
    out += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4.5\" fill=\"{}\"><title>{}</title></circle>\n", x(point.x),
        y(point.y), colour(index),
        escape(fmt::format("{}: {}, {}", point.label, number(point.x), with_interval(point.y, point.interval))));
  }
  return out;
}

}  // namespace

std::string to_svg(const Plot& plot) {
  Range xs, ys;
  std::size_t longest = 0;
  for (const Series& series : plot.series) {
    longest = std::max(longest, characters(shortened(series.name)));
    for (const Point& point : series.points) {
      if (!std::isfinite(point.x) || !std::isfinite(point.y)) continue;
      xs.take(point.x), ys.take(point.y);
      if (usable(point.interval)) ys.take(point.interval->first), ys.take(point.interval->second);
    }
  }
  if (xs.empty()) return {};
  const double left = 64, width = 480, top = 34, height = 260;
  const bool named = plot.series.size() > 1;
  const double right = named ? static_cast<double>(longest) * kCharacter + 40 : 20;
  const auto x_marks = ticks(xs.low, xs.high, 6), y_marks = ticks(ys.low, ys.high, 5);
  const Scale x{x_marks.front(), x_marks.back(), left, left + width};
  const Scale y{y_marks.front(), y_marks.back(), top + height, top};
  std::string out = svg_begin(left + width + right, top + height + 44, plot.title);
  for (const double mark : y_marks) {
    out += line(left, y(mark), left + width, y(mark), "grid");
    out += text_at(left - 8, y(mark) + 4, "end", tick_text(mark), "tick");
  }
  for (const double mark : x_marks) {
    out += line(x(mark), top + height, x(mark), top + height + 4, "grid");
    out += text_at(x(mark), top + height + 17, "middle", tick_text(mark), "tick");
  }
  out += text_at(left + width / 2, top + height + 36, "middle", plot.x_label, "tick");
  out += fmt::format(
      "<text class=\"tick\" transform=\"translate(14 {:.1f}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
      top + height / 2, escape(plot.y_label));
  for (std::size_t i = 0; i < plot.series.size(); ++i) out += marks_of(plot.series[i], i, x, y, plot.lines);
  if (named) out += legend(plot.series, left + width + 18, top + 12);
  return out + "</svg>\n";
}

}  // namespace atelier::report
