#include "image/exif.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "image/encodings.h"

namespace atelier::image {
namespace {

constexpr unsigned kOrientationTag = 0x0112, kExifTag = 0x8769, kUserCommentTag = 0x9286;
constexpr unsigned kLong = 4, kUndefined = 7;

// Reads integers anywhere in a TIFF block; outside of it they are 0, which no field that matters accepts.
class Tiff {
 public:
  explicit Tiff(std::string_view bytes) : bytes_(bytes), big_endian_(bytes.starts_with("MM")) {}

  bool valid() const { return (bytes_.starts_with("II") || bytes_.starts_with("MM")) && number(2, 2) == 42; }
  bool big_endian() const { return big_endian_; }

  std::uint32_t number(std::size_t at, std::size_t size) const {
    if (at > bytes_.size() || bytes_.size() - at < size) return 0;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      value = value << 8 | static_cast<unsigned char>(bytes_[at + (big_endian_ ? i : size - 1 - i)]);
    }
    return value;
  }

  // Where the entry of this tag begins in the directory at `folder`. Writers differ in the types that they give.
  std::optional<std::size_t> find(std::size_t folder, unsigned tag) const {
    if (folder < 8) return std::nullopt;
    for (std::size_t i = 0, count = number(folder, 2); i < count; ++i) {
      const std::size_t entry = folder + 2 + 12 * i;
      if (entry + 12 > bytes_.size()) break;
      if (number(entry, 2) == tag) return entry;
    }
    return std::nullopt;
  }

  std::string_view block(std::size_t at, std::size_t size) const {
    return at <= bytes_.size() && size <= bytes_.size() - at ? bytes_.substr(at, size) : std::string_view();
  }

 private:
  std::string_view bytes_;
  bool big_endian_;
};

// EXIF says that UNICODE is UTF-16 in the block's byte order; A1111's writer always takes big-endian. What is meant
// shows in the zero bytes of the Latin letters.
bool looks_big_endian(std::string_view text, bool otherwise) {
  std::size_t even = 0, odd = 0;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    even += text[i] == 0;
    odd += text[i + 1] == 0;
  }
  return even == odd ? otherwise : even > odd;
}

std::string decode_comment(std::string_view value, bool big_endian) {
  if (value.size() < 8) return {};
  const std::string_view code = value.substr(0, 8);
  std::string_view text = value.substr(8);
  if (code == std::string_view("UNICODE\0", 8)) return utf16_to_utf8(text, looks_big_endian(text, big_endian));
  text = text.substr(0, text.find('\0'));
  return is_utf8(text) ? std::string(text) : latin1_to_utf8(text);
}

}  // namespace

Exif parse_exif(std::string_view bytes) {
  Exif exif;
  const Tiff tiff(bytes);
  if (!tiff.valid()) return exif;
  const std::size_t folder = tiff.number(4, 4);
  if (const auto entry = tiff.find(folder, kOrientationTag)) {
    const std::uint32_t value = tiff.number(*entry + 8, 2);
    if (value >= 1 && value <= 8) exif.orientation = static_cast<int>(value);
  }
  if (const auto entry = tiff.find(folder, kExifTag)) {
    if (const auto comment = tiff.find(tiff.number(*entry + 8, 4), kUserCommentTag)) {
      const std::string_view value = tiff.block(tiff.number(*comment + 8, 4), tiff.number(*comment + 4, 4));
      exif.user_comment = decode_comment(value, tiff.big_endian());
    }
  }
  return exif;
}

std::string make_exif(std::string_view user_comment) {
  std::string tiff;
  const auto put = [&](std::uint32_t value, int size) {
    for (int i = size - 1; i >= 0; --i) tiff += static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
  };
  const std::string text = std::string("UNICODE\0", 8) + utf8_to_utf16_big_endian(user_comment);
  const auto folder = [&](unsigned tag, unsigned type, std::uint32_t count, std::uint32_t value) {
    put(1, 2);
    put(tag, 2);
    put(type, 2);
    put(count, 4);
    put(value, 4);
    put(0, 4);  // no further folder
  };
  constexpr std::uint32_t kHeader = 8, kFolder = 18;
  tiff += "MM";
  put(42, 2);
  put(kHeader, 4);
  folder(kExifTag, kLong, 1, kHeader + kFolder);
  folder(kUserCommentTag, kUndefined, static_cast<std::uint32_t>(text.size()), kHeader + 2 * kFolder);
  return tiff + text;
}

}  // namespace atelier::image
