#include <cmath>
#include <string>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "base/error.h"
#include "image/fixtures.h"
#include "image/resize.h"
#include "support/errors.h"

using namespace atelier::image;
using namespace atelier::test;
using atelier::base::ExitCode;

TEST_CASE("resizing equals Pillow's") {
  const Image photo = expected("rgb.png"), small = crop(photo, {0, 0, 32, 24});
  for (const char* name : {"nearest", "box", "bilinear", "bicubic", "lanczos"}) {
    const Filter filter = *parse_filter(name);
    CAPTURE(name);
    for (const auto& [source, width, height] :
         {std::tuple(photo, 40, 31), std::tuple(small, 51, 37), std::tuple(small, 13, 40)}) {
      const Image wanted = expected(fmt::format("resize {} {}x{}", name, width, height));
      CHECK(difference(resize(source, width, height, filter), wanted).largest == 0);
    }
  }
  CHECK(difference(resize(expected("rgba.png"), 39, 41), expected("resize rgba")).largest == 0);
  const FloatImage real = to_float(to_grey(small)), wanted = expected_floats("resize float");
  const FloatImage resized = resize(real, 20, 33, Filter::bicubic);
  REQUIRE(resized.data.size() == wanted.data.size());
  for (std::size_t i = 0; i < wanted.data.size(); ++i) CHECK(std::abs(resized.data[i] - wanted.data[i]) < 1e-6f);
}

TEST_CASE("the same size is a copy, absurd ones are refused") {
  const Image photo = expected("rgb.png");
  CHECK(resize(photo, 64, 48) == photo);
  CHECK(error_of(ExitCode::data, [&] { resize(photo, 100'000, 100'000); }) != "(no error)");
  CHECK(error_of(ExitCode::data, [&] { resize(photo, 0, 5); }) != "(no error)");
  CHECK(resize(Image(1, 1, 3, 77), 9, 5) == Image(9, 5, 3, 77));
  CHECK(resize(Image(9, 5, 1, 77), 1, 1) == Image(1, 1, 1, 77));
}

TEST_CASE("modes: stretch, crop and pad as A1111 places them") {
  const Fit crop_wide = fit_plan(64, 48, 32, 32, ResizeMode::crop);
  CHECK(crop_wide.width == 42);
  CHECK(crop_wide.height == 32);
  CHECK(crop_wide.left == -5);
  const Fit pad_wide = fit_plan(64, 48, 32, 32, ResizeMode::pad);
  CHECK(pad_wide.width == 32);
  CHECK(pad_wide.height == 24);
  CHECK(pad_wide.top == 4);
  const Image photo = expected("rgb.png");
  CHECK(fit(photo, 20, 50, ResizeMode::stretch) == resize(photo, 20, 50));
  CHECK(fit(photo, 32, 32, ResizeMode::crop) == crop(resize(photo, 42, 32), {5, 0, 32, 32}));
  const Image padded = fit(photo, 32, 32, ResizeMode::pad), scaled = resize(photo, 32, 24);
  CHECK(crop(padded, {0, 4, 32, 24}) == scaled);
  CHECK(crop(padded, {0, 0, 32, 1}) == crop(scaled, {0, 0, 32, 1}));
  CHECK(crop(padded, {0, 31, 32, 1}) == crop(scaled, {0, 23, 32, 1}));
  const Image wide = fit(photo, 99, 24, ResizeMode::pad);
  CHECK(crop(wide, {0, 7, 1, 1}) == crop(resize(photo, 32, 24), {0, 7, 1, 1}));
  const Mask mask = fit_mask(Mask(64, 48, 1, 255), 32, 32, ResizeMode::pad);
  CHECK(*mask.at(5, 0) == 0);
  CHECK(*mask.at(5, 16) == 255);
  CHECK(!parse_resize_mode("fill").has_value());
  for (int w = 1; w < 40; ++w) fit(photo, w, 41 - w, w % 2 == 0 ? ResizeMode::crop : ResizeMode::pad);
}
