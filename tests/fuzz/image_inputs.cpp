// Inputs of fuzz_image: the pictures of tests/data/image and a few texts, damaged. Checksums and deflate streams of
// PNG files are made right again most of the time, and JPEG files keep their end, so that the damage reaches the
// decoders.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <zlib.h>

#include "fuzz/inputs.h"
#include "support/scratch.h"

namespace {

constexpr const char* kPngFiles[] = {"palette.png",    "bilevel.png",   "interlaced.png", "deep.png", "animated.png",
                                     "grey_alpha.png", "oriented6.png", "deep_grey.png",  "text.png"};
constexpr const char* kJpegFiles[] = {"rgb.jpg",  "subsampled.jpg", "progressive.jpg", "grey.jpg",
                                      "cmyk.jpg", "comment.jpg",    "four_inks.jpg"};
constexpr const char* kSvgs[] = {
    R"x(<svg viewBox="0 0 40 30"><path d="M4 2h32.5L14,27zC1 2 3 4 5 6S1 2 3 4Q1 2 3 4T5 6A5 6 20 0 1 9 9" stroke="#fff" stroke-width="3" fill="none"/></svg>)x",
    R"x(<?xml version="1.0"?><svg width="4cm" height="50%"><g transform="translate(20 15) rotate(30)" opacity=".5"><rect x="-3" y="1" width="9" height="8" rx="2"/></g></svg>)x",
    R"x(<svg><defs><g/></defs><circle cx="9" cy="8" r="7" style="fill:red;stroke:rgb(1,2,3);stroke-linejoin:round"/><polygon points="1,2 3,4 5,0"/><line x2="9" y2="9" stroke="#abc" stroke-linecap="square"/></svg>)x"};
constexpr const char* kShapes[] = {"rect:1,2,30,14", "ellipse:10,10,5.5,7", "polygon:1,2 30,4 15,19"};
constexpr const char* kTexts[] = {
    "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, Lora hashes: \"a: 1, b: 2\", Size: 512x512"};
constexpr const char* kTokens[] = {"\"",
                                   "<",
                                   ">",
                                   "/>",
                                   "</g>",
                                   "<g>",
                                   "&#x10FFFF;",
                                   "&amp;",
                                   "1e9",
                                   "-1e9",
                                   "1e308",
                                   "nan",
                                   "0",
                                   "-",
                                   ".",
                                   ",",
                                   ":",
                                   " ",
                                   "\n",
                                   "matrix(1e9 0 0 1e9 0 0)",
                                   "scale(0)",
                                   "stroke-width=\"1e9\"",
                                   "url(#a)",
                                   "%",
                                   "M",
                                   "z",
                                   "a1 1 0 011 1",
                                   "\\",
                                   "\xFF",
                                   "\xC3"};
constexpr std::uint32_t kNumbers[] = {0,   1,   2,   3,   7,   8,     9,     15,         16,         17,        127,
                                      128, 255, 256, 511, 512, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};

struct Chunk {
  std::string type, data;
};

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  std::string input() {
    const std::size_t kind = below(8);
    std::string bytes;
    switch (kind) {
      case 0: bytes = damaged_text(pick(kSvgs)); break;
      case 1: bytes = damaged_text(pick(kShapes)); break;
      case 2: bytes = damaged_text(pick(kTexts)); break;
      case 3:
      case 4:
      case 5: bytes = png(); break;
      default: bytes = jpeg(); break;
    }
    return static_cast<char>(kind) + bytes;
  }

 private:
  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }

  template <typename T, std::size_t N>
  T pick(const T (&choices)[N]) {
    return choices[below(N)];
  }

  static std::string file(const char* name) {
    return atelier::test::get_file(std::string(ATELIER_TEST_DATA) + "/image/" + name);
  }

  std::string damaged_text(std::string text) {
    for (std::size_t i = below(6); i > 0; --i) {
      const std::size_t at = below(text.size() + 1), end = std::min(text.size(), at + 1 + below(8));
      switch (below(5)) {
        case 0: text.erase(at, end - at); break;
        case 1: text.insert(at, pick(kTokens)); break;
        case 2: text.insert(at, text.substr(at, end - at)); break;
        case 3: text.insert(at, std::to_string(pick(kNumbers))); break;
        default: damage(text, 1); break;
      }
    }
    return text;
  }

