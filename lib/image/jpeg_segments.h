#pragma once

#include <string>
#include <string_view>

#include "image/metadata.h"
#include "image/read.h"

namespace atelier::image {

inline constexpr std::string_view kJpegSignature = "\xFF\xD8\xFF";

/// Within the room: everything of a JPEG file but its pixels.
struct JpegHeader {
  ImageInfo info;  ///< width and height as stored
  Metadata text;
};

/// Walks the segments of a file that starts with kJpegSignature, to its end marker. Throws Error(data) for what is
/// truncated or is of a kind that is not read.
JpegHeader parse_jpeg(std::string_view bytes, const std::string& name);

/// `jpeg` with the texts put in after its first segment.
std::string with_text(std::string_view jpeg, const Metadata& text);

}  // namespace atelier::image
