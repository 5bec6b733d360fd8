#include "train/event_file.h"

#include <atomic>
#include <bit>
#include <chrono>

#include <fmt/format.h>
#include <unistd.h>

#include "train/crc32c.h"

namespace atelier::train {
namespace {

// Protocol buffers' wire format: a key (field number and type), then the value.
enum Wire { varint = 0, fixed64 = 1, length = 2, fixed32 = 5 };

template <typename Unsigned>
std::string little_endian(Unsigned value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFF);
  return bytes;
}

std::string as_varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

std::string key(unsigned field, Wire wire) { return as_varint(field << 3 | wire); }

std::string text_field(unsigned field, std::string_view bytes) {
  return key(field, length) + as_varint(bytes.size()) + std::string(bytes);
}

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Event: wall_time = 1 (double), step = 2 (int64), then one of file_version = 3, summary = 5, session_log = 7.
std::string event(std::int64_t step, const std::string& what) {
  return key(1, fixed64) + little_endian(std::bit_cast<std::uint64_t>(wall_time())) + key(2, varint) +
         as_varint(static_cast<std::uint64_t>(step)) + what;
}

}  // namespace

EventFile::EventFile(const std::string& folder, std::int64_t first_step) {
  static std::atomic<int> count{0};
  path_ =
      fmt::format("{}/events.out.tfevents.{}.{}.{}", folder, static_cast<std::int64_t>(wall_time()), getpid(), count++);
  file_ = io::file_system().create(path_);
  record(event(0, text_field(3, "brain.Event:2")));
  constexpr std::uint64_t kStart = 1;  // SessionLog: status = 1
  record(event(first_step, text_field(7, key(1, varint) + as_varint(kStart))));
}

void EventFile::scalars(std::int64_t step, std::span<const Scalar> values) {
  std::string summary;  // Summary: value = 1 (repeated), of tag = 1, simple_value = 2 (float)
  for (const auto& [tag, value] : values) {
    const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
    summary += text_field(1, text_field(1, tag) + key(2, fixed32) + little_endian(bits));
  }
  record(event(step, text_field(5, summary)));
}

void EventFile::record(const std::string& bytes) {
  const std::string size = little_endian(std::uint64_t{bytes.size()});
  file_->write(size + little_endian(masked_crc32c(size)) + bytes + little_endian(masked_crc32c(bytes)));
}

}  // namespace atelier::train
