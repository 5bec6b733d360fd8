#pragma once

#include <map>
#include <string>

#include <ATen/core/Tensor.h>

namespace atelier::io {

/// Tensors by name, in the order in which they are saved.
using TensorMap = std::map<std::string, at::Tensor>;

/// Writes tensors of any device and layout as a safetensors file, whole or not at all, each in its own dtype.
/// Error(cannot_create), Error(io).
void write_tensors(const std::string& path, const TensorMap& tensors,
                   const std::map<std::string, std::string>& metadata = {});

/// All tensors of a file, on the CPU, in their saved dtype; they share mapped pages, so do not write to them.
/// Error(no_input), Error(data).
TensorMap read_tensors(const std::string& path);

}  // namespace atelier::io
