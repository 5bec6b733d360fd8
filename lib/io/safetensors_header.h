#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "io/safetensors.h"

namespace atelier::io {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::size_t kMaxRank = 64;  ///< no tensor library goes beyond; an unbounded list would cost memory

std::optional<DType> find_dtype(std::string_view name);

/// The JSON half of parse_safetensors: syntax, UTF-8, types, required and unknown fields, duplicates. Reads the text in one
/// pass without building a tree, so memory stays in proportion to what is well-formed. `begin` and `end` come out counted
/// from the start of the data; sizes and layout are not checked yet. Errors as parse_safetensors.
SafetensorsHeader read_header_json(std::string_view text, std::string_view file);

}  // namespace atelier::io
