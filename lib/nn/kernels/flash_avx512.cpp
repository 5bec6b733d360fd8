// Compiled as avx512.cpp.
#include "nn/kernels/flash_gradient_impl.h"

namespace atelier::nn::kernels {

extern const FlashKernels flash_avx512_float;
const FlashKernels flash_avx512_float = Flash<FlashFloat>::make();

}  // namespace atelier::nn::kernels
