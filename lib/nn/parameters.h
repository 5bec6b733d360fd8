#pragma once

#include <string>

#include "nn/module.h"

/// More of module.h, for what loads weights in ways of its own.
namespace atelier::nn {

/// Whether the checkpoint has a tensor for a parameter; Error(data) where its shape is another. A missing one is noted.
bool has_parameter(const std::string& stored, const at::Tensor& parameter, io::WeightSource& source);

/// As account_parameters of module.h, less those parameters for which `account_one` says that it has seen to them.
void account_parameters(Module& module, io::WeightSource& source, const NameMap& names, const LoadOne& account_one);

}  // namespace atelier::nn
