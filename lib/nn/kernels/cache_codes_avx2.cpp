// Compiled with -mavx2 -mfma: the same lanes, which the compiler then puts into registers of eight.
#include "nn/kernels/cache_codes_impl.h"
#include "nn/kernels/lanes_scalar.h"

namespace atelier::nn::kernels {

extern const CodeTable avx2_code_table;
const CodeTable avx2_code_table = CodeKernels<PlainCodes<Lanes8>>::make("avx2");

}  // namespace atelier::nn::kernels
