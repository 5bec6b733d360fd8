#include <chrono>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "image/blend.h"
#include "image/colour.h"
#include "image/fixtures.h"
#include "image/grid.h"
#include "image/mask.h"
#include "image/shapes.h"

using namespace atelier::image;
using namespace atelier::test;

namespace {

constexpr const char* kModes[] = {"normal", "multiply", "screen", "overlay", "soft-light", "luminosity", "poisson"};

}  // namespace

TEST_CASE("blend modes follow W3C's formulas, Poisson the direct solution") {
  const Image original = expected("rgb.png"), painted = expected("other");
  const Mask mask = expected("mask");
  for (const char* name : kModes) {
    CAPTURE(name);
    const Image result = blend(original, painted, mask, *parse_blend_mode(name));
    CHECK(difference(result, expected(std::string("blend ") + name)).largest <= 1);
  }
  CHECK(!parse_blend_mode("hard").has_value());
}

TEST_CASE("where nothing is masked the original comes back bit for bit, in every mode") {
  std::mt19937 random(3);
  Image original(90, 70, 3), painted(90, 70, 3);
  for (auto* image : {&original, &painted}) {
    for (auto& value : image->data) value = static_cast<std::uint8_t>(random());
  }
  const Mask core = rasterise_shape("ellipse:40,30,20,12", 90, 70), mask = feather(core, 8);
  for (const char* name : kModes) {
    CAPTURE(name);
    const Image result = blend(original, painted, mask, *parse_blend_mode(name));
    for (std::size_t i = 0; i < mask.data.size(); ++i) {
      if (mask.data[i] != 0) continue;
      REQUIRE(std::equal(&result.data[3 * i], &result.data[3 * i] + 3, &original.data[3 * i]));
    }
    CHECK(result != original);
    CHECK(blend(original, painted, Mask(90, 70, 1), *parse_blend_mode(name)) == original);
  }
  CHECK(blend(original, painted, Mask(90, 70, 1, 255), BlendMode::normal) == painted);
  CHECK(blend(original, painted, Mask(90, 70, 1, 255), BlendMode::poisson) == painted);
}

TEST_CASE("Poisson takes the surroundings' colour and keeps the painted gradients") {
  Image original(64, 64, 3, 100), painted(64, 64, 3, 180);
  for (int y = 0; y < 64; ++y) {
    for (int x = 0; x < 64; ++x) painted.at(x, y)[0] = static_cast<std::uint8_t>(150 + x);
  }
  const Image result = blend(original, painted, rasterise_shape("rect:16,16,32,32", 64, 64), BlendMode::poisson);
  CHECK(result.at(32, 32)[1] == 100);  // a constant offset vanishes
  CHECK(std::abs(result.at(32, 32)[0] - 100) <= 2);
}

TEST_CASE("Poisson at 512x512 does not take long") {
  std::mt19937 random(1);
  Image original(512, 512, 3), painted(512, 512, 3);
  for (auto* image : {&original, &painted}) {
    for (auto& value : image->data) value = static_cast<std::uint8_t>(random());
  }
  for (const char* shape : {"ellipse:256,256,250,250", "rect:1,1,510,510", "polygon:10,10 500,20 30,490 480,500"}) {
    const Mask mask = rasterise_shape(shape, 512, 512);
    const auto start = std::chrono::steady_clock::now();
    blend(original, painted, mask, BlendMode::poisson);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    MESSAGE("Poisson 512x512 " << shape << ": " << seconds << " s");
    CHECK(seconds < 20);  // about one on a quiet machine, but sanitizers and neighbours slow it
  }
}

TEST_CASE("masked content: fill equals A1111's") {
  CHECK(difference(fill_masked(expected("rgb.png"), expected("mask")), expected("fill")).largest <= 1);
}

TEST_CASE("colour matching") {
  const Image image = expected("rgb.png"), reference = expected("other");
  const Difference mean = difference(match_colours(image, reference, ColourMatch::mean), expected("colours mean"));
  MESSAGE("mean: largest " << mean.largest << ", mean " << mean.mean);
  CHECK(mean.largest <= 2);
  const Difference histogram =
      difference(match_colours(image, reference, ColourMatch::histogram), expected("colours histogram"));
  MESSAGE("histogram: largest " << histogram.largest << ", mean " << histogram.mean);
  // OpenCV rounds Lab from tables: a pixel one level off can fall into a rare bin, which is mapped far away.
  CHECK(histogram.mean < 0.5);
  CHECK(match_colours(image, reference, ColourMatch::none) == image);
  CHECK(match_colours(image, reference, ColourMatch::mean, Mask(64, 48, 1)) == image);
  CHECK(difference(match_colours(image, image, ColourMatch::mean), image).largest <= 1);
  const Mask half = rasterise_shape("rect:0,0,32,48", 64, 48);
  const Image partly = match_colours(image, reference, ColourMatch::histogram, half);
  CHECK(crop(partly, {32, 0, 32, 48}) == crop(image, {32, 0, 32, 48}));
  CHECK(partly != image);
  CHECK(parse_colour_match("histogram") == ColourMatch::histogram);
}

TEST_CASE("grids") {
  const std::vector<Image> images = {Image(4, 4, 3, 10), Image(2, 4, 1, 20), Image(4, 4, 4, 30), Image(4, 2, 3, 40),
                                     Image(4, 4, 3, 50)};
  const Image grid = make_grid(images, 0, 1, 7);
  CHECK(grid.width == 14);
  CHECK(grid.height == 9);
  CHECK(*grid.at(0, 0) == 10);
  CHECK(*grid.at(4, 0) == 7);
  CHECK(*grid.at(5, 0) == 7);
  CHECK(*grid.at(6, 0) == 20);
  CHECK(*grid.at(10, 3) == 30);
  CHECK(*grid.at(0, 5) == 7);
  CHECK(*grid.at(0, 6) == 40);
  CHECK(*grid.at(5, 8) == 50);
  CHECK(*grid.at(13, 8) == 7);
  CHECK(make_grid(images, 5).height == 4);
  CHECK(make_grid(images, 1).width == 4);
}
