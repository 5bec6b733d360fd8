// Compiled with -fwrapv (lib/CMakeLists.txt): with damaged files stb's integer transforms overflow, which is harmless
// to memory and has to stay harmless to meaning.
#include "image/stb.h"

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include <fmt/format.h>

#include "base/error.h"

namespace {

// What stb grows is a copy of the packed data, or the unpacked data where there is more of it than the picture takes: a
// stream that goes on far beyond that is an attack on memory.
thread_local std::size_t growth_limit = 0;
thread_local bool growth_refused = false;

// Zeros: some damaged files make stb read what it never wrote.
void* allocate(std::size_t size) { return std::calloc(size, 1); }

void* reallocate(void* block, std::size_t old_size, std::size_t size) {
  growth_refused = size > growth_limit;
  void* grown = growth_refused ? nullptr : std::realloc(block, size);
  if (grown != nullptr && size > old_size) std::memset(static_cast<char*>(grown) + old_size, 0, size - old_size);
  return grown;
}

}  // namespace

#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_ASSERT(x)
#define STBI_MALLOC(size) allocate(size)
#define STBI_REALLOC_SIZED(block, old_size, size) reallocate(block, old_size, size)
#define STBI_FREE(block) std::free(block)
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

#define STBI_WRITE_NO_STDIO
#define STBIW_ASSERT(x)
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>

namespace atelier::image {

using base::Error;
using base::ExitCode;

Image stb_decode(std::string_view bytes, std::size_t pixels_expected, const std::string& name) {
  if (bytes.size() > INT_MAX) throw Error(ExitCode::data, fmt::format("{}: is too large", name));
  growth_limit = 2 * std::max(bytes.size(), pixels_expected * 8) + (std::size_t{1} << 20);  // 8: RGBA of 16 bits
  growth_refused = false;
  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(bytes.data()), static_cast<int>(bytes.size()), &width,
                            &height, &channels, 0),
      [](void* block) { std::free(block); });
  if (pixels == nullptr) {
    const char* reason = stbi_failure_reason();
    if (reason != nullptr && !growth_refused && std::strcmp(reason, "outofmem") == 0) throw std::bad_alloc();
    throw Error(ExitCode::data, fmt::format("{}: the pixels are damaged ({})", name,
                                            growth_refused      ? "too much data"
                                            : reason != nullptr ? reason
                                                                : "unknown"));
  }
  Image image(width, height, channels);
  std::memcpy(image.data.data(), pixels.get(), image.data.size());
  return image;
}

std::string stb_encode_jpeg(const Image& image, int quality) {
  std::string bytes;
  const auto append = [](void* context, void* data, int size) {
    static_cast<std::string*>(context)->append(static_cast<const char*>(data), static_cast<std::size_t>(size));
  };
  if (stbi_write_jpg_to_func(append, &bytes, image.width, image.height, image.channels, image.data.data(), quality) ==
      0) {
    throw Error(ExitCode::internal, "a picture could not be encoded as JPEG");
  }
  return bytes;
}

}  // namespace atelier::image
