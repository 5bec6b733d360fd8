#pragma once

#include <string>
#include <string_view>

#include "image/image.h"

namespace atelier::image {

/// Within the room: stb_image and stb_image_write, which only stb.cpp includes.

/// Decodes a PNG or JPEG whose headers were checked already and promised so many pixels. `name` stands for the file
/// in Error(data).
Image stb_decode(std::string_view bytes, std::size_t pixels_expected, const std::string& name);

/// A baseline JPEG file with JFIF header; 1 or 3 channels.
std::string stb_encode_jpeg(const Image& image, int quality);

}  // namespace atelier::image
