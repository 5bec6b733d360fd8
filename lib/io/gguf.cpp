#include "io/gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <type_traits>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"
#include "io/gguf_blocks.h"

namespace atelier::io {
namespace {

using base::Error;
using base::ExitCode;
using base::in_quotes;

constexpr std::uint64_t most_entries = 1u << 16, most_tensors = 1u << 16, most_members = 1u << 22;
constexpr std::uint64_t longest_name = 1u << 12, longest_text = 1u << 26;
constexpr std::uint64_t most_dimensions = 4, largest_alignment = 1u << 16;

enum ValueType : std::uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kText, kList, kU64, kI64, kF64 };

/// Bytes of a number of that type; 0 where it is none.
std::size_t size_of(std::uint32_t type) {
  constexpr std::size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < std::size(sizes) ? sizes[type] : 0;
}

class Reader {
 public:
  Reader(std::span<const std::byte> file, std::string_view name) : file_(file), name_(name) {}

  GgufHeader read() {
    const std::uint64_t tensors = opening();
    const std::uint64_t entries = count("metadata entries", most_entries);
    for (std::uint64_t i = 0; i < entries; ++i) entry();
    for (std::uint64_t i = 0; i < tensors; ++i) tensor();
    place_tensors();
    return std::move(header_);
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw Error(ExitCode::data, fmt::format("{}: {}", name_, why));
  }

  std::span<const std::byte> take(std::uint64_t bytes) {
    if (bytes > file_.size() - at_) fail(fmt::format("the header ends in the middle, at byte {}", file_.size()));
    const auto part = file_.subspan(at_, bytes);
    at_ += bytes;
    return part;
  }

