#include "io/zip_archive.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"

namespace atelier::io {
namespace {

constexpr std::uint32_t kEnd = 0x06054b50, kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr std::uint32_t kCentral = 0x02014b50, kLocal = 0x04034b50;
constexpr std::size_t kEndSize = 22, kLocatorSize = 20, kEnd64Size = 56, kCentralSize = 46, kLocalSize = 30;
constexpr std::size_t kMaxComment = 65535;
constexpr std::uint64_t kMaxEntries = 1'000'000;
constexpr std::uint32_t kIn64 = 0xFFFFFFFF;  // "see the ZIP64 extra field"

class Reader {
 public:
  Reader(std::span<const std::byte> file, const std::string& name) : file_(file), name_(name) {}

  std::map<std::string, std::span<const std::byte>> read() {
    find_directory();
    std::map<std::string, std::span<const std::byte>> entries;
    std::uint64_t at = directory_;
    for (std::uint64_t i = 0; i < count_; ++i) {
      const Record record = read_record(at);
      if (!entries.emplace(record.name, data_of(record)).second)
        fail(fmt::format("entry {} is there twice", base::in_quotes(record.name)));
    }
    return entries;
  }

 private:
  struct Record {
    std::string name;
    std::uint64_t size = 0, offset = 0;
  };

  [[noreturn]] void fail(const std::string& why) const {
    throw base::Error(base::ExitCode::data, fmt::format("{}: not a whole ZIP file: {}", name_, why));
  }

  void require(std::uint64_t at, std::uint64_t size) const {
    if (at > file_.size() || size > file_.size() - at) fail("a record lies outside the file");
  }

  template <typename T>
  T number(std::uint64_t at) const {
    require(at, sizeof(T));
    T value;
    std::memcpy(&value, file_.data() + at, sizeof value);  // little-endian, as every machine this builds for
    return value;
  }

  std::string text(std::uint64_t at, std::uint64_t size) const {
    require(at, size);
    return {reinterpret_cast<const char*>(file_.data() + at), static_cast<std::size_t>(size)};
  }

  void find_directory() {
    if (file_.size() < kEndSize) fail("it is too short");
    const std::uint64_t lowest = file_.size() > kEndSize + kMaxComment ? file_.size() - kEndSize - kMaxComment : 0;
    std::uint64_t end = file_.size() - kEndSize;
    while (number<std::uint32_t>(end) != kEnd) {
      if (end == lowest) fail("its directory is missing");
      --end;
    }
    count_ = number<std::uint16_t>(end + 10);
    directory_ = number<std::uint32_t>(end + 16);
    if (end >= kLocatorSize && number<std::uint32_t>(end - kLocatorSize) == kLocator64) {
      const auto end64 = number<std::uint64_t>(end - kLocatorSize + 8);
      require(end64, kEnd64Size);
      if (number<std::uint32_t>(end64) != kEnd64) fail("its ZIP64 directory is missing");
      count_ = number<std::uint64_t>(end64 + 32);
      directory_ = number<std::uint64_t>(end64 + 48);
    }
    if (count_ > kMaxEntries) fail("it has too many entries");
  }

  /// Reads the record at `at` and moves on to the next.
  Record read_record(std::uint64_t& at) const {
    require(at, kCentralSize);
    if (number<std::uint32_t>(at) != kCentral) fail("its directory is damaged");
    const auto flags = number<std::uint16_t>(at + 8), method = number<std::uint16_t>(at + 10);
    const std::uint64_t packed = number<std::uint32_t>(at + 20), size = number<std::uint32_t>(at + 24);
    const auto name_size = number<std::uint16_t>(at + 28), extra_size = number<std::uint16_t>(at + 30);
    Record record{text(at + kCentralSize, name_size), size, number<std::uint32_t>(at + 42)};
    if ((flags & 1) != 0 || method != 0)
      fail(fmt::format("entry {} is compressed or encrypted", base::in_quotes(record.name)));
    std::uint64_t stored = packed;
    read_extra(at + kCentralSize + name_size, extra_size, record, stored);
    if (stored != record.size) fail(fmt::format("entry {} has two sizes", base::in_quotes(record.name)));
    at += kCentralSize + name_size + extra_size + number<std::uint16_t>(at + 32);
    return record;
  }

  /// Field 1 of the extra data holds the 64-bit numbers whose 32-bit places say so, in this order.
  void read_extra(std::uint64_t at, std::uint64_t size, Record& record, std::uint64_t& stored) const {
    require(at, size);
    for (const std::uint64_t end = at + size; at + 4 <= end;) {
      const auto tag = number<std::uint16_t>(at);
      const std::uint64_t length = number<std::uint16_t>(at + 2);
      at += 4;
      if (length > end - at) fail("an extra field is damaged");
      if (tag == 1) {
        std::uint64_t field = at;
        for (std::uint64_t* value : {&record.size, &stored, &record.offset}) {
          if (*value != kIn64) continue;
          if (field + 8 > at + length) fail("a ZIP64 field is too short");
          *value = number<std::uint64_t>(field);
          field += 8;
        }
      }
      at += length;
    }
  }

  std::span<const std::byte> data_of(const Record& record) const {
    require(record.offset, kLocalSize);
    if (number<std::uint32_t>(record.offset) != kLocal) fail("a local header is damaged");
    const auto name_size = number<std::uint16_t>(record.offset + 26), extra = number<std::uint16_t>(record.offset + 28);
    if (text(record.offset + kLocalSize, name_size) != record.name) fail("directory and local header disagree");
    const std::uint64_t begin = record.offset + kLocalSize + name_size + extra;
    require(begin, record.size);
    return file_.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(record.size));
  }

  std::span<const std::byte> file_;
  const std::string& name_;
  std::uint64_t directory_ = 0, count_ = 0;
};

}  // namespace

std::map<std::string, std::span<const std::byte>> read_zip(std::span<const std::byte> file, const std::string& name) {
  return Reader(file, name).read();
}

}  // namespace atelier::io
