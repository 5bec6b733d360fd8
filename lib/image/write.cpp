#include "image/write.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "image/jpeg_segments.h"
#include "image/read.h"
#include "image/stb.h"
#include "io/file_system.h"

namespace atelier::image {
namespace {

using base::Error;
using base::ExitCode;

Format format_of(const std::string& path) {
  std::string ending = std::filesystem::path(path).extension().native();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (ending == ".jpg" || ending == ".jpeg") return Format::jpeg;
  if (ending.empty() || ending == ".png") return Format::png;
  throw Error(ExitCode::usage, fmt::format("{}: pictures are written as .png, .jpg or .jpeg", base::in_quotes(path)));
}

}  // namespace

std::string encode_jpeg(const Image& image, const Metadata& text, const EncodeOptions& options) {
  if (image.channels != 1 && image.channels != 3) return encode_jpeg(flatten(image, 255), text, options);
  if (image.width > 65535 || image.height > 65535) {
    throw Error(ExitCode::data,
                fmt::format("{}x{}: a JPEG file has at most 65535 pixels a side", image.width, image.height));
  }
  return with_text(stb_encode_jpeg(image, std::clamp(options.jpeg_quality, 1, 100)), text);
}

void check_output_path(const std::string& path) { format_of(path); }

std::string write_image(const std::string& path, const Image& image, const Metadata& text,
                        const EncodeOptions& options) {
  const bool jpeg = format_of(path) == Format::jpeg;
  std::string bytes = jpeg ? encode_jpeg(image, text, options) : encode_png(image, text, options);
  io::write_atomically(path, bytes);
  return bytes;
}

}  // namespace atelier::image
