#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "io/tensor_file.h"

namespace atelier::train {

using TensorMap = io::TensorMap;

/// A leaf that is trained. `name` is the checkpoint's, and must be unique in a run.
struct Parameter {
  std::string name;
  at::Tensor tensor;    ///< floating point, requires_grad
  double lr_scale = 1;  ///< times the schedule's rate: text encoder beside U-Net, LoRA+
  bool decays = true;   ///< whether weight decay applies; transformers leaves biases and norms out
};

/// Forgets all gradients.
void clear_gradients(std::vector<Parameter>& parameters);

/// L2 norm of all gradients taken as one vector (f32 within a tensor, f64 over them); NaN or infinity where one of them
/// holds such a value. 0 where no parameter has a gradient.
double gradient_norm(const std::vector<Parameter>& parameters);

/// Multiplies all gradients by `factor`.
void scale_gradients(std::vector<Parameter>& parameters, double factor);

/// As torch.nn.utils.clip_grad_norm_: where `norm` (from gradient_norm) is above `max_norm`, gradients are multiplied
/// by max_norm / (norm + 1e-6). `max_norm` 0 clips nothing.
void clip_gradients(std::vector<Parameter>& parameters, double norm, double max_norm);

}  // namespace atelier::train
