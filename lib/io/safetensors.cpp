#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/stop.h"
#include "io/file_system.h"
#include "io/safetensors_header.h"

namespace atelier::io {
namespace {

using base::checked_add;
using base::checked_mul;
using base::Error;
using base::ExitCode;
using base::in_quotes;

constexpr std::uint64_t kLengthBytes = 8;

struct DTypeFacts {
  std::string_view name;
  int bits;
};

// In the order of the enumeration.
constexpr std::array<DTypeFacts, 22> kDTypes{{
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
}};

std::uint64_t read_length(std::span<const std::byte> file) {
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8 | std::to_integer<std::uint64_t>(file[i]);
  return length;
}

// Bytes of a tensor of that shape, or nothing where 64 bits cannot hold the count of its elements or bits, or where the
// bits do not fill whole bytes.
std::optional<std::uint64_t> bytes_of(DType dtype, const std::vector<std::int64_t>& shape) {
  std::optional<std::uint64_t> bits = 1;
  for (const std::int64_t size : shape) {
    if (bits) bits = checked_mul(*bits, static_cast<std::uint64_t>(size));
  }
  if (bits) bits = checked_mul(*bits, static_cast<std::uint64_t>(dtype_bits(dtype)));
  if (!bits || *bits % 8 != 0) return std::nullopt;
  return *bits / 8;
}

// The rules that concern one tensor by itself.
void check_size(const TensorInfo& tensor, std::string_view file) {
  const auto refuse = [&](const std::string& why) {
    return Error(ExitCode::data, fmt::format("{}: tensor {} {}", file, in_quotes(tensor.name), why));
  };
  if (tensor.begin > tensor.end) {
    throw refuse(fmt::format("begins at byte {} and ends at byte {} of the data", tensor.begin, tensor.end));
  }
  const std::optional<std::uint64_t> bytes = bytes_of(tensor.dtype, tensor.shape);
  if (!bytes) {
    throw refuse(
        fmt::format("has a shape that in {} is not a whole number of bytes below 2^64 bits", dtype_name(tensor.dtype)));
  }
  if (*bytes != tensor.end - tensor.begin) {
    throw refuse(fmt::format("takes {} bytes by its shape, {} by its offsets", *bytes, tensor.end - tensor.begin));
  }
}

// The rules that concern the tensors together; turns offsets in the data into offsets in the file.
void check_layout(std::vector<TensorInfo>& tensors, std::uint64_t data_begin, std::uint64_t file_size,
                  std::string_view file) {
  std::uint64_t expected = 0;
  for (TensorInfo& tensor : tensors) {
    if (tensor.begin != expected) {
      throw Error(ExitCode::data, fmt::format("{}: tensor {} begins at byte {} of the data, where byte {} is due: {}",
                                              file, in_quotes(tensor.name), tensor.begin, expected,
                                              tensor.begin > expected ? "a hole" : "an overlap"));
    }
    expected = tensor.end;
    if (expected > file_size - data_begin) {
      const auto end = checked_add(data_begin, expected);
      throw Error(ExitCode::data, fmt::format("{}: tensor {} ends at byte {}, the file at {}", file,
                                              in_quotes(tensor.name), end ? std::to_string(*end) : "2^64", file_size));
    }
    tensor.begin += data_begin;
    tensor.end += data_begin;
  }
  if (expected != file_size - data_begin) {
    throw Error(ExitCode::data,
                fmt::format("{}: the tensors end at byte {}, the file at {}", file, data_begin + expected, file_size));
  }
}

std::string tensor_json(const TensorInfo& tensor, std::uint64_t begin, std::uint64_t end) {
  std::string shape;
  for (const std::int64_t size : tensor.shape) shape += (shape.empty() ? "" : ",") + std::to_string(size);
  return fmt::format(R"({{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", dtype_name(tensor.dtype), shape, begin,
                     end);
}

std::string json_string(const std::string& text) {
  try {
    return base::Json(text).dump();
  } catch (const base::Json::exception&) {
    throw Error(ExitCode::data,
                fmt::format("{} is not UTF-8 and cannot be written to a safetensors file", in_quotes(text)));
  }
}

// What a caller may hand over; a violation is a bug of the caller.
void check_writable(const TensorBytes& tensor) {
  const TensorInfo& info = tensor.info;
  const bool negative = std::any_of(info.shape.begin(), info.shape.end(), [](std::int64_t size) { return size < 0; });
  const auto bytes = negative ? std::nullopt : bytes_of(info.dtype, info.shape);
  if (info.name == "__metadata__" || bytes != tensor.data.size() || info.shape.size() > kMaxRank) {
    throw Error(ExitCode::internal, fmt::format("tensor {} cannot be written: its name, shape and {} bytes do not fit",
                                                in_quotes(info.name), tensor.data.size()));
  }
}

std::string header_json(std::span<const TensorBytes* const> order, const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) header += fmt::format("{}:{},", json_string(key), json_string(value));
    header.back() = '}';
    header += ',';
  }
  std::uint64_t offset = 0;
  for (const TensorBytes* tensor : order) {
    const std::uint64_t end = offset + tensor->data.size();
    header += fmt::format("{}:{},", json_string(tensor->info.name), tensor_json(tensor->info, offset, end));
    offset = end;
  }
  if (header.size() > 1) header.pop_back();
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');
  return header;
}

}  // namespace

