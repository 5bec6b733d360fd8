#pragma once

#include <string>

#include "image/image.h"
#include "image/metadata.h"

namespace atelier::image {

struct EncodeOptions {
  int jpeg_quality = 95;    ///< 1 to 100; above 90 the colours are not subsampled
  int png_compression = 6;  ///< zlib's level, 0 to 9; 1 for previews
};

/// A whole PNG file: 8-bit grey, grey and alpha, RGB or RGBA, text before the pixels. The same input gives the same
/// bytes.
std::string encode_png(const Image& image, const Metadata& text = {}, const EncodeOptions& options = {});
/// A whole baseline JPEG file in colour, grey pictures too (alpha: flattened on white). A "parameters" text that EXIF's 64 KB
/// cannot hold is left out with a warning.
std::string encode_jpeg(const Image& image, const Metadata& text = {}, const EncodeOptions& options = {});

/// Whether the path ends in .png, .jpg or .jpeg in any case. Error(usage) names the path and the endings that there
/// are.
void check_output_path(const std::string& path);
/// Encodes as the path's ending says and writes the file whole or not at all (io::write_atomically). /dev/stdout and
/// paths without an ending get PNG. Returns the bytes written, for their SHA-256.
std::string write_image(const std::string& path, const Image& image, const Metadata& text = {},
                        const EncodeOptions& options = {});

}  // namespace atelier::image
