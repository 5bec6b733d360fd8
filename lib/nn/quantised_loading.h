#pragma once

#include <cstdint>
#include <string>

#include "nn/module.h"
#include "nn/group_quantised_weight.h"

namespace atelier::nn {

/// Whether a checkpoint holds a weight packed: its three parts in the place of a tensor of that name.
bool has_quantised(const io::WeightSource& source, const std::string& stored);

/// As load_parameters on the CPU, but the weights of Linear and Embedding modules are held packed: those that the checkpoint has
/// packed as they are there, on the mapped pages; with a quantisation the others too, quantised one after another, the pages of
/// the file let go as it goes on. Vectors (norms, biases) stay in `dtype`. Error(data) for parts that fit nothing and numbers that
/// are not finite.
void load_quantised(Module& module, io::WeightSource& source, const NameMap& names, at::ScalarType dtype,
                 const GroupQuantisation& quantisation);

/// As account_parameters for the same; returns the bytes of all parameters as load_quantised would hold them.
std::int64_t account_quantised(Module& module, io::WeightSource& source, const NameMap& names, at::ScalarType dtype,
                            const GroupQuantisation& quantisation);

/// Bits for each number of a packed weight of the checkpoint, from the shapes of its parts; 0 where they are not right.
int quantised_bits(const io::WeightSource& source, const std::string& stored);

}  // namespace atelier::nn
