#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "base/json.h"
#include "image/filter.h"
#include "image/fixtures.h"
#include "image/mask.h"

using namespace atelier::image;
using namespace atelier::test;

TEST_CASE("Gaussian blur equals Pillow's") {
  const Mask mask = expected("mask");
  for (const double sigma : {0.6, 2.0, 4.5, 30.0}) {
    CAPTURE(sigma);
    CHECK(
        difference(gaussian_blur(mask, static_cast<float>(sigma)), expected(fmt::format("blur {:g}", sigma))).largest ==
        0);
  }
  CHECK(gaussian_blur(mask, 0) == mask);
}

TEST_CASE("growing and shrinking equal dilation and erosion by a disc") {
  const Mask mask = expected("mask");
  for (const int radius : {1, 3, 8, -1, -3, -8}) {
    CAPTURE(radius);
    CHECK(grow(mask, radius) == expected(fmt::format("grow {}", radius)));
  }
  CHECK(grow(mask, 0) == mask);
  CHECK(grow(mask, 1000) == Mask(mask.width, mask.height, 1, *std::max_element(mask.data.begin(), mask.data.end())));
}

TEST_CASE("feathering ends where it says") {
  const Mask mask = expected("mask");
  CHECK(feather(mask, 3) == expected("feather 3"));
  CHECK(feather(mask, 6.5f) == expected("feather 6.5"));
  CHECK(feather(mask, 0) == mask);
  Mask dot(41, 41, 1);
  for (int y = 15; y < 26; ++y) std::fill_n(dot.at(15, y), 11, std::uint8_t{255});
  const Mask soft = feather(dot, 8);
  CHECK(bounding_box(soft).left >= 15 - 8);
  CHECK(bounding_box(soft).left <= 15 - 5);
  CHECK(*soft.at(20, 20) > 150);
}

TEST_CASE("boxes and the region of only-masked, as A1111 has them") {
  CHECK(bounding_box(Mask(5, 4, 1)).empty());
  const auto cases = atelier::base::read_json_file(image_file("regions.json"));
  for (const auto& item : cases) {
    const int left = item["box"][0], top = item["box"][1], right = item["box"][2], bottom = item["box"][3];
    Mask mask(item["size"][0], item["size"][1], 1);
    *mask.at(left, top) = 1;
    *mask.at(right - 1, bottom - 1) = 255;
    CHECK(bounding_box(mask) == Box{left, top, right - left, bottom - top});
    const Box wanted{item["region"][0], item["region"][1], item["region"][2], item["region"][3]};
    CHECK(crop_region(mask, item["padding"], item["target"][0], item["target"][1]) == wanted);
  }
  CHECK(crop_region(Mask(5, 4, 1), 3, 8, 8).empty());
}

TEST_CASE("what a picture means as a mask") {
  Image image(2, 1, 4);
  SUBCASE("grey levels are the mask, whatever the alpha") {
    image.data = {0, 0, 0, 0, 200, 200, 200, 255};
    CHECK(mask_from_image(image).data == std::vector<std::uint8_t>{0, 200});
  }
  SUBCASE("one colour throughout: the transparent part") {
    image.data = {9, 9, 9, 0, 9, 9, 9, 255};
    CHECK(mask_from_image(image).data == std::vector<std::uint8_t>{255, 0});
  }
  SUBCASE("a coloured picture with a hole: the hole") {
    image.data = {10, 200, 30, 100, 50, 60, 7, 255};
    CHECK(mask_from_image(image).data == std::vector<std::uint8_t>{155, 0});
  }
  SUBCASE("nothing transparent: luma") {
    image.data = {255, 255, 255, 255, 255, 0, 0, 255};
    CHECK(mask_from_image(image).data == std::vector<std::uint8_t>{255, 76});
  }
  SUBCASE("grey and alpha") {
    Image grey(2, 1, 2);
    grey.data = {7, 0, 7, 255};
    CHECK(mask_from_image(grey).data == std::vector<std::uint8_t>{255, 0});
  }
}

TEST_CASE("masks of another size, unions, inversion") {
  CHECK(match_mask(Mask(10, 10, 1, 255), 20, 20, "m.png") == Mask(20, 20, 1, 255));
  CHECK(match_mask(Mask(10, 10, 1, 255), 30, 20, "m.png") == Mask(30, 20, 1, 255));
  const std::vector<Mask> masks = {Mask(2, 2, 1, 5), Mask(2, 2, 1, 9), Mask(2, 2, 1, 1)};
  CHECK(unite(masks) == Mask(2, 2, 1, 9));
  CHECK(invert(Mask(2, 2, 1, 5)) == Mask(2, 2, 1, 250));
  CHECK(binarise(Mask(1, 1, 1, 128)) == Mask(1, 1, 1, 255));
  CHECK(binarise(Mask(1, 1, 1, 127)) == Mask(1, 1, 1, 0));
}

TEST_CASE("Canny's edges equal OpenCV's") {
  CHECK(difference(canny(expected("rgb.png")), expected("canny rgb")).largest == 0);
  CHECK(difference(canny(to_grey(expected("other")), 60, 150), expected("canny grey")).largest == 0);
  CHECK(canny(Image(1, 1, 3)) == Mask(1, 1, 1));
}
