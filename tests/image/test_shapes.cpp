#include <string>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "base/error.h"
#include "image/fixtures.h"
#include "image/shapes.h"
#include "support/errors.h"

using namespace atelier::image;
using namespace atelier::test;
using atelier::base::ExitCode;

namespace {

Mask svg(const std::string& body, const std::string& attributes = R"x(viewBox="0 0 40 30")x", int width = 40,
         int height = 30) {
  return rasterise_svg(
      fmt::format(R"x(<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" {}>{}</svg>)x", attributes, body),
      "m.svg", width, height);
}

void check_close(const Mask& mask, const std::string& name) {
  const Difference d = difference(mask, expected(name));
  CAPTURE(name);
  CHECK(d.largest <= 20);  // the fixture is sampled at 16x16 points a pixel
  CHECK(d.mean < 0.4);
}

std::string refused(const std::string& body) {
  return error_of(ExitCode::data, [&] { svg(body); });
}

}  // namespace

TEST_CASE("shapes from the command line") {
  check_close(rasterise_shape("ellipse:20.5,14,15.25,9", 40, 30), "shape ellipse");
  check_close(rasterise_shape("polygon:4,2 36.5,2 14,27", 40, 30), "shape triangle");
  check_close(rasterise_shape("rect:3.25,-5,17.25,12.5", 40, 30), "shape rect");
  CHECK(rasterise_shape("rect:1e3,0,5,5", 40, 30) == Mask(40, 30, 1));
  CHECK(rasterise_shape("rect:-1e9,-1e9,1e9,1e9", 4, 3) == Mask(4, 3, 1));
  CHECK(rasterise_shape("rect: -5, -5, 1000000, 1000000", 4, 3) == Mask(4, 3, 1, 255));
}

TEST_CASE("malformed shapes are exit 64 and say what is wrong") {
  const auto message = [](const char* shape) {
    return error_of(ExitCode::usage, [&] { rasterise_shape(shape, 8, 8); });
  };
  CHECK(contains(message("rect"), "no colon"));
  CHECK(contains(message("circle:1,2,3"), "\"circle\" is no kind of shape"));
  CHECK(contains(message("rect:1,2,3"), "3 numbers instead of 4"));
  CHECK(contains(message("rect:1,2,0,4"), "above 0"));
  CHECK(contains(message("ellipse:1,2,x,4"), "\"x,4\" is no number"));
  CHECK(contains(message("polygon:1,2 3,4"), "three points"));
  CHECK(contains(message("polygon:1,2 3,4 5"), "three points"));
  CHECK(contains(message("rect:1,2,3,4,"), "(no error)"));
  CHECK(contains(message("rect:nan,2,3,4"), "is no number"));
  CHECK(contains(message("rect:1e99,2,3,4"), "is no number"));
}

