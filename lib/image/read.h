#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "image/image.h"
#include "image/metadata.h"

namespace atelier::image {

enum class Format { png, jpeg };

/// What a file says of itself; nothing has been decoded.
struct ImageInfo {
  Format format = Format::png;
  int width = 0;          ///< as shown, that is after the orientation
  int height = 0;         ///< as shown
  int channels = 0;       ///< of the decoded picture, 1 to 4
  int bits = 8;           ///< per channel or palette index, in the file
  int orientation = 1;    ///< EXIF's, 1 to 8
  bool animated = false;  ///< an APNG; only its default picture is ever read
};

/// A decoded file: pixels with the orientation applied, and the text that came with them.
struct Picture {
  Image image;
  ImageInfo info;
  Metadata text;
};

/// Reads a PNG or JPEG file with stb_image, its size asked first. 16-bit channels keep their upper byte, palettes are
/// looked up, Adobe CMYK and YCCK become RGB without a profile. Colour profiles and gamma are not applied (as in
/// diffusers and A1111).
///
/// Error(no_input): missing, unreadable, a folder. Error(data), naming the file: empty, truncated, damaged (checksums
/// are checked), neither PNG nor JPEG (GIF, WebP and others by name), above kMaxPixels or 512 MB, arithmetic or
/// lossless JPEG, four-ink JPEG without Adobe's marker. An animation costs a warning and gives its default picture.
Picture read_picture(const std::string& path);
/// The same, pixels only.
Image read_image(const std::string& path);
/// The same of bytes in memory; `name` stands for the file in errors.
Picture decode_picture(std::string_view bytes, const std::string& name);

/// Headers and text only, without decoding the pixels: for --plan and --reproduce. Same errors as far as they show
/// there.
ImageInfo read_info(const std::string& path);
ImageInfo inspect(std::string_view bytes, const std::string& name);
Metadata read_metadata(const std::string& path);

}  // namespace atelier::image