  void damage(std::string& bytes, std::size_t times) {
    for (; times > 0 && !bytes.empty(); --times) {
      const std::size_t at = below(bytes.size());
      switch (below(6)) {
        case 0: bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8))); break;
        case 1: bytes[at] = static_cast<char>(below(256)); break;
        case 2: bytes.erase(at, 1 + below(8)); break;
        case 3: bytes.insert(at, 1 + below(4), static_cast<char>(below(256))); break;
        case 4: bytes.insert(at, bytes.substr(at, 1 + below(32))); break;
        default: put(bytes, at, pick(kNumbers), 1 + below(4)); break;
      }
    }
  }

  static void put(std::string& bytes, std::size_t at, std::uint32_t value, std::size_t size) {
    for (std::size_t i = 0; i < size && at + i < bytes.size(); ++i)
      bytes[at + i] = static_cast<char>(value >> (8 * (size - 1 - i)));
  }

  static std::uint32_t number(const std::string& bytes, std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    return value;
  }

  std::string png() {
    const std::string bytes = file(pick(kPngFiles));
    std::vector<Chunk> chunks;
    for (std::size_t at = 8; at + 12 <= bytes.size();) {
      const std::size_t size = number(bytes, at);
      chunks.push_back({bytes.substr(at + 4, 4), bytes.substr(at + 8, size)});
      at += 12 + size;
    }
    for (std::size_t i = 1 + below(3); i > 0; --i) damage_chunk(chunks);
    std::string result = bytes.substr(0, 8);
    for (const Chunk& chunk : chunks) append(result, chunk);
    if (below(8) == 0) damage(result, 1 + below(3));
    if (below(16) == 0) result.resize(below(result.size() + 1));
    return result;
  }

  void damage_chunk(std::vector<Chunk>& chunks) {
    const std::size_t at = below(chunks.size());
    Chunk& chunk = chunks[at];
    switch (below(8)) {
      case 0: chunks.insert(chunks.begin() + static_cast<std::ptrdiff_t>(below(chunks.size())), Chunk(chunk)); break;
      case 1: std::swap(chunk, chunks[below(chunks.size())]); break;
      case 2: put(chunks[0].data, below(chunks[0].data.size()), static_cast<std::uint32_t>(below(20)), 1); break;
      case 3:
        put(chunks[0].data, 4 * below(2), below(3) == 0 ? pick(kNumbers) : static_cast<std::uint32_t>(below(70)), 4);
        break;
      case 4: repack(chunk); break;
      default: damage(chunk.data, 1 + below(4)); break;
    }
  }

  // Damage behind the compression.
  void repack(Chunk& chunk) {
    if (chunk.type != "IDAT") return damage(chunk.data, 1);
    std::string raw(1 << 16, '\0');
    uLongf size = raw.size();
    if (uncompress(reinterpret_cast<Bytef*>(raw.data()), &size, reinterpret_cast<const Bytef*>(chunk.data.data()),
                   chunk.data.size()) != Z_OK)
      return;
    raw.resize(size);
    damage(raw, 1 + below(6));
    size = compressBound(raw.size());
    chunk.data.resize(size);
    compress2(reinterpret_cast<Bytef*>(chunk.data.data()), &size, reinterpret_cast<const Bytef*>(raw.data()),
              raw.size(), static_cast<int>(below(10)));
    chunk.data.resize(size);
  }

  void append(std::string& to, const Chunk& chunk) {
    const std::string text = chunk.type + chunk.data;
    const auto crc = crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size()));
    std::string words(8, '\0');
    put(words, 0, static_cast<std::uint32_t>(chunk.data.size()), 4);
    put(words, 4, static_cast<std::uint32_t>(crc), 4);
    to += words.substr(0, 4) + text + words.substr(4);
  }

  std::string jpeg() {
    std::string bytes = file(pick(kJpegFiles));
    const std::string start = bytes.substr(0, 3), end = "\xFF\xD9";
    for (std::size_t i = 1 + below(3); i > 0; --i) {
      if (below(3) > 0) {
        damage(bytes, 1 + below(4));
      } else {
        damage_segment(bytes);
      }
    }
    if (below(10) == 0) bytes.resize(below(bytes.size() + 1));
    if (below(20) != 0) bytes = start + (bytes.size() > 3 ? bytes.substr(3) : "") + end;
    return bytes;
  }

  // Damage among the tables and headers, of which a random byte hits few.
  void damage_segment(std::string& bytes) {
    constexpr unsigned char kMarkers[] = {0xC0, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD, 0xE1, 0xEE, 0xFE};
    const std::size_t at =
        bytes.find(std::string("\xFF") + static_cast<char>(pick(kMarkers)), below(bytes.size() + 1) / 2);
    if (at == std::string::npos) return;
    std::string segment = bytes.substr(at, 4 + below(40));
    const std::size_t size = segment.size();
    damage(segment, 1 + below(3));
    if (below(4) == 0) segment += segment;
    bytes.replace(at, size, segment);
  }

  std::mt19937_64 random_;
};

}  // namespace

namespace atelier::test {

std::string fuzz_input(std::uint64_t seed) { return Mutator(seed).input(); }

}  // namespace atelier::test