std::string_view dtype_name(DType dtype) { return kDTypes.at(static_cast<std::size_t>(dtype)).name; }
int dtype_bits(DType dtype) { return kDTypes.at(static_cast<std::size_t>(dtype)).bits; }

std::optional<DType> find_dtype(std::string_view name) {
  for (std::size_t i = 0; i < kDTypes.size(); ++i) {
    if (kDTypes[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

std::int64_t TensorInfo::elements() const {
  // A 0 first: beside it the other numbers may be of any size.
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

SafetensorsHeader parse_safetensors(std::span<const std::byte> file, std::string_view name) {
  if (file.size() < kLengthBytes) {
    throw Error(ExitCode::data, fmt::format("{}: {} bytes are too few for a safetensors file", name, file.size()));
  }
  const std::uint64_t length = read_length(file);
  if (length > kMaxHeaderBytes) {
    throw Error(ExitCode::data, fmt::format("{}: the header claims {} bytes, more than {}: not a safetensors file",
                                            name, length, kMaxHeaderBytes));
  }
  if (length > file.size() - kLengthBytes) {
    throw Error(ExitCode::data, fmt::format("{}: the header ends at byte {}, the file at {}: cut off?", name,
                                            length + kLengthBytes, file.size()));
  }
  const auto* text = reinterpret_cast<const char*>(file.data()) + kLengthBytes;
  SafetensorsHeader header = read_header_json({text, static_cast<std::size_t>(length)}, name);
  for (const TensorInfo& tensor : header.tensors) check_size(tensor, name);
  std::sort(header.tensors.begin(), header.tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_layout(header.tensors, kLengthBytes + length, file.size(), name);
  return header;
}

void write_safetensors(const std::string& path, std::span<const TensorBytes> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const TensorBytes*> order;
  for (const TensorBytes& tensor : tensors) {
    check_writable(tensor);
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const TensorBytes* a, const TensorBytes* b) {
    return std::tie(b->info.dtype, a->info.name) < std::tie(a->info.dtype, b->info.name);
  });
  std::set<std::string_view> names;
  for (const TensorBytes* tensor : order) {
    if (!names.insert(tensor->info.name).second) {
      throw Error(ExitCode::internal, fmt::format("tensor {} is to be written twice", in_quotes(tensor->info.name)));
    }
  }
  const std::string header = header_json(order, metadata);
  if (header.size() > kMaxHeaderBytes) {
    throw Error(ExitCode::data,
                fmt::format("{}: a header of {} bytes is more than the format allows", path, header.size()));
  }
  std::array<unsigned char, kLengthBytes> length;
  for (std::size_t i = 0; i < length.size(); ++i) length[i] = static_cast<unsigned char>(header.size() >> (8 * i));

  write_atomically(path, [&](OutputFile& file) {
    constexpr std::size_t kBlock = 64u << 20;  // between two looks at the stop flag
    file.write(length.data(), length.size());
    file.write(header);
    for (const TensorBytes* tensor : order) {
      for (std::size_t done = 0; done < tensor->data.size(); done += kBlock) {
        base::throw_if_stopped();
        file.write(tensor->data.data() + done, std::min(kBlock, tensor->data.size() - done));
      }
    }
  });
}

}  // namespace atelier::io
