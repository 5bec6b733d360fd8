// ITU-T T.81, annex B: markers 0xFF 0xXX; most begin a segment of a 2-byte length (which counts itself) and data.
// After a scan header (SOS) comes entropy-coded data, in which 0xFF is followed by 0 or a restart marker.
#include "image/jpeg_segments.h"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "image/encodings.h"
#include "image/exif.h"

namespace atelier::image {
namespace {

using base::Error;
using base::ExitCode;

constexpr std::size_t kMaxSegment = 65533;
// Every scan of a progressive file is a pass over all of the picture; usual files have about ten.
constexpr int kMaxScans = 100;
constexpr int kMaxTexts = 1000;
constexpr std::string_view kExifPrefix("Exif\0\0", 6);

enum Marker : unsigned {
  kSof0 = 0xC0,
  kSof2 = 0xC2,
  kDht = 0xC4,
  kJpg = 0xC8,
  kDac = 0xCC,
  kSof15 = 0xCF,
  kRst0 = 0xD0,
  kRst7 = 0xD7,
  kSoi = 0xD8,
  kEoi = 0xD9,
  kSos = 0xDA,
  kApp0 = 0xE0,
  kApp1 = 0xE1,
  kApp14 = 0xEE,
  kCom = 0xFE,
  kTem = 0x01,
};

class Parser {
 public:
  Parser(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  JpegHeader parse() {
    header_.info.format = Format::jpeg;
    header_.info.channels = 0;
    at_ = 2;
    for (;;) {
      const unsigned marker = next_marker();
      if (marker == kEoi) break;
      if (marker == kTem || (marker >= kRst0 && marker <= kSoi)) continue;
      const std::size_t length = at_ + 2 <= bytes_.size() ? byte(at_) << 8 | byte(at_ + 1) : 0;
      if (length < 2 || length > bytes_.size() - at_) throw truncated();
      const std::string_view data = bytes_.substr(at_ + 2, length - 2);
      at_ += length;
      segment(marker, data);
    }
    if (header_.info.channels == 0 || scans_ == 0) throw bad("holds no pixels");
    if (header_.info.channels == 4) {
      if (!adobe_)
        throw bad("is a JPEG of four inks without Adobe's marker, which would say what they mean; save it as RGB");
      header_.info.channels = 3;
    }
    for (TextEntry& entry : header_.text) {
      if (!is_utf8(entry.key)) entry.key = latin1_to_utf8(entry.key);
      if (!is_utf8(entry.value)) entry.value = latin1_to_utf8(entry.value);
    }
    return std::move(header_);
  }

 private:
  Error bad(const std::string& why) const { return Error(ExitCode::data, fmt::format("{}: {}", name_, why)); }
  Error truncated() const { return bad("the file is truncated"); }
  unsigned byte(std::size_t at) const { return static_cast<unsigned char>(bytes_[at]); }

  // Skips to the next marker that is none of entropy-coded data.
  unsigned next_marker() {
    for (;;) {
      at_ = std::min(bytes_.find('\xFF', at_), bytes_.size());
      while (at_ < bytes_.size() && byte(at_) == 0xFF) ++at_;
      if (at_ >= bytes_.size()) throw truncated();
      const unsigned marker = byte(at_++);
      if (marker != 0) return marker;
    }
  }

  void segment(unsigned marker, std::string_view data) {
    if (marker >= kSof0 && marker <= kSof15 && marker != kDht && marker != kJpg && marker != kDac) {
      read_frame(marker, data);
    } else if (marker == kSos) {
      if (++scans_ > kMaxScans) throw bad(fmt::format("has more than {} scans", kMaxScans));
    } else if (marker == kApp1 && data.starts_with(kExifPrefix) && !has_exif_) {
      has_exif_ = true;
      Exif exif = parse_exif(data.substr(kExifPrefix.size()));
      header_.info.orientation = exif.orientation;
      if (!exif.user_comment.empty()) {
        header_.text.insert(header_.text.begin(), {std::string(kParametersKey), std::move(exif.user_comment)});
      }
    } else if (marker == kApp14 && data.starts_with("Adobe")) {
      adobe_ = true;
    } else if (marker == kCom) {
      read_comment(data);
    } else if (marker == kDht) {
      check_codes(data);
    }
  }

  // Releases of stb_image up to 2.27 write past their tables where a table has more than 256 codes, which its 16 counts can
  // claim. Tables fill their segment exactly, so that no other counts than these are read.
  void check_codes(std::string_view data) const {
    while (!data.empty()) {
      std::size_t codes = 0;
      for (const char count : data.substr(0, 17).substr(1)) codes += static_cast<unsigned char>(count);
      if (data.size() < 17 || codes > 256 || data.size() - 17 < codes) throw bad("holds a malformed Huffman table");
      data.remove_prefix(17 + codes);
    }
  }

  void read_frame(unsigned marker, std::string_view data) {
    if (header_.info.channels != 0) throw bad("holds more than one picture frame");
    if (marker > kSof2) throw bad("is a lossless, hierarchical or arithmetic-coded JPEG, which is not read");
    if (data.size() < 6) throw truncated();
    const auto at = [&](std::size_t i) { return static_cast<unsigned char>(data[i]); };
    if (at(0) != 8) throw bad(fmt::format("is a JPEG of {} bits, only those of 8 are read", at(0)));
    const int height = at(1) << 8 | at(2), width = at(3) << 8 | at(4);
    check_size(width, height, name_);
    if (at(5) != 1 && at(5) != 3 && at(5) != 4) throw bad(fmt::format("is a JPEG of {} channels", at(5)));
    header_.info.width = width;
    header_.info.height = height;
    header_.info.channels = at(5);
  }

  void read_comment(std::string_view data) {
    const std::string text(data);
    const bool goes_on = continued_;
    continued_ = data.size() == kMaxSegment;
    if (goes_on) {
      header_.text.back().value += text;
    } else if (header_.text.size() < kMaxTexts) {
      const std::size_t colon = text.find(": ");
      const bool keyed = colon != std::string::npos && colon > 0 && colon <= 79;
      header_.text.push_back(keyed ? TextEntry{text.substr(0, colon), text.substr(colon + 2)}
                                   : TextEntry{"Comment", text});
    } else {
      continued_ = false;
    }
  }

  std::string_view bytes_;
  const std::string& name_;
  JpegHeader header_;
  std::size_t at_ = 0;
  int scans_ = 0;
  bool has_exif_ = false, adobe_ = false, continued_ = false;
};

void append_segment(std::string& to, unsigned marker, std::string_view data) {
  const std::size_t length = data.size() + 2;
  for (const std::size_t value : {std::size_t{0xFF}, std::size_t{marker}, length >> 8, length & 0xFF}) {
    to += static_cast<char>(static_cast<unsigned char>(value));
  }
  to += data;
}

void append_comment(std::string& to, const TextEntry& entry) {
  const std::string text = entry.key + ": " + entry.value;
  for (std::size_t at = 0; at <= text.size(); at += kMaxSegment) {  // <=: a full segment must be followed by another
    append_segment(to, kCom, std::string_view(text).substr(at, kMaxSegment));
  }
}

}  // namespace

JpegHeader parse_jpeg(std::string_view bytes, const std::string& name) { return Parser(bytes, name).parse(); }

std::string with_text(std::string_view jpeg, const Metadata& text) {
  std::string segments;
  for (const TextEntry& entry : text) {
    if (entry.key != kParametersKey) {
      append_comment(segments, entry);
      continue;
    }
    const std::string exif = std::string(kExifPrefix) + make_exif(entry.value);
    if (exif.size() <= kMaxSegment) {
      append_segment(segments, kApp1, exif);
    } else {
      base::log_warning("the text \"parameters\" is longer than a JPEG file can hold and is left out");
    }
  }
  // After the JFIF segment, where there is one: readers expect that first.
  std::size_t start = 2;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(jpeg[i]); };
  if (jpeg.size() > 6 && byte(2) == 0xFF && byte(3) == kApp0) start = 4u + (byte(4) << 8 | byte(5));
  return std::string(jpeg.substr(0, start)) + segments + std::string(jpeg.substr(start));
}

}  // namespace atelier::image