  template <typename T>
  T plain() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  std::string text(std::uint64_t longest) {
    const auto length = plain<std::uint64_t>();
    if (length > longest) fail(fmt::format("a text of {} bytes, at most {} are read", length, longest));
    const auto bytes = take(length);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  std::string key(const char* what) {
    std::string found = text(longest_name);
    const auto printable = [](char c) { return c >= ' ' && c <= '~'; };
    if (found.empty() || !std::all_of(found.begin(), found.end(), printable))
      fail(fmt::format("the name of a {} is not printable ASCII", what));
    return found;
  }

  std::uint64_t count(const char* what, std::uint64_t most) {
    const auto n = plain<std::uint64_t>();
    if (n > most) fail(fmt::format("{} {}, at most {} are read", n, what, most));
    return n;
  }

  std::uint64_t opening() {
    if (file_.size() < 4 || std::memcmp(file_.data(), "GGUF", 4) != 0) fail("not a GGUF file");
    at_ = 4;
    const auto version = plain<std::uint32_t>();
    if (version == 0x02000000u || version == 0x03000000u) fail("a big-endian GGUF file, which is not supported");
    if (version != 2 && version != 3) fail(fmt::format("GGUF version {} is not supported, only 2 and 3", version));
    return count("tensors", most_tensors);
  }

  /// A number of a type that size_of knows.
  template <typename Give>
  void number(std::uint32_t type, const Give& give) {
    switch (type) {
      case kU8: return give(std::uint64_t{plain<std::uint8_t>()});
      case kI8: return give(std::int64_t{plain<std::int8_t>()});
      case kU16: return give(std::uint64_t{plain<std::uint16_t>()});
      case kI16: return give(std::int64_t{plain<std::int16_t>()});
      case kU32: return give(std::uint64_t{plain<std::uint32_t>()});
      case kI32: return give(std::int64_t{plain<std::int32_t>()});
      case kU64: return give(plain<std::uint64_t>());
      case kI64: return give(plain<std::int64_t>());
      case kF32: return give(static_cast<double>(plain<float>()));
      case kF64: return give(plain<double>());
      default:
        const auto truth = plain<std::uint8_t>();
        if (truth > 1) fail("a boolean that is neither 0 nor 1");
        return give(std::uint64_t{truth});
    }
  }

  GgufValue list() {
    const auto type = plain<std::uint32_t>();
    const std::uint64_t members = count("members of a list", most_members);
    if (type == kText) {
      std::vector<std::string> texts;
      for (std::uint64_t i = 0; i < members; ++i) texts.push_back(text(longest_text));
      return texts;
    }
    if (size_of(type) == 0) fail(fmt::format("a list of values of the type {}", type));
    if (members > (file_.size() - at_) / size_of(type)) fail("a list ends behind the file");
    if (type == kF32 || type == kF64) {
      std::vector<double> numbers;
      for (std::uint64_t i = 0; i < members; ++i) numbers.push_back(type == kF32 ? plain<float>() : plain<double>());
      return numbers;
    }
    std::vector<std::int64_t> numbers;
    for (std::uint64_t i = 0; i < members; ++i)
      number(type, [&](auto value) {
        if (std::is_same_v<decltype(value), std::uint64_t> && static_cast<std::int64_t>(value) < 0)
          fail("a number above 2^63 in a list");
        numbers.push_back(static_cast<std::int64_t>(value));
      });
    return numbers;
  }

  void entry() {
    const std::string name = key("metadata entry");
    const auto type = plain<std::uint32_t>();
    GgufValue value;
    if (type == kText)
      value = text(longest_text);
    else if (type == kList)
      value = list();
    else if (size_of(type) > 0)
      number(type, [&](auto found) { value = found; });
    else
      fail(fmt::format("metadata entry {} has the unknown type {}", in_quotes(name), type));
    if (!header_.metadata.try_emplace(name, std::move(value)).second)
      fail(fmt::format("metadata entry {} is there twice", in_quotes(name)));
  }

  /// `begin` is the offset in the data, until place_tensors() knows where that is.
  void tensor() {
    GgufTensor t;
    t.name = key("tensor");
    const auto what = fmt::format("tensor {}", in_quotes(t.name));
    const auto rank = plain<std::uint32_t>();
    if (rank == 0 || rank > most_dimensions) fail(fmt::format("{} has {} dimensions", what, rank));
    std::uint64_t elements = 1;
    for (std::uint32_t i = 0; i < rank; ++i) {
      const auto size = plain<std::uint64_t>();
      const auto product = base::checked_mul(elements, size);
      if (size == 0 || !product || *product > std::uint64_t{1} << 48)
        fail(fmt::format("{} has a shape that no memory could hold", what));
      elements = *product;
      t.shape.insert(t.shape.begin(), static_cast<std::int64_t>(size));
    }
    t.type = plain<std::uint32_t>();
    const GgufBlocks* const blocks = find_gguf_blocks(t.type);
    if (blocks == nullptr)
      throw Error(ExitCode::data, fmt::format("{}: {} has the type {}, which cannot be read", name_, what, t.type),
                  "known are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K");
    if (t.shape.back() % blocks->elements != 0)
      fail(fmt::format("{} has rows of {} numbers, no multiple of {}'s {}", what, t.shape.back(), blocks->name,
                       blocks->elements));
    t.begin = plain<std::uint64_t>();
    const auto end = base::checked_add(
        t.begin, elements / static_cast<std::uint64_t>(blocks->elements) * static_cast<std::uint64_t>(blocks->bytes));
    if (!end) fail(fmt::format("{} ends behind the file", what));
    t.end = *end;
    if (!names_.insert(t.name).second) fail(fmt::format("{} is there twice", what));
    header_.tensors.push_back(std::move(t));
  }

  void place_tensors() {
    const std::int64_t alignment = header_.integer("general.alignment", std::string(name_)).value_or(32);
    if (alignment < 1 || alignment > static_cast<std::int64_t>(largest_alignment) || (alignment & (alignment - 1)) != 0)
      fail(fmt::format("an alignment of {}", alignment));
    const auto step = static_cast<std::uint64_t>(alignment);
    const std::uint64_t data = (at_ + step - 1) / step * step;
    for (GgufTensor& t : header_.tensors) {
      const auto what = fmt::format("tensor {}", in_quotes(t.name));
      if (t.begin % step != 0)
        fail(fmt::format("{} begins at {}, no multiple of the alignment {}", what, t.begin, alignment));
      const auto begin = base::checked_add(data, t.begin), end = base::checked_add(data, t.end);
      if (!begin || !end || *end > file_.size())
        fail(fmt::format("{} ends at byte {}, the file at {}", what, end ? fmt::to_string(*end) : "2^64 and more",
                         file_.size()));
      t.begin = *begin;
      t.end = *end;
    }
    std::vector<const GgufTensor*> sorted;
    for (const GgufTensor& t : header_.tensors) sorted.push_back(&t);
    std::sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->begin < b->begin; });
    for (std::size_t i = 1; i < sorted.size(); ++i)
      if (sorted[i]->begin < sorted[i - 1]->end)
        fail(fmt::format("tensors {} and {} overlap", in_quotes(sorted[i - 1]->name), in_quotes(sorted[i]->name)));
  }

