// A subset of SVG 1.1 that is enough to draw masks: see image/shapes.h.
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "image/shapes.h"
#include "image/vector/numbers.h"
#include "image/vector/path.h"
#include "image/vector/svg_values.h"
#include "image/vector/xml.h"
#include "io/file_system.h"

namespace atelier::image {
namespace {

using base::in_quotes;

constexpr std::size_t kMaxBytes = 16u << 20;
constexpr std::size_t kMaxShapes = 200'000;
constexpr double kTolerance = 0.01;  // pixels

struct Paint {
  bool none = false;
  double luminance = 0;
  double alpha = 1;
};

// The properties that apply to an element; all but opacity and display are inherited.
struct Style {
  Transform transform;
  Paint fill, stroke{true};
  Paint colour;  // currentColor
  double fill_opacity = 1, stroke_opacity = 1, opacity = 1;
  bool even_odd = false, visible = true, displayed = true;
  StrokeStyle line;
};

// What is to be painted, in pixels.
struct Layer {
  Path path;
  bool even_odd;
  double luminance, alpha;
};

struct ViewBox {
  double left = 0, top = 0, width = 0, height = 0;
};

class Drawing {
 public:
  Drawing(std::string_view bytes, const std::string& name, int width, int height)
      : xml_(bytes, name), budget_(name), width_(width), height_(height) {}

  Mask draw() {
    while (xml_.next()) {
      if (xml_.is_start()) {
        start();
      } else if (skipped_ > 0) {
        --skipped_;
      } else {
        styles_.pop_back();
      }
    }
    return paint();
  }

 private:
  void start() {
    const std::string_view name = local_name();
    if (name == "style" || name == "script") {
      xml_.fail(fmt::format("<{}> is not understood; write fill and stroke as attributes", name));
    }
    if (skipped_ > 0) {
      ++skipped_;
      return;
    }
    if (styles_.empty()) {
      if (name != "svg") xml_.fail("is not an SVG drawing");
      styles_.push_back(with_properties(Style{}));
      read_viewport();
      return;
    }
    if (is_passive(name)) {
      ++skipped_;
      return;
    }
    Style style = with_properties(styles_.back());
    if (!style.displayed) {
      ++skipped_;
      return;
    }
    if (name != "g" && name != "a" && !draw_shape(name, style)) {
      xml_.fail(fmt::format("<{}> is not understood in a mask", base::printable(xml_.name())));
    }
    styles_.push_back(std::move(style));
  }

  // Without a prefix, or with the usual one.
  std::string_view local_name() const {
    std::string_view name = xml_.name();
    if (name.starts_with("svg:")) name.remove_prefix(4);
    return name;
  }

  // Elements that paint nothing themselves: definitions, descriptions, what editors note down.
  static bool is_passive(std::string_view name) {
    constexpr std::array kPassive = {"defs",     "title",  "desc",   "metadata",       "symbol",
                                     "clipPath", "mask",   "marker", "linearGradient", "radialGradient",
                                     "pattern",  "filter", "view"};
    return name.find(':') != std::string_view::npos ||
           std::find(kPassive.begin(), kPassive.end(), name) != kPassive.end();
  }

  // Properties ------------------------------------------------------------------------------------------------------

  Style with_properties(Style style) {
    style.displayed = true;
    const std::string* declarations = nullptr;
    for (const XmlReader::Attribute& attribute : xml_.attributes()) {
      if (attribute.name == "style") {
        declarations = &attribute.value;
      } else if (attribute.name == "transform") {
        const std::optional<Transform> inner = parse_transform(attribute.value);
        if (!inner) xml_.fail(fmt::format("transform {} is malformed", in_quotes(attribute.value)));
        style.transform = style.transform * *inner;
      } else {
        property(style, attribute.name, attribute.value);
      }
    }
    for (std::string_view rest = declarations != nullptr ? std::string_view(*declarations) : ""; !rest.empty();) {
      const std::size_t end = std::min(rest.find(';'), rest.size());
      const std::string_view declaration = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      const std::size_t colon = declaration.find(':');
      if (colon != std::string_view::npos)
        property(style, trim(declaration.substr(0, colon)), trim(declaration.substr(colon + 1)));
    }
    return style;
  }

  void property(Style& style, std::string_view name, std::string_view value) {
    value = trim(value);
    if (value == "inherit") return;
    if (name == "fill") {
      style.fill = paint_of(value, style);
    } else if (name == "stroke") {
      style.stroke = paint_of(value, style);
    } else if (name == "color") {
      style.colour = paint_of(value, style);
    } else if (name == "opacity") {
      style.opacity *= share(name, value);
    } else if (name == "fill-opacity") {
      style.fill_opacity = share(name, value);
    } else if (name == "stroke-opacity") {
      style.stroke_opacity = share(name, value);
    } else if (name == "fill-rule") {
      style.even_odd = choose(name, value, {"nonzero", "evenodd"}) == 1;
    } else if (name == "visibility") {
      style.visible = choose(name, value, {"visible", "hidden", "collapse"}) == 0;
    } else if (name == "display") {
      style.displayed = value != "none";
    } else {
      stroke_property(style, name, value);
    }
  }

