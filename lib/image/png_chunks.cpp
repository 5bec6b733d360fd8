// PNG (third edition), chapter 5: a signature, then chunks of a 4-byte length, a 4-byte type, data, and a CRC-32 of
// type and data. IHDR comes first, IEND last; a lower-case first letter marks what a reader may skip.
#include "image/png_chunks.h"

#include <array>
#include <optional>

#include <fmt/format.h>
#include <zlib.h>

#include "base/error.h"
#include "base/log.h"
#include "image/encodings.h"
#include "image/exif.h"

namespace atelier::image {
namespace {

using base::Error;
using base::ExitCode;

constexpr std::size_t kMaxTexts = 1000;
constexpr std::size_t kMaxTextBytes = 16u << 20;  // of all texts together, unpacked

std::uint32_t big_endian(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

std::uint32_t checksum(std::string_view bytes) {
  return static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

// Nothing where the stream is damaged, not at its end, or longer than `limit`.
std::optional<std::string> inflate_text(std::string_view packed, std::size_t limit) {
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) return std::nullopt;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string text;
  std::array<char, 16384> block;
  int status = Z_OK;
  while (status == Z_OK && text.size() <= limit) {
    stream.next_out = reinterpret_cast<Bytef*>(block.data());
    stream.avail_out = static_cast<uInt>(block.size());
    status = inflate(&stream, Z_NO_FLUSH);
    text.append(block.data(), block.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  if (status != Z_STREAM_END || text.size() > limit) return std::nullopt;
  return text;
}

class Parser {
 public:
  Parser(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  PngHeader parse() {
    std::size_t at = kPngSignature.size();
    for (bool first = true; !ended_; first = false) {
      if (bytes_.size() - at < 12) throw bad("the file is truncated");
      const std::size_t length = big_endian(bytes_, at);
      const std::string_view type = bytes_.substr(at + 4, 4);
      if (first && type == "CgBI") throw bad("is a PNG in Apple's own variant, which other programs do not read");
      if (first && (type != "IHDR" || length != 13)) throw bad("does not begin with a PNG header");
      if (length > bytes_.size() - at - 12) throw bad("the file is truncated");
      const bool whole = checksum(bytes_.substr(at + 4, 4 + length)) == big_endian(bytes_, at + 8 + length);
      if (!whole && (type[0] & 0x20) == 0) {
        throw bad(fmt::format("chunk {} has a wrong checksum; the file is damaged", base::in_quotes(type)));
      }
      if (whole) chunk(type, bytes_.substr(at + 8, length), first);
      at += 12 + length;
    }
    if (!has_pixels_) throw bad("holds no pixels");
    if (palette_wanted_ && !has_palette_) throw bad("has palette indices but no palette");
    finish_channels();
    return std::move(header_);
  }

 private:
  Error bad(const std::string& why) const { return Error(ExitCode::data, fmt::format("{}: {}", name_, why)); }

  void chunk(std::string_view type, std::string_view data, bool first) {
    if (type == "IHDR") {
      if (!first) throw bad("has two PNG headers");
      read_header(data);
    } else if (type == "IEND") {
      ended_ = true;
    } else if (type == "IDAT") {
      has_pixels_ = true;
    } else if (type == "PLTE") {
      has_palette_ = true;
    } else if (type == "tRNS") {
      has_transparency_ = true;
    } else if (type == "acTL") {
      header_.info.animated = true;
    } else if (type == "eXIf") {
      header_.info.orientation = parse_exif(data).orientation;
    } else if (type == "tEXt" || type == "zTXt" || type == "iTXt") {
      read_text(type, data);
    }
  }

  void read_header(std::string_view data) {
    const std::int64_t width = big_endian(data, 0), height = big_endian(data, 4);
    check_size(width, height, name_);
    const int bits = static_cast<unsigned char>(data[8]);
    colour_ = static_cast<unsigned char>(data[9]);
    const bool low = bits == 1 || bits == 2 || bits == 4;
    const bool known = (colour_ == 0 && (low || bits == 8 || bits == 16)) || (colour_ == 3 && (low || bits == 8)) ||
                       ((colour_ == 2 || colour_ == 4 || colour_ == 6) && (bits == 8 || bits == 16));
    if (!known) throw bad(fmt::format("PNG knows no colour type {} with {} bits", colour_, bits));
    if (data[10] != 0 || data[11] != 0) throw bad("has an unknown compression or filter method");
    if (data[12] != 0 && data[12] != 1) throw bad("has an unknown interlace method");
    palette_wanted_ = colour_ == 3;
    header_.info.format = Format::png;
    header_.info.width = static_cast<int>(width);
    header_.info.height = static_cast<int>(height);
    header_.info.bits = bits;
  }

  void finish_channels() {
    const int colours = colour_ == 0 || colour_ == 4 ? 1 : 3;
    const bool alpha = colour_ == 4 || colour_ == 6 || has_transparency_;
    header_.info.channels = colours + (alpha ? 1 : 0);
  }

  // tEXt: KEY 0 LATIN-1; zTXt: KEY 0 METHOD DEFLATED; iTXt: KEY 0 DEFLATED? METHOD LANGUAGE 0 TRANSLATED-KEY 0 UTF-8.
  void read_text(std::string_view type, std::string_view data) {
    const std::size_t key_end = data.find('\0');
    if (key_end == 0 || key_end > 79 || header_.text.size() >= kMaxTexts) return;
    const std::string key = latin1_to_utf8(data.substr(0, key_end));
    std::string_view rest = data.substr(key_end + 1);
    bool packed = type == "zTXt";
    if (type == "zTXt") {
      if (rest.empty() || rest[0] != 0) return;
      rest.remove_prefix(1);
    } else if (type == "iTXt") {
      if (rest.size() < 2 || rest[1] != 0) return;
      packed = rest[0] != 0;
      rest.remove_prefix(2);
      for (int i = 0; i < 2; ++i) {
        const std::size_t end = rest.find('\0');
        if (end == std::string_view::npos) return;
        rest.remove_prefix(end + 1);
      }
    }
    const std::size_t left = kMaxTextBytes - text_bytes_;
    std::optional<std::string> value = packed ? inflate_text(rest, left) : std::string(rest);
    if (!value || value->size() > left) return;
    text_bytes_ += value->size();
    const bool utf8 = type == "iTXt" && is_utf8(*value);
    header_.text.push_back({key, utf8 ? std::move(*value) : latin1_to_utf8(*value)});
  }

  std::string_view bytes_;
  const std::string& name_;
  PngHeader header_;
  int colour_ = 0;
  std::size_t text_bytes_ = 0;
  bool ended_ = false, has_pixels_ = false, has_palette_ = false, has_transparency_ = false, palette_wanted_ = false;
};

}  // namespace

PngHeader parse_png(std::string_view bytes, const std::string& name) { return Parser(bytes, name).parse(); }

void append_chunk(std::string& to, std::string_view type, std::string_view data) {
  const auto put = [&](std::uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) to += static_cast<char>(static_cast<unsigned char>(value >> shift));
  };
  put(static_cast<std::uint32_t>(data.size()));
  const std::size_t start = to.size();
  to += type;
  to += data;
  put(checksum(std::string_view(to).substr(start)));
}

}  // namespace atelier::image
