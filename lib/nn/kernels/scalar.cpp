#include "nn/kernels/lanes_scalar.h"

namespace atelier::nn::kernels {

extern const Table scalar_table;
const Table scalar_table = Kernels<Lanes8, FloatDot<Lanes8, bf16>>::make("scalar");

}  // namespace atelier::nn::kernels
