// Fuzz target: PNG and JPEG files, SVG masks, --mask-shape, A1111's parameters. The first byte says which. Driven by
// libFuzzer (tests/CMakeLists.txt) or by runner.cpp with the inputs of image_inputs.cpp.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "image/encodings.h"
#include "image/parameters.h"
#include "image/read.h"
#include "image/shapes.h"
#include "image/write.h"

using namespace atelier;

namespace {

constexpr std::int64_t kLargest = 1 << 18;  // pixels: larger pictures take long and show nothing more

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

// Bad input may only end in an Error with this code, and in one printable line.
template <typename Action>
void tolerant(base::ExitCode code, const Action& action) {
  try {
    action();
  } catch (const base::Error& error) {
    expect(error.code() == code, "exit code");
    const std::string_view message = error.what();
    expect(message.size() < 2000 && message.find_first_of("\n\x1b") == std::string_view::npos, "one short line");
  }
}

void check_picture(std::string_view bytes) {
  const image::ImageInfo info = image::inspect(bytes, "input");
  if (std::int64_t{info.width} * info.height > kLargest) return;
  const image::Picture picture = image::decode_picture(bytes, "input");
  expect(picture.image.width == info.width && picture.image.height == info.height, "the size that the header says");
  expect(picture.image.channels >= 1 && picture.image.channels <= 4, "1 to 4 channels");
  for (const image::TextEntry& entry : picture.text) {
    expect(image::is_utf8(entry.key) && image::is_utf8(entry.value), "texts are UTF-8");
  }
  expect(image::decode_picture(image::encode_png(picture.image), "again").image == picture.image,
         "PNG comes back bit for bit");
}

void check_parameters(std::string_view text) {
  const image::Parameters parsed = image::parse_parameters(text);
  image::parse_parameters(image::format_parameters(parsed));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  base::set_log_level(base::LogLevel::quiet);
  const std::vector<char> exact(data + 1, data + size);  // so that a byte too far is seen
  const std::string_view text(exact.data(), exact.size());
  switch (data[0] % 8) {
    case 0: tolerant(base::ExitCode::data, [&] { image::rasterise_svg(text, "input", 33, 20); }); break;
    case 1: tolerant(base::ExitCode::usage, [&] { image::rasterise_shape(text, 33, 20); }); break;
    case 2: check_parameters(text); break;
    default: tolerant(base::ExitCode::data, [&] { check_picture(text); }); break;
  }
  return 0;
}