TEST_CASE("SVG: basic shapes, transforms, strokes, paths") {
  check_close(svg(R"x(<ellipse cx="20.5" cy="14" rx="15.25" ry="9"/>)x"), "shape ellipse");
  check_close(svg(R"x(<path d="M4 2h32.5L14,27z"/>)x"), "shape triangle");
  check_close(svg(R"x(<polygon points="4,2 36.5 2, 14 27" fill="red"/>)x"), "shape triangle");
  check_close(svg(R"x(<rect x="3.25" y="-5" width="17.25" height="12.5"/>)x"), "shape rect");
  check_close(
      svg(R"x(<g transform="translate(20 15)"><rect x="-12" y="-5" width="24" height="10" transform="rotate(30)"/></g>)x"),
      "svg turned");
  check_close(
      svg(R"x(<rect x="8" y="10" width="24" height="10" style="fill:#123; stroke: none" transform="rotate(30,20,15)"/>)x"),
      "svg turned");
  check_close(
      svg(R"x(<polyline points="8,8 30,10 22,24" fill="none" stroke="white" stroke-width="8" stroke-linecap="round" stroke-linejoin="round"/>)x"),
      "svg capsule");
  check_close(svg(R"x(<circle cx="20" cy="15" r="9" fill="none" stroke="#000" stroke-width="6"/>)x"), "svg ring");
  check_close(
      svg(R"x(<path fill-rule="evenodd" d="M8 15a12 12 0 1 0 24 0a12 12 0 1 0-24 0zm6 0a6 6 0 1 0 12 0a6 6 0 1 0-12 0z"/>)x"),
      "svg ring");
  check_close(svg(R"x(<path d="M20 15 L20 3 A12 12 0 1 0 32 15 Z"/>)x"), "svg pie");
  check_close(svg(R"x(<path d="M20,15V3a12,12,0,10,12,12z"/>)x"), "svg pie");
  check_close(svg(R"x(<path d="M5 25Q20-5 35 25"/>)x"), "svg arch");
  check_close(svg(R"x(<path d="M5 25C15 5 25 5 35 25Z"/>)x"), "svg arch");
  check_close(
      svg(R"x(<line x1="8" y1="15" x2="32" y2="15" stroke="#fff" stroke-width="10" transform="rotate(30 20 15)"/>)x"),
      "svg turned");
  check_close(
      svg(R"x(<line x1="13" y1="15" x2="27" y2="15" stroke="#fff" stroke-width="10" stroke-linecap="square" transform="rotate(30 20 15)"/>)x"),
      "svg turned");
}

TEST_CASE("SVG: joins") {
  const auto at = [](const char* join, int x, int y) {
    const Mask mask =
        svg(fmt::format(R"x(<path d="M5 25V10H30" fill="none" stroke="#fff" stroke-width="8" {}/>)x", join));
    return static_cast<int>(*mask.at(x, y));
  };
  CHECK(at("", 1, 6) == 255);
  CHECK(at(R"x(stroke-linejoin="bevel")x", 1, 6) == 0);
  CHECK(at(R"x(stroke-linejoin="round")x", 1, 6) == 0);
  CHECK(at(R"x(stroke-linejoin="round")x", 3, 7) == 255);
  CHECK(at(R"x(stroke-miterlimit="1.2")x", 1, 6) == 0);
}

TEST_CASE("SVG: the drawing is stretched over the picture") {
  const Mask half = svg(R"x(<rect width="50%" height="100%"/>)x", R"x(width="100" height="100")x", 64, 64);
  CHECK(*half.at(31, 63) == 255);
  CHECK(*half.at(32, 0) == 0);
  const Mask centred = svg(R"x(<rect width="10" height="10"/>)x", R"x(viewBox="0 0 10 10")x", 40, 20);
  CHECK(*centred.at(9, 5) == 0);
  CHECK(*centred.at(10, 5) == 255);
  CHECK(*centred.at(29, 5) == 255);
  CHECK(*centred.at(30, 5) == 0);
  CHECK(svg(R"x(<rect width="10" height="10"/>)x", R"x(viewBox="0 0 10 10" preserveAspectRatio="none")x", 40, 20) ==
        Mask(40, 20, 1, 255));
  CHECK(svg(R"x(<rect width="10" height="10"/>)x", R"x(viewBox="0 0 10 10" preserveAspectRatio="xMinYMin slice")x", 40,
            20) == Mask(40, 20, 1, 255));
  CHECK(*svg(R"x(<rect width="4" height="4"/>)x", "", 8, 8).at(3, 3) == 255);
  CHECK(*svg(R"x(<rect width="4" height="4"/>)x", "", 8, 8).at(4, 4) == 0);
}

TEST_CASE("SVG: one colour means what is painted, several mean white") {
  CHECK(*svg(R"x(<rect width="9" height="9" fill="black"/>)x").at(4, 4) == 255);
  const Mask both = svg(R"x(<rect width="40" height="30"/><rect width="9" height="9" fill="white"/>)x");
  CHECK(*both.at(4, 4) == 255);
  CHECK(*both.at(20, 20) == 0);
  CHECK(*svg(R"x(<rect width="9" height="9" fill-opacity=".5"/>)x").at(4, 4) == 128);
  CHECK(*svg(R"x(<g opacity="0.5"><rect width="9" height="9" fill="#ffffff80"/></g>)x").at(4, 4) == 64);
  CHECK(*svg(R"x(<g display="none"><rect width="9" height="9"/></g>)x").at(4, 4) == 0);
  CHECK(*svg(R"x(<g visibility="hidden"><rect width="9" height="9" visibility="visible"/></g>)x").at(4, 4) == 255);
  CHECK(*svg(R"x(<defs><rect width="9" height="9"/><g><path d="x"/></g></defs><title>t &amp; u</title>)x").at(4, 4) ==
        0);
  CHECK(*svg(R"x(<sodipodi:namedview a="1"><x/></sodipodi:namedview><svg:rect width="9" height="9"/>)x").at(4, 4) ==
        255);
}

TEST_CASE("SVG: what would be drawn wrongly is refused with its line") {
  CHECK(refused("\n<text>x</text>") == "m.svg:2: <text> is not understood in a mask");
  CHECK(contains(refused(R"x(<rect fill="url(#a)" width="1" height="1"/>)x"), "gradients"));
  CHECK(contains(refused(R"x(<style>.a{fill:none}</style>)x"), "<style> is not understood"));
  CHECK(contains(refused(R"x(<defs><style>.a{fill:none}</style></defs>)x"), "<style> is not understood"));
  CHECK(contains(refused(R"x(<image href="file:///etc/passwd"/>)x"), "<image>"));
  CHECK(contains(refused(R"x(<use href="#a"/>)x"), "<use>"));
  CHECK(contains(refused(R"x(<rect width="1" height="1" clip-path="url(#c)"/>)x"), "clip-path"));
  CHECK(contains(refused(R"x(<rect width="-1" height="1"/>)x"), "negative"));
  CHECK(contains(refused(R"x(<rect width="1q" height="1"/>)x"), "width has the value \"1q\""));
  CHECK(contains(refused(R"x(<path d="M0 0 L1"/>)x"), "path data is malformed"));
  CHECK(contains(refused(R"x(<path d="L1 1"/>)x"), "path data is malformed"));
  CHECK(contains(refused(R"x(<rect fill="rebeccapurplish" width="1" height="1"/>)x"), "no colour that is known"));
  CHECK(contains(refused(R"x(<g transform="rotate(1 2)"/>)x"), "transform"));
  CHECK(contains(refused("<g>"), "</svg> ends nothing"));
  CHECK(contains(refused(R"x(<rect a="&bomb;"/>)x"), "entity"));
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "<g>";
  CHECK(contains(refused(deep), "nested more than 64 deep"));
  const auto whole = [](const char* text) {
    return error_of(ExitCode::data, [&] { rasterise_svg(text, "m.svg", 8, 8); });
  };
  CHECK(contains(whole("<!DOCTYPE svg [<!ENTITY a \"b\">]><svg/>"), "declares entities"));
  CHECK(contains(whole("<html/>"), "is not an SVG drawing"));
  CHECK(contains(whole(""), "is no XML document"));
  CHECK(contains(whole("<svg/><svg/>"), "second element"));
  CHECK(whole("<!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\" \"x.dtd\"><svg/>") == "(no error)");
}

TEST_CASE("SVG: hostile drawings end soon") {
  std::string body = R"x(<path d="M0 0)x";
  for (int i = 0; i < 300'000; ++i) body += "c1e8 1e8-1e8 1e8 1 1";
  CHECK(contains(refused(body + "\"/>"), "too complex"));
  body.clear();
  for (int i = 0; i < 20'000; ++i) body += R"x(<rect width="4000" height="4000"/>)x";
  CHECK(contains(error_of(ExitCode::data, [&] { svg(body, R"x(viewBox="0 0 1000 1000")x", 1000, 1000); }),
                 "too complex"));
}
