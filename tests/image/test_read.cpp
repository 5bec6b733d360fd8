#include <string>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "base/error.h"
#include "image/fixtures.h"
#include "image/read.h"
#include "image/write.h"
#include "io/file_system.h"
#include "support/errors.h"
#include "support/scratch.h"

using namespace atelier::image;
using namespace atelier::test;
using atelier::base::ExitCode;

namespace {

std::string bytes_of(const std::string& name) { return get_file(image_file(name)); }

std::string error_of_bytes(const std::string& bytes, const std::string& name = "x") {
  return error_of(ExitCode::data, [&] { decode_picture(bytes, name); });
}

}  // namespace

TEST_CASE("PNG files of every kind decode to Pillow's pixels") {
  for (const char* name : {"rgb.png", "grey.png", "rgba.png", "grey_alpha.png", "palette.png", "bilevel.png",
                           "interlaced.png", "deep.png", "animated.png"}) {
    CAPTURE(name);
    const Picture picture = read_picture(image_file(name));
    const Image wanted = expected(name);
    CHECK(difference(picture.image, wanted).largest == 0);
    CHECK(picture.info.channels == wanted.channels);
    const ImageInfo info = read_info(image_file(name));
    CHECK(info.width == wanted.width);
    CHECK(info.height == wanted.height);
    CHECK(info.channels == wanted.channels);
    CHECK(info.animated == (std::string(name) == "animated.png"));
  }
  CHECK(read_info(image_file("deep.png")).bits == 16);
  CHECK(read_image(image_file("deep_grey.png")).channels == 1);
}

TEST_CASE("JPEG files decode to Pillow's pixels but for rounding") {
  for (const char* name : {"rgb.jpg", "subsampled.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg", "comment.jpg"}) {
    CAPTURE(name);
    const Difference d = difference(read_image(image_file(name)), expected(name));
    MESSAGE(name << ": largest " << d.largest << ", mean " << d.mean);
    CHECK(d.largest <= 6);
    CHECK(d.mean < 0.8);
  }
}

TEST_CASE("EXIF orientation is applied, all eight of them") {
  for (int orientation = 1; orientation <= 8; ++orientation) {
    CAPTURE(orientation);
    const std::string name = fmt::format("oriented{}.png", orientation);
    const Picture picture = read_picture(image_file(name));
    CHECK(picture.info.orientation == orientation);
    CHECK(picture.info.width == (orientation < 5 ? 3 : 2));
    CHECK(difference(picture.image, expected(name)).largest == 0);
  }
  const ImageInfo turned = read_info(image_file("comment.jpg"));
  CHECK(turned.width == 48);
  CHECK(turned.height == 64);
}

TEST_CASE("what is no picture, or not whole, is refused with exit 65 and a reason") {
  CHECK(error_of_bytes("") == "x: is empty");
  CHECK(error_of_bytes("GIF89a\1\0\1\0") == "x: is a GIF");
  CHECK(error_of_bytes(std::string("RIFF\0\0\0\0WEBPVP8 ", 16)) == "x: is a WebP picture");
  CHECK(error_of_bytes("<svg/>") == "x: is an SVG or XML document");
  CHECK(error_of_bytes("hello") == "x: is neither a PNG nor a JPEG picture");
  CHECK(error_of_bytes("\x89PNG") == "x: the file is truncated");
  CHECK(error_of_bytes(std::string(1000, '\0')) == "x: is neither a PNG nor a JPEG picture");
  CHECK(contains(error_of_bytes(bytes_of("four_inks.jpg")), "four inks without Adobe's marker"));
  CHECK(error_of(ExitCode::no_input, [] { read_image("/nonexistent/x.png"); }) != "(no error)");
  CHECK(error_of(ExitCode::no_input, [] { read_image("/tmp"); }) != "(no error)");
}

TEST_CASE("a file cut anywhere is refused") {
  for (const char* name : {"palette.png", "rgb.jpg", "progressive.jpg"}) {
    const std::string whole = bytes_of(name);
    for (std::size_t size = 0; size < whole.size(); size += 1 + size / 20) {
      CAPTURE(name);
      CAPTURE(size);
      CHECK(error_of_bytes(whole.substr(0, size)) != "(no error)");
    }
  }
}

TEST_CASE("a damaged PNG is told by its checksums") {
  std::string png = bytes_of("rgb.png");
  png[png.size() / 2] = static_cast<char>(png[png.size() / 2] ^ 1);
  CHECK(error_of_bytes(png) == "x: chunk \"IDAT\" has a wrong checksum; the file is damaged");
}

TEST_CASE("sizes are asked first") {
  std::string jpeg = bytes_of("rgb.jpg");
  const std::size_t frame = jpeg.find("\xFF\xC0");
  REQUIRE(frame != std::string::npos);
  jpeg.replace(frame + 5, 4, "\xFF\xFF\xFF\xFF");
  CHECK(contains(error_of_bytes(jpeg), "65535x65535 is too large"));
  jpeg.replace(frame + 5, 4, std::string("\0\0\0\1", 4));
  CHECK(contains(error_of_bytes(jpeg), "is not the size of a picture"));
}

TEST_CASE("kinds of JPEG that are not read are named") {
  std::string jpeg = bytes_of("rgb.jpg");
  const std::size_t frame = jpeg.find("\xFF\xC0");
  std::string other = jpeg;
  other[frame + 1] = '\xC9';
  CHECK(contains(error_of_bytes(other), "arithmetic-coded"));
  other = jpeg;
  other[frame + 4] = 12;
  CHECK(contains(error_of_bytes(other), "12 bits"));
}

TEST_CASE("Huffman tables that claim more codes than they hold are refused before stb_image sees them") {
  const std::string jpeg = bytes_of("rgb.jpg");
  const std::size_t table = jpeg.find("\xFF\xC4");
  REQUIRE(table != std::string::npos);
  const std::size_t length =
      static_cast<unsigned char>(jpeg[table + 2]) * 256u + static_cast<unsigned char>(jpeg[table + 3]);
  std::string many = jpeg;
  many.replace(table + 5, 16, std::string(16, '\xFF'));  // 4080 codes
  CHECK(contains(error_of_bytes(many), "malformed Huffman table"));
  std::string overrun = jpeg;  // one more code than the segment holds
  overrun[table + 20] = static_cast<char>(overrun[table + 20] + static_cast<char>(length - 2));
  CHECK(contains(error_of_bytes(overrun), "malformed Huffman table"));
}

TEST_CASE("pixels that inflate far beyond the picture are refused") {
  // A 1x1 picture whose stream unpacks to 64 MB.
  const std::string zeros(64u << 20, '\0');
  std::string packed(compressBound(zeros.size()), '\0');
  uLongf size = packed.size();
  REQUIRE(compress2(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(zeros.data()),
                    zeros.size(), 1) == Z_OK);
  std::string png = encode_png(Image(1, 1, 3));
  const std::size_t data = png.find("IDAT");
  const auto chunk = [](const std::string& type, const std::string& content) {
    std::string text = type + content;
    const auto crc = crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size()));
    std::string out;
    for (int s = 24; s >= 0; s -= 8) out += static_cast<char>(content.size() >> s);
    out += text;
    for (int s = 24; s >= 0; s -= 8) out += static_cast<char>(crc >> s);
    return out;
  };
  png = png.substr(0, data - 4) + chunk("IDAT", packed.substr(0, size)) + chunk("IEND", "");
  CHECK(contains(error_of_bytes(png), "too much data"));
}
