#include <random>
#include <string>

#include <doctest/doctest.h>

#include "base/error.h"
#include "image/fixtures.h"
#include "image/read.h"
#include "image/write.h"
#include "support/errors.h"
#include "support/scratch.h"

using namespace atelier::image;
using namespace atelier::test;
using atelier::base::ExitCode;

namespace {

Image noise(int width, int height, int channels) {
  std::mt19937 random(static_cast<unsigned>(width * 31 + channels));
  Image image(width, height, channels);
  for (auto& value : image.data) value = static_cast<std::uint8_t>(random());
  return image;
}

}  // namespace

TEST_CASE("PNG files come back bit for bit") {
  for (int channels = 1; channels <= 4; ++channels) {
    for (const auto& [width, height] : {std::pair(1, 1), std::pair(5, 3), std::pair(1, 40), std::pair(67, 2)}) {
      const Image image = noise(width, height, channels);
      for (const int level : {0, 1, 6, 9}) {
        CHECK(decode_picture(encode_png(image, {}, {.png_compression = level}), "x").image == image);
      }
    }
  }
  const Image photo = expected("rgb.png");
  const std::string bytes = encode_png(photo);
  CHECK(decode_picture(bytes, "x").image == photo);
  CHECK(encode_png(photo) == bytes);
  // Not larger than Pillow's best by more than a few hundredths.
  CHECK(bytes.size() < get_file(image_file("rgb.png")).size() * 1.05);
}

TEST_CASE("JPEG files are close to what was written") {
  const Image photo = expected("rgb.png");
  const Difference d = difference(decode_picture(encode_jpeg(photo), "x").image, photo);
  CHECK(d.largest < 30);
  CHECK(d.mean < 3);
  const Image grey = to_grey(photo);
  CHECK(difference(to_grey(decode_picture(encode_jpeg(grey), "x").image), grey).mean < 3);
  CHECK(decode_picture(encode_jpeg(noise(4, 4, 4)), "x").image.channels == 3);
}

TEST_CASE("texts travel with PNG files, in any language") {
  const Metadata text = {{"parameters", "a cat\nNegative prompt: \"dog\""},
                         {"latin", "caf\xC3\xA9"},
                         {"atelier", "{\"p\":\"\xE7\x8C\xAB \xF0\x9F\x98\x80\"}"},
                         {"empty", ""}};
  const std::string png = encode_png(noise(3, 3, 3), text);
  const Picture picture = decode_picture(png, "x");
  CHECK(picture.text == text);
  REQUIRE(find_text(picture.text, kParametersKey) != nullptr);
  CHECK(find_text(picture.text, "nothing") == nullptr);
  CHECK(png.find("tEXtlatin") != std::string::npos);
  CHECK(png.find("iTXtatelier") != std::string::npos);
}

TEST_CASE("texts of other writers are read") {
  const Metadata text = read_metadata(image_file("text.png"));
  REQUIRE(find_text(text, "parameters") != nullptr);
  CHECK(*find_text(text, "parameters") == "a caf\xC3\xA9\nSteps: 1");
  std::string longer;
  for (int i = 0; i < 100; ++i) longer += "long ";
  REQUIRE(find_text(text, "packed") != nullptr);
  CHECK(*find_text(text, "packed") == longer);
  REQUIRE(find_text(text, "unicode") != nullptr);
  CHECK(*find_text(text, "unicode") == "\xE7\x8C\xAB \xF0\x9F\x98\x80");
  REQUIRE(find_text(text, "both") != nullptr);
  CHECK(find_text(text, "both")->size() == 150);
  const Metadata comment = read_metadata(image_file("comment.jpg"));
  REQUIRE(find_text(comment, kParametersKey) != nullptr);
  CHECK(*find_text(comment, kParametersKey) ==
        "a cat \xE7\x8C\xAB\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, Size: 64x48");
  REQUIRE(find_text(comment, "Comment") != nullptr);
  CHECK(*find_text(comment, "Comment") == "made by a camera");
}

TEST_CASE("texts travel with JPEG files, also beyond 64 KB") {
  for (const std::size_t size : {std::size_t{10}, std::size_t{65533 - 9}, std::size_t{65533}, std::size_t{200'000}}) {
    const Metadata text = {
        {"parameters", "a \xE7\x8C\xAB\nSteps: 1"}, {"atelier", std::string(size, 'j')}, {"other", "x: y"}};
    CHECK(decode_picture(encode_jpeg(noise(3, 3, 3), text), "x").text == text);
  }
  CHECK(decode_picture(encode_jpeg(noise(3, 3, 3), {{"parameters", std::string(40'000, 'p')}}), "x").text.empty());
}

TEST_CASE("the path's ending chooses the format, and the file is whole") {
  const Scratch scratch;
  const Image photo = expected("rgb.png");
  const std::string png = scratch.file("a.PNG");
  const std::string written = write_image(png, photo, {{"parameters", "p"}});
  CHECK((written == get_file(png)));
  CHECK(read_picture(png).image == photo);
  write_image(scratch.file("a.jpeg"), photo);
  CHECK(read_info(scratch.file("a.jpeg")).format == Format::jpeg);
  CHECK(
      contains(error_of(ExitCode::usage, [&] { write_image(scratch.file("a.webp"), photo); }), ".png, .jpg or .jpeg"));
  CHECK(error_of(ExitCode::usage, [] { check_output_path("x.gif"); }) != "(no error)");
  CHECK(error_of(ExitCode::cannot_create, [&] { write_image(scratch.file("no/a.png"), photo); }) != "(no error)");
}

TEST_CASE("floats become bytes as numpy rounds") {
  FloatImage image(7, 1, 1);
  image.data = {-1.0f, 0.5f / 255, 1.5f / 255, 2.5f / 255, 2.0f, NAN, 254.6f / 255};
  CHECK(to_bytes(image).data == std::vector<std::uint8_t>{0, 0, 2, 2, 255, 0, 255});
}
