// The reference, and what the dispatcher falls back on.
#include "nn/kernels/cache_codes_impl.h"
#include "nn/kernels/lanes_scalar.h"

namespace atelier::nn::kernels {

extern const CodeTable scalar_code_table;
const CodeTable scalar_code_table = CodeKernels<PlainCodes<Lanes8>>::make("scalar");

}  // namespace atelier::nn::kernels
