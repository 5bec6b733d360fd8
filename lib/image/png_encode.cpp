#include <algorithm>
#include <array>
#include <cstdlib>
#include <vector>

#include <fmt/format.h>
#include <zlib.h>

#include "base/error.h"
#include "image/encodings.h"
#include "image/png_chunks.h"
#include "image/write.h"

namespace atelier::image {
namespace {

using base::Error;
using base::ExitCode;
using Bytes = std::vector<std::uint8_t>;

std::uint8_t paeth(int left, int up, int corner) {
  const int estimate = left + up - corner;
  const int to_left = std::abs(estimate - left), to_up = std::abs(estimate - up),
            to_corner = std::abs(estimate - corner);
  return static_cast<std::uint8_t>(to_left <= to_up && to_left <= to_corner ? left : to_up <= to_corner ? up : corner);
}

// One row through filter `type`; `up` is the row above (zeros for the first). Returns the sum of the differences as
// signed bytes.
template <typename Predict>
unsigned long filter_row(const std::uint8_t* row, const std::uint8_t* up, std::size_t size, std::size_t step,
                         Bytes& out, const Predict& predict) {
  unsigned long cost = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const int left = i >= step ? row[i - step] : 0, corner = i >= step ? up[i - step] : 0;
    const auto value = static_cast<std::uint8_t>(row[i] - predict(left, up[i], corner));
    out[i + 1] = value;
    cost += value < 128 ? value : 256u - value;
  }
  return cost;
}

unsigned long filter_row(int type, const std::uint8_t* row, const std::uint8_t* up, std::size_t size, std::size_t step,
                         Bytes& out) {
  out[0] = static_cast<std::uint8_t>(type);
  switch (type) {
    case 0: return filter_row(row, up, size, step, out, [](int, int, int) { return 0; });
    case 1: return filter_row(row, up, size, step, out, [](int left, int, int) { return left; });
    case 2: return filter_row(row, up, size, step, out, [](int, int above, int) { return above; });
    case 3: return filter_row(row, up, size, step, out, [](int left, int above, int) { return (left + above) / 2; });
    default: return filter_row(row, up, size, step, out, paeth);
  }
}

// Each row through the filter with the smallest sum of absolute differences (PNG, 12.7).
Bytes filtered(const Image& image) {
  const std::size_t size = image.row_size(), step = static_cast<std::size_t>(image.channels);
  const Bytes zeros(size);
  Bytes result, best(size + 1), tried(size + 1);
  result.reserve((size + 1) * static_cast<std::size_t>(image.height));
  for (int y = 0; y < image.height; ++y) {
    const std::uint8_t* up = y > 0 ? image.row(y - 1) : zeros.data();
    unsigned long lowest = filter_row(0, image.row(y), up, size, step, best);
    for (int type = 1; type < 5; ++type) {
      const unsigned long cost = filter_row(type, image.row(y), up, size, step, tried);
      if (cost < lowest) {
        lowest = cost;
        std::swap(best, tried);
      }
    }
    result.insert(result.end(), best.begin(), best.end());
  }
  return result;
}

std::string deflated(const Bytes& bytes, int level) {
  z_stream stream{};
  if (deflateInit2(&stream, level, Z_DEFLATED, 15, 8, Z_FILTERED) != Z_OK) throw std::bad_alloc();
  std::string packed(deflateBound(&stream, static_cast<uLong>(bytes.size())), '\0');
  stream.next_in = const_cast<Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  const int status = deflate(&stream, Z_FINISH);
  packed.resize(packed.size() - stream.avail_out);
  deflateEnd(&stream);
  if (status != Z_STREAM_END) throw Error(ExitCode::internal, "a picture could not be encoded as PNG");
  return packed;
}

void append_text(std::string& png, const TextEntry& entry) {
  const std::optional<std::string> key = utf8_to_latin1(entry.key);
  if (!key || key->empty() || key->size() > 79 || key->find('\0') != std::string::npos) {
    throw Error(ExitCode::internal, fmt::format("\"{}\" is no keyword of a PNG text", entry.key));
  }
  std::string value = entry.value;
  std::erase(value, '\0');  // ends a text in both kinds of chunk
  if (const std::optional<std::string> latin1 = utf8_to_latin1(value)) {
    append_chunk(png, "tEXt", *key + '\0' + *latin1);
  } else {
    append_chunk(png, "iTXt", *key + std::string(5, '\0') + value);  // not packed, no language, no translated keyword
  }
}

std::string header(const Image& image) {
  constexpr std::array<char, 5> kColourType = {0, 0, 4, 2, 6};  // by channels
  std::string data;
  for (const int side : {image.width, image.height}) {
    for (int shift = 24; shift >= 0; shift -= 8) data += static_cast<char>(static_cast<unsigned char>(side >> shift));
  }
  data += '\x08';
  data += kColourType[static_cast<std::size_t>(image.channels)];
  return data + std::string(3, '\0');
}

}  // namespace

std::string encode_png(const Image& image, const Metadata& text, const EncodeOptions& options) {
  if (image.empty() || image.channels < 1 || image.channels > 4) {
    throw Error(ExitCode::internal, "encode_png: no picture of 1 to 4 channels");
  }
  std::string png(kPngSignature);
  append_chunk(png, "IHDR", header(image));
  for (const TextEntry& entry : text) append_text(png, entry);
  append_chunk(png, "IDAT", deflated(filtered(image), options.png_compression));
  append_chunk(png, "IEND", {});
  return png;
}

}  // namespace atelier::image