  std::span<const std::byte> file_;
  std::string_view name_;
  std::uint64_t at_ = 0;
  GgufHeader header_;
  std::set<std::string> names_;
};

}  // namespace

std::int64_t GgufTensor::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t size : shape) product *= size;
  return product;
}

std::optional<std::string> GgufHeader::text(const std::string& key, const std::string& what) const {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return std::nullopt;
  if (const auto* value = std::get_if<std::string>(&found->second)) return *value;
  throw Error(ExitCode::data, fmt::format("{}: metadata entry {} is no text", what, in_quotes(key)));
}

std::optional<std::int64_t> GgufHeader::integer(const std::string& key, const std::string& what) const {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return std::nullopt;
  if (const auto* value = std::get_if<std::int64_t>(&found->second)) return *value;
  const auto* value = std::get_if<std::uint64_t>(&found->second);
  if (value != nullptr && static_cast<std::int64_t>(*value) >= 0) return static_cast<std::int64_t>(*value);
  throw Error(ExitCode::data, fmt::format("{}: metadata entry {} is no whole number in range", what, in_quotes(key)));
}

std::optional<double> GgufHeader::number(const std::string& key, const std::string& what) const {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return std::nullopt;
  if (const auto* value = std::get_if<double>(&found->second); value == nullptr)
    return static_cast<double>(*integer(key, what));
  else if (std::isfinite(*value))
    return *value;
  throw Error(ExitCode::data, fmt::format("{}: metadata entry {} is not finite", what, in_quotes(key)));
}

const std::vector<std::string>* GgufHeader::texts(const std::string& key) const {
  const auto found = metadata.find(key);
  return found == metadata.end() ? nullptr : std::get_if<std::vector<std::string>>(&found->second);
}

std::vector<double> GgufHeader::numbers(const std::string& key) const {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return {};
  if (const auto* numbers = std::get_if<std::vector<double>>(&found->second)) return *numbers;
  const auto* whole = std::get_if<std::vector<std::int64_t>>(&found->second);
  return whole == nullptr ? std::vector<double>() : std::vector<double>(whole->begin(), whole->end());
}

GgufHeader parse_gguf(std::span<const std::byte> file, std::string_view name) { return Reader(file, name).read(); }

bool is_gguf(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  return std::memcmp(magic, "GGUF", sizeof magic) == 0;
}

std::shared_ptr<const GgufFile> GgufFile::open(const std::string& path) {
  auto mapped = MappedFile::open(path);
  auto header = parse_gguf(mapped->bytes(), path);
  return std::make_shared<const GgufFile>(GgufFile{std::move(mapped), std::move(header)});
}

}  // namespace atelier::io
