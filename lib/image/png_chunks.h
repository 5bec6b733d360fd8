#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "image/metadata.h"
#include "image/read.h"

namespace atelier::image {

inline constexpr std::string_view kPngSignature = "\x89PNG\r\n\x1a\n";

/// Within the room: everything of a PNG file but its pixels.
struct PngHeader {
  ImageInfo info;  ///< width and height as stored
  Metadata text;
};

/// Walks the chunks of a file that starts with kPngSignature. Throws Error(data) for what is truncated, has a bad
/// checksum in a chunk that matters, or says what PNG does not allow. Damaged texts count as absent.
PngHeader parse_png(std::string_view bytes, const std::string& name);

/// Appends one chunk: length, type, data, checksum.
void append_chunk(std::string& to, std::string_view type, std::string_view data);

}  // namespace atelier::image
