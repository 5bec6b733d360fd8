// metrics.jsonl and event files.
#include <bit>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/json.h"
#include "support/errors.h"
#include "support/scratch.h"
#include "train/crc32c.h"
#include "train/event_file.h"
#include "train/loss_scaler.h"
#include "train/metrics.h"

using namespace atelier;
using namespace atelier::train;

namespace {

template <typename Number>
Number read_number(const std::string& bytes, std::size_t at) {
  Number value{};
  REQUIRE(at + sizeof value <= bytes.size());
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// The records of a TFRecord file; both checksums of each are checked.
std::vector<std::string> read_records(const std::string& bytes) {
  std::vector<std::string> records;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto size = read_number<std::uint64_t>(bytes, at);
    CHECK(read_number<std::uint32_t>(bytes, at + 8) == masked_crc32c(bytes.substr(at, 8)));
    records.push_back(bytes.substr(at + 12, size));
    REQUIRE(records.back().size() == size);
    CHECK(read_number<std::uint32_t>(bytes, at + 12 + size) == masked_crc32c(records.back()));
    at += 16 + size;
  }
  return records;
}

// A protocol buffer message's fields: numbers as bits, others as bytes.
struct Message {
  std::map<unsigned, std::uint64_t> numbers;
  std::multimap<unsigned, std::string> parts;

  explicit Message(const std::string& bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
      const std::uint64_t key = varint(bytes, at);
      const auto field = static_cast<unsigned>(key >> 3);
      switch (key & 7) {
        case 0: numbers[field] = varint(bytes, at); break;
        case 1: numbers[field] = read_number<std::uint64_t>(bytes, at), at += 8; break;
        case 5: numbers[field] = read_number<std::uint32_t>(bytes, at), at += 4; break;
        case 2: {
          const std::uint64_t size = varint(bytes, at);
          parts.emplace(field, bytes.substr(at, size));
          at += size;
          break;
        }
        default: FAIL("unknown wire type");
      }
    }
  }

  static std::uint64_t varint(const std::string& bytes, std::size_t& at) {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes.at(at++));
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
  }
};

}  // namespace

TEST_CASE("CRC-32C: the vectors of RFC 3720") {
  CHECK(crc32c("123456789") == 0xE3069283u);
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AAu);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62A8AB43u);
  CHECK(crc32c("") == 0);
}

TEST_CASE("an event file holds version, start and scalars") {
  const test::Scratch scratch;
  EventFile file(scratch.path(), 300), another(scratch.path(), 1);
  CHECK(file.path() != another.path());
  const EventFile::Scalar scalars[] = {{"train/loss", 1.25}, {"train/lr", 1e-4}};
  file.scalars(1234567890123, scalars);
  const std::vector<std::string> records = read_records(test::get_file(file.path()));
  REQUIRE(records.size() == 3);
  CHECK(Message(records[0]).parts.find(3)->second == "brain.Event:2");
  const Message start(records[1]), event(records[2]);
  CHECK(start.numbers.at(2) == 300);
  CHECK(Message(start.parts.find(7)->second).numbers.at(1) == 1);
  CHECK(std::bit_cast<double>(event.numbers.at(1)) > 1.6e9);
  CHECK(event.numbers.at(2) == 1234567890123);
  const Message summary(event.parts.find(5)->second);
  std::map<std::string, float> values;
  for (const auto& [field, part] : summary.parts) {
    const Message value(part);
    values[value.parts.find(1)->second] = std::bit_cast<float>(static_cast<std::uint32_t>(value.numbers.at(2)));
  }
  CHECK((values == std::map<std::string, float>{{"train/loss", 1.25f}, {"train/lr", 1e-4f}}));
}

TEST_CASE("metrics: a line a step; what comes after the checkpoint goes") {
  const test::Scratch scratch;
  const std::string path = scratch.file("metrics.jsonl");
  {
    MetricsFile file(path, -1);
    for (int step = 1; step <= 5; ++step)
      file.write({.step = step, .loss = 0.1 * step, .lr = 1e-4, .grad_norm = INFINITY});
    file.write({.step = 5, .eval_loss = 2.5, .peak_rss_bytes = 7});
  }
  const std::string all = test::get_file(path);
  CHECK(test::contains(all, "{\"step\":3,\"loss\":0.30000000000000004,\"lr\":0.0001,\"peak_rss_bytes\":0}\n"));
  CHECK(test::contains(all, "{\"step\":5,\"eval_loss\":2.5,\"peak_rss_bytes\":7}\n"));
  test::put_file(path, all + "{\"step\":6,\"lo");  // a process died
  { MetricsFile(path, 5); }
  CHECK(test::get_file(path) == all);
  { MetricsFile(path, 5, true); }
  CHECK(test::get_file(path) == all.substr(0, all.find("{\"step\":5,\"eval")));
  { MetricsFile(path, 2); }
  CHECK(test::get_file(path) == all.substr(0, all.find("{\"step\":3")));
  { MetricsFile(path, -1); }
  CHECK(test::get_file(path).empty());
  test::put_file(path, "hello\n");
  CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { MetricsFile(path, 2); }), "line 1"));
}

TEST_CASE("the loss scale halves at an overflow, and doubles after a run of finite steps") {
  LossScaler scaler(1024, 3);
  scaler.update(false);
  CHECK(scaler.scale() == 512);
  scaler.update(true);
  scaler.update(true);
  LossScaler resumed(1, 3);
  resumed.load_state(scaler.state());
  CHECK(resumed.scale() == 512);
  resumed.update(true);
  CHECK(resumed.scale() == 1024);
  for (int i = 0; i < 25; ++i) {
    CHECK_FALSE(resumed.exhausted() != (resumed.scale() < 0x1p-14));
    resumed.update(false);
  }
  CHECK(resumed.exhausted());
}
