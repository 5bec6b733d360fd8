#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "io/mapped_file.h"

namespace atelier::io {

/// A value of a GGUF file's metadata. Numbers keep their kind and lose their width; booleans are numbers.
using GgufValue = std::variant<std::uint64_t, std::int64_t, double, std::string, std::vector<std::int64_t>,
                               std::vector<double>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  std::uint32_t type = 0;           ///< of io/gguf_blocks.h
  std::vector<std::int64_t> shape;  ///< as LibTorch has it: the fastest dimension is the last
  std::uint64_t begin = 0;          ///< first byte, counted from the start of the file
  std::uint64_t end = 0;            ///< one past the last byte

  std::int64_t elements() const;
};

struct GgufHeader {
  std::map<std::string, GgufValue> metadata;
  std::vector<GgufTensor> tensors;  ///< in the order of the file's list

  /// Values by key; nothing where there is none. Error(data) where it is of another kind; `what` (the file's name) starts it.
  std::optional<std::string> text(const std::string& key, const std::string& what) const;
  std::optional<std::int64_t> integer(const std::string& key, const std::string& what) const;
  std::optional<double> number(const std::string& key, const std::string& what) const;
  const std::vector<std::string>* texts(const std::string& key) const;  ///< null where it is no list of texts
  /// A list of numbers; empty where it is none.
  std::vector<double> numbers(const std::string& key) const;
};

/// Parses and checks the header of a whole file.
///
/// The format (little-endian): "GGUF", u32 version, u64 number of tensors, u64 number of metadata entries; each entry a key
/// (u64 length, bytes), u32 type, value; then of each tensor its name, u32 number of dimensions, u64 dimensions with the
/// fastest first, u32 type, u64 offset; then, at the next multiple of the alignment (`general.alignment`, 32), the data.
/// Checked: version 2 or 3; every number and length against what is left of the file, every product and sum against
/// overflow; caps on the numbers of entries, tensors and list members; known value types, no lists of lists; keys and names
/// printable ASCII, none twice; one to four dimensions of at least 1; a type that can be read, whose blocks fit the rows; offsets that
/// are multiples of the alignment; data inside the file, no two tensors overlapping. `name` (the file's) starts every error:
/// Error(data).
/// Reference: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
GgufHeader parse_gguf(std::span<const std::byte> file, std::string_view name);

/// Whether a file is one, by its first bytes; false where it cannot be read.
bool is_gguf(const std::string& path);

/// An open file with its header.
struct GgufFile {
  std::shared_ptr<const MappedFile> file;
  GgufHeader header;
  /// Error(no_input), Error(data).
  static std::shared_ptr<const GgufFile> open(const std::string& path);
};

}  // namespace atelier::io
