#include "image/read.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "image/jpeg_segments.h"
#include "image/png_chunks.h"
#include "image/stb.h"
#include "io/file_system.h"

namespace atelier::image {
namespace {

using base::Error;
using base::ExitCode;

constexpr std::size_t kMaxFileBytes = 512u << 20;

// What else a file may be, for the message.
const char* other_format(std::string_view bytes) {
  const auto part = [&](std::size_t at, std::string_view what) {
    return bytes.size() >= at + what.size() && bytes.substr(at, what.size()) == what;
  };
  if (part(0, "GIF8")) return "a GIF";
  if (part(0, "RIFF") && part(8, "WEBP")) return "a WebP picture";
  if (part(4, "ftypavi")) return "an AVIF picture";
  if (part(4, "ftyphei") || part(4, "ftypmif1") || part(4, "ftyphev")) return "a HEIF picture";
  if (part(0, std::string_view("II*\0", 4)) || part(0, std::string_view("MM\0*", 4))) {
    return "a TIFF picture";
  }
  if (part(0, "BM")) return "a BMP picture";
  if (part(0, "\xFF\x0A") || part(4, "JXL ")) return "a JPEG XL picture";
  if (part(4, "jP  ")) return "a JPEG 2000 picture";
  if (part(0, "8BPS")) return "a Photoshop document";
  if (part(0, "%PDF")) return "a PDF document";
  if (part(0, "<svg") || part(0, "<?xml")) return "an SVG or XML document";
  if (part(0, "version https://git-lfs")) return "a Git LFS pointer, not the picture itself";
  return nullptr;
}

struct Header {
  ImageInfo info;
  Metadata text;
};

template <typename Parsed>
Header header_of(Parsed&& parsed) {
  return {parsed.info, std::move(parsed.text)};
}

// Width and height as stored.
Header parse_header(std::string_view bytes, const std::string& name) {
  const auto bad = [&](const std::string& why, std::string hint = {}) {
    return Error(ExitCode::data, fmt::format("{}: {}", name, why), std::move(hint));
  };
  if (bytes.empty()) throw bad("is empty");
  if (bytes.starts_with(kPngSignature)) return header_of(parse_png(bytes, name));
  if (bytes.starts_with(kJpegSignature)) return header_of(parse_jpeg(bytes, name));
  if (kPngSignature.starts_with(bytes) || kJpegSignature.starts_with(bytes)) throw bad("the file is truncated");
  const char* other = other_format(bytes);
  if (other != nullptr) throw bad(fmt::format("is {}", other), "pictures are read from PNG and JPEG files");
  throw bad("is neither a PNG nor a JPEG picture");
}

// EXIF's eight orientations, as where in the stored picture each shown pixel lies.
Image oriented(const Image& stored, int orientation) {
  if (orientation == 1) return stored;
  const bool swapped = orientation >= 5;
  Image shown(swapped ? stored.height : stored.width, swapped ? stored.width : stored.height, stored.channels);
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_below = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  for (int y = 0; y < shown.height; ++y) {
    for (int x = 0; x < shown.width; ++x) {
      int from_x = swapped ? y : x, from_y = swapped ? x : y;
      if (from_right) from_x = stored.width - 1 - from_x;
      if (from_below) from_y = stored.height - 1 - from_y;
      std::copy_n(stored.at(from_x, from_y), stored.channels, shown.at(x, y));
    }
  }
  return shown;
}

ImageInfo as_shown(ImageInfo info) {
  if (info.orientation >= 5) std::swap(info.width, info.height);
  return info;
}

}  // namespace

Picture decode_picture(std::string_view bytes, const std::string& name) {
  Header header = parse_header(bytes, name);
  Image image = stb_decode(
      bytes, static_cast<std::size_t>(header.info.width) * static_cast<std::size_t>(header.info.height), name);
  if (image.width != header.info.width || image.height != header.info.height) {
    throw Error(ExitCode::data, fmt::format("{}: the pixels are damaged (size)", name));
  }
  if (header.info.animated) base::log_warning(fmt::format("{}: is animated; its default picture is used", name));
  header.info.channels = image.channels;
  return {oriented(image, header.info.orientation), as_shown(header.info), std::move(header.text)};
}

Picture read_picture(const std::string& path) { return decode_picture(io::read_file(path, kMaxFileBytes), path); }

Image read_image(const std::string& path) { return std::move(read_picture(path).image); }

ImageInfo inspect(std::string_view bytes, const std::string& name) { return as_shown(parse_header(bytes, name).info); }

ImageInfo read_info(const std::string& path) { return inspect(io::read_file(path, kMaxFileBytes), path); }

Metadata read_metadata(const std::string& path) { return parse_header(io::read_file(path, kMaxFileBytes), path).text; }

}  // namespace atelier::image
