#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>

#include <zlib.h>

#include "image/image.h"
#include "support/scratch.h"

namespace atelier::test {

inline std::string image_file(const std::string& name) { return std::string(ATELIER_TEST_DATA) + "/image/" + name; }

/// The arrays that scripts/fixtures/image.py keeps in arrays.bin; bytes are kept as floats too.
inline const image::FloatImage& expected_floats(const std::string& name) {
  static const std::map<std::string, image::FloatImage> arrays = [] {
    const std::string packed = get_file(image_file("arrays.bin"));
    std::string bytes(std::size_t{16} << 20, '\0');
    uLongf size = bytes.size();
    if (uncompress(reinterpret_cast<Bytef*>(bytes.data()), &size, reinterpret_cast<const Bytef*>(packed.data()),
                   packed.size()) != Z_OK) {
      throw std::runtime_error("arrays.bin cannot be unpacked");
    }
    std::map<std::string, image::FloatImage> result;
    for (std::size_t at = 0; at < size;) {
      const std::size_t end = bytes.find('\n', at);
      std::istringstream line(bytes.substr(at, end - at));
      std::string key, kind;
      int width = 0, height = 0, channels = 0;
      std::string words[16];
      std::size_t count = 0;
      while (line >> words[count]) ++count;
      kind = words[count - 1];
      channels = std::stoi(words[count - 2]);
      height = std::stoi(words[count - 3]);
      width = std::stoi(words[count - 4]);
      for (std::size_t i = 0; i + 4 < count; ++i) key += (i > 0 ? " " : "") + words[i];
      image::FloatImage array(width, height, channels);
      at = end + 1;
      for (float& value : array.data) {
        if (kind == "u8") {
          value = static_cast<unsigned char>(bytes[at++]);
        } else {
          std::memcpy(&value, bytes.data() + at, 4);
          at += 4;
        }
      }
      result.emplace(key, std::move(array));
    }
    return result;
  }();
  return arrays.at(name);
}

inline image::Image expected(const std::string& name) {
  const image::FloatImage& floats = expected_floats(name);
  image::Image result(floats.width, floats.height, floats.channels);
  std::copy(floats.data.begin(), floats.data.end(), result.data.begin());
  return result;
}

struct Difference {
  int largest = 0;
  double mean = 0;
};

/// largest is 1000 where size or channels differ.
inline Difference difference(const image::Image& a, const image::Image& b) {
  if (a.width != b.width || a.height != b.height || a.channels != b.channels) return {1000, 1000};
  Difference result;
  for (std::size_t i = 0; i < a.data.size(); ++i) {
    const int d = std::abs(a.data[i] - b.data[i]);
    result.largest = std::max(result.largest, d);
    result.mean += d;
  }
  result.mean /= static_cast<double>(a.data.size());
  return result;
}

}  // namespace atelier::test
