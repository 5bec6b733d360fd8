#pragma once

#include <optional>
#include <string_view>

#include "image/vector/path.h"

namespace atelier::image {

/// Within the room: the values of SVG's attributes. Each gives nothing for what is malformed.

/// "translate(1,2) rotate(45)".
std::optional<Transform> parse_transform(std::string_view text);

/// A length in user units: px and none, pt, pc, mm, cm, in, em and ex (of 16 px), and % of `whole`.
std::optional<double> parse_length(std::string_view text, double whole);

/// The luminance, 0 to 1, of "#rgb", "#rrggbb" (also with alpha digits), "rgb(...)", and the names of CSS 1 and a few
/// more. `alpha` is multiplied by the colour's own.
std::optional<double> parse_colour(std::string_view text, double& alpha);

/// Path data; what comes before an error is not kept.
bool parse_path_data(std::string_view text, PathBuilder& builder);

/// "x,y x,y ..." of polyline and polygon.
bool parse_points(std::string_view text, PathBuilder& builder);

}  // namespace atelier::image
