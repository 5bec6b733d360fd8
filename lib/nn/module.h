#pragma once

#include <functional>
#include <string>

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include "io/weight_source.h"

namespace atelier::nn {

/// Base of every layer. The module tree is the name map: children and parameters carry the names of the checkpoint.
using Module = torch::nn::Module;

/// A parameter that has a shape and no memory yet: load_parameters() puts the checkpoint's tensor in its place, so that a
/// mapped weight is never copied and a model of any size is built in no time.
at::Tensor placeholder(at::IntArrayRef shape);

/// Where a module's parameters lie in a checkpoint.
struct NameMap {
  virtual ~NameMap() = default;
  /// The checkpoint's name of a parameter of the module tree.
  virtual std::string stored(const std::string& name) const { return name; }
};

/// Called for a parameter of the module tree and its checkpoint's name; true where it has seen to the tensor itself.
using LoadOne = std::function<bool(const std::string& name, const std::string& stored)>;

/// Fills every parameter of the tree from the checkpoint. Error(data) where one is missing (all missing ones are counted,
/// the first is named) or has another shape. Looks at the stop flag between tensors.
void load_parameters(Module& module, io::WeightSource& source, const NameMap& names, at::ScalarType dtype,
                     at::Device device, const LoadOne& load_one = {});

/// The accounting of --plan without loading: marks what would be read, and checks shapes. Missing names are only noted.
void account_parameters(Module& module, io::WeightSource& source, const NameMap& names);

}  // namespace atelier::nn