  void stroke_property(Style& style, std::string_view name, std::string_view value) {
    if (name == "stroke-width") {
      style.line.width = length(name, value, diagonal());
    } else if (name == "stroke-linecap") {
      style.line.cap = static_cast<Cap>(choose(name, value, {"butt", "round", "square"}));
    } else if (name == "stroke-linejoin") {
      style.line.join = static_cast<Join>(choose(name, value, {"miter", "round", "bevel"}));
    } else if (name == "stroke-miterlimit") {
      const std::optional<double> limit = parse_number(value);
      if (!limit || *limit < 1) malformed(name, value);
      style.line.miter_limit = *limit;
    } else if (name == "clip-path" || name == "mask" || name == "filter" || name == "stroke-dasharray") {
      if (value != "none") xml_.fail(fmt::format("{} is not understood in a mask", name));
    }
  }

  [[noreturn]] void malformed(std::string_view name, std::string_view value) const {
    xml_.fail(fmt::format("{} has the value {}", name, in_quotes(value)));
  }

  int choose(std::string_view name, std::string_view value, std::initializer_list<std::string_view> choices) const {
    const auto found = std::find(choices.begin(), choices.end(), value);
    if (found == choices.end()) malformed(name, value);
    return static_cast<int>(found - choices.begin());
  }

  double share(std::string_view name, std::string_view value) const {
    const std::optional<double> number = parse_length(value, 1);
    if (!number) malformed(name, value);
    return std::clamp(*number, 0.0, 1.0);
  }

  double length(std::string_view name, std::string_view value, double whole) const {
    const std::optional<double> number = parse_length(value, whole);
    if (!number || *number < 0) malformed(name, value);
    return *number;
  }

  Paint paint_of(std::string_view value, const Style& style) const {
    if (value == "none" || value == "transparent") return {true};
    if (value == "currentColor" || value == "currentcolor") return style.colour;
    if (value.starts_with("url("))
      xml_.fail("gradients and patterns are not understood in a mask; give a plain colour");
    Paint paint;
    const std::optional<double> luminance = parse_colour(value, paint.alpha);
    if (!luminance) xml_.fail(fmt::format("{} is no colour that is known; write it as #rrggbb", in_quotes(value)));
    paint.luminance = *luminance;
    return paint;
  }

  // The viewport ----------------------------------------------------------------------------------------------------

  double diagonal() const { return std::hypot(view_.width, view_.height) / std::sqrt(2.0); }

  void read_viewport() {
    view_ = {0, 0, static_cast<double>(width_), static_cast<double>(height_)};
    if (const std::string* box = xml_.find("viewBox")) {
      NumberReader reader(trim(*box));
      for (double* value : {&view_.left, &view_.top, &view_.width, &view_.height}) {
        const std::optional<double> number = reader.number();
        if (!number) malformed("viewBox", *box);
        *value = *number;
        reader.skip_separator();
      }
      if (!reader.done()) malformed("viewBox", *box);
    } else {
      side("width", view_.width);
      side("height", view_.height);
    }
    if (!(view_.width > 0) || !(view_.height > 0)) xml_.fail("the drawing's size must be above 0");
    Style& root = styles_.back();
    root.transform = viewport_transform() * root.transform;
  }

  void side(std::string_view name, double& to) const {
    const std::string* value = xml_.find(name);
    if (value == nullptr || trim(*value).ends_with('%') || trim(*value) == "auto") return;
    to = length(name, *value, 0);
  }

  Transform viewport_transform() const {
    double x = width_ / view_.width, y = height_ / view_.height;
    const std::string* given = xml_.find("preserveAspectRatio");
    const std::string_view aspect = given != nullptr ? trim(*given) : "xMidYMid meet";
    double at_x = 0.5, at_y = 0.5;
    if (aspect != "none") {
      x = y = aspect.ends_with("slice") ? std::max(x, y) : std::min(x, y);
      const auto place = [&](std::string_view low, std::string_view high) {
        return aspect.find(low) != std::string_view::npos    ? 0.0
               : aspect.find(high) != std::string_view::npos ? 1.0
                                                             : 0.5;
      };
      at_x = place("xMin", "xMax");
      at_y = place("YMin", "YMax");
    }
    return {x,
            0,
            0,
            y,
            at_x * (width_ - x * view_.width) - x * view_.left,
            at_y * (height_ - y * view_.height) - y * view_.top};
  }

  // Shapes ----------------------------------------------------------------------------------------------------------

  double number(std::string_view name, double whole, double otherwise = 0) const {
    const std::string* value = xml_.find(name);
    if (value == nullptr) return otherwise;
    const std::optional<double> parsed = parse_length(*value, whole);
    if (!parsed) malformed(name, *value);
    return *parsed;
  }

