#include "image/shapes.h"

#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "image/vector/numbers.h"
#include "image/vector/path.h"

namespace atelier::image {
namespace {

using base::Error;
using base::ExitCode;

constexpr double kTolerance = 0.02;  // pixels

Error bad(std::string_view shape, const std::string& why) {
  return Error(ExitCode::usage, fmt::format("mask shape {}: {}", base::in_quotes(shape), why),
               R"(shapes are "rect:x,y,w,h", "ellipse:cx,cy,rx,ry" and "polygon:x,y x,y x,y ...")");
}

std::vector<double> numbers_of(std::string_view shape, std::string_view text) {
  std::vector<double> numbers;
  NumberReader reader(text);
  reader.skip_blanks();
  while (!reader.done()) {
    const std::string_view left = reader.rest();
    const std::optional<double> number = reader.number();
    if (!number) throw bad(shape, fmt::format("{} is no number (up to a billion)", base::in_quotes(left)));
    numbers.push_back(*number);
    const std::size_t before = reader.rest().size();
    reader.skip_separator();
    const bool separated = reader.rest().size() < before;
    if (!reader.done() && !separated) throw bad(shape, fmt::format("{} is not a number", base::in_quotes(left)));
  }
  return numbers;
}

Path outline(std::string_view shape, Budget& budget) {
  const std::size_t colon = shape.find(':');
  if (colon == std::string_view::npos) throw bad(shape, "has no colon after its kind");
  const std::string_view kind = trim(shape.substr(0, colon));
  const bool polygon = kind == "polygon";
  if (!polygon && kind != "rect" && kind != "ellipse")
    throw bad(shape, fmt::format("{} is no kind of shape", base::in_quotes(kind)));
  const std::vector<double> n = numbers_of(shape, shape.substr(colon + 1));
  PathBuilder builder(kTolerance, budget);
  if (polygon) {
    if (n.size() % 2 != 0 || n.size() < 6) throw bad(shape, "needs at least three points of two numbers each");
    builder.move({n[0], n[1]});
    for (std::size_t i = 2; i < n.size(); i += 2) builder.line({n[i], n[i + 1]});
    builder.close();
    return builder.take();
  }
  if (n.size() != 4) throw bad(shape, fmt::format("has {} numbers instead of 4", n.size()));
  if (!(n[2] > 0) || !(n[3] > 0))
    throw bad(shape, kind == "rect" ? "its width and height must be above 0" : "its radii must be above 0");
  if (kind == "ellipse") {
    builder.ellipse({n[0], n[1]}, n[2], n[3]);
  } else {
    builder.move({n[0], n[1]});
    builder.line({n[0] + n[2], n[1]});
    builder.line({n[0] + n[2], n[1] + n[3]});
    builder.line({n[0], n[1] + n[3]});
    builder.close();
  }
  return builder.take();
}

}  // namespace

Mask rasterise_shape(std::string_view shape, int width, int height) {
  Budget budget("mask shape");
  const Path path = outline(shape, budget);
  Mask mask(width, height, 1);
  fill_path(path, false, width, height, budget, [&](int y, int left, std::span<const float> coverage) {
    std::uint8_t* out = mask.at(left, y);
    for (const float share : coverage) *out++ = static_cast<std::uint8_t>(std::lround(share * 255));
  });
  return mask;
}

}  // namespace atelier::image
