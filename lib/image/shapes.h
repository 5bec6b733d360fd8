#pragma once

#include <string>
#include <string_view>

#include "image/image.h"

namespace atelier::image {

/// The mask of a --mask-shape in pixels of a width x height picture, edges antialiased:
///   "rect:x,y,w,h"  "ellipse:cx,cy,rx,ry"  "polygon:x,y x,y x,y ..."
/// Numbers may be fractions and lie outside the picture; (0,0) is the outer corner of the top left pixel. Polygons
/// may cross themselves (nonzero). Error(usage) names what is wrong.
Mask rasterise_shape(std::string_view shape, int width, int height);

/// The mask of an SVG drawing, stretched over width x height as its viewBox and preserveAspectRatio say (without a
/// viewBox: its width and height; without these: one unit is one pixel). Where all shapes have one colour, what is
/// painted is repainted; where their luminance differs, white is repainted and black is kept, as in raster masks.
/// Opacity counts.
///
/// Understood: svg, g, a, path, rect, circle, ellipse, line, polyline, polygon; fill, fill-rule, stroke, -width,
/// -linecap, -linejoin, -miterlimit, opacities, display, visibility, as attributes or in `style`; transform; units.
/// Elements that draw otherwise (text, image, use, gradients, clip paths, filters, style sheets, scripts) are errors
/// rather than left out. Nothing outside the file is ever looked at. Error(data) names `name` and the line: malformed
/// XML, entities, too deep (64), too large (16 MB), too complex.
Mask rasterise_svg(std::string_view bytes, const std::string& name, int width, int height);
/// The same from a file; Error(no_input) where it cannot be read.
Mask read_svg_mask(const std::string& path, int width, int height);

}  // namespace atelier::image