  bool draw_shape(std::string_view name, const Style& style) {
    const double tolerance = kTolerance / std::max(style.transform.scale(), 1e-9);
    PathBuilder builder(tolerance, budget_);
    if (name == "path") {
      const std::string* data = xml_.find("d");
      if (data != nullptr && !parse_path_data(*data, builder)) xml_.fail("the path data is malformed");
    } else if (name == "polyline" || name == "polygon") {
      const std::string* points = xml_.find("points");
      if (points != nullptr && !parse_points(*points, builder)) xml_.fail("the points are malformed");
      if (points != nullptr && name == "polygon" && !trim(*points).empty()) builder.close();
    } else if (name == "line") {
      builder.move({number("x1", view_.width), number("y1", view_.height)});
      builder.line({number("x2", view_.width), number("y2", view_.height)});
    } else if (name == "rect") {
      add_rect(builder);
    } else if (name == "circle" || name == "ellipse") {
      const bool circle = name == "circle";
      const double rx = number(circle ? "r" : "rx", circle ? diagonal() : view_.width),
                   ry = circle ? rx : number("ry", view_.height);
      if (rx < 0 || ry < 0) xml_.fail("a radius is negative");
      if (rx > 0 && ry > 0) builder.ellipse({number("cx", view_.width), number("cy", view_.height)}, rx, ry);
    } else {
      return false;
    }
    if (style.visible) add_layers(builder.take(), style, tolerance, name == "line");
    return true;
  }

  void add_rect(PathBuilder& builder) {
    const double x = number("x", view_.width), y = number("y", view_.height);
    const double w = number("width", view_.width), h = number("height", view_.height);
    if (w < 0 || h < 0) xml_.fail("a rectangle's size is negative");
    if (w == 0 || h == 0) return;
    double rx = number("rx", view_.width, -1), ry = number("ry", view_.height, -1);
    if (rx < 0) rx = std::max(ry, 0.0);
    if (ry < 0) ry = rx;
    rx = std::min(rx, w / 2);
    ry = std::min(ry, h / 2);
    builder.move({x + rx, y});
    builder.line({x + w - rx, y});
    builder.arc(rx, ry, 0, false, true, {x + w, y + ry});
    builder.line({x + w, y + h - ry});
    builder.arc(rx, ry, 0, false, true, {x + w - rx, y + h});
    builder.line({x + rx, y + h});
    builder.arc(rx, ry, 0, false, true, {x, y + h - ry});
    builder.line({x, y + ry});
    builder.arc(rx, ry, 0, false, true, {x + rx, y});
    builder.close();
  }

  void add_layers(const Path& path, const Style& style, double tolerance, bool only_stroke) {
    if (!style.fill.none && !only_stroke) {
      add_layer(path, style.transform, style.even_odd, style.fill, style.fill_opacity * style.opacity);
    }
    if (!style.stroke.none) {
      add_layer(stroked(path, style.line, tolerance, budget_), style.transform, false, style.stroke,
                style.stroke_opacity * style.opacity);
    }
  }

  void add_layer(Path path, const Transform& transform, bool even_odd, const Paint& paint, double opacity) {
    const double alpha = paint.alpha * opacity;
    if (path.empty() || !(alpha > 0)) return;
    if (layers_.size() >= kMaxShapes) xml_.fail(fmt::format("has more than {} shapes", kMaxShapes));
    path = transformed(std::move(path), transform);
    for (const Contour& contour : path) {
      for (const Point& p : contour.points) {
        if (!(std::abs(p.x) < 1e15) || !(std::abs(p.y) < 1e15)) xml_.fail("a shape lies too far off");
      }
    }
    layers_.push_back({std::move(path), even_odd, paint.luminance, alpha});
  }

  // One colour throughout means what is painted; several mean their luminance.
  Mask paint() {
    const bool grey_levels = std::any_of(layers_.begin(), layers_.end(), [&](const Layer& layer) {
      return std::abs(layer.luminance - layers_.front().luminance) > 1e-6;
    });
    FloatImage canvas(width_, height_, 1);
    for (const Layer& layer : layers_) {
      const auto value = static_cast<float>(grey_levels ? layer.luminance : 1), alpha = static_cast<float>(layer.alpha);
      fill_path(layer.path, layer.even_odd, width_, height_, budget_,
                [&](int y, int left, std::span<const float> coverage) {
                  float* out = canvas.at(left, y);
                  for (const float share : coverage) {
                    *out += share * alpha * (value - *out);
                    ++out;
                  }
                });
    }
    return to_bytes(canvas);
  }

  XmlReader xml_;
  Budget budget_;
  int width_, height_;
  ViewBox view_;
  std::vector<Style> styles_;
  std::size_t skipped_ = 0;  // open elements that paint nothing
  std::vector<Layer> layers_;
};

}  // namespace

Mask rasterise_svg(std::string_view bytes, const std::string& name, int width, int height) {
  check_size(width, height, name);
  if (bytes.size() > kMaxBytes) throw base::Error(base::ExitCode::data, fmt::format("{}: is larger than 16 MB", name));
  return Drawing(bytes, name, width, height).draw();
}

Mask read_svg_mask(const std::string& path, int width, int height) {
  return rasterise_svg(io::read_file(path, kMaxBytes), path, width, height);
}

}  // namespace atelier::image
