#include <cstring>

#include "nn/kernels/kernels.h"
#include "nn/kernels/wide_product.h"

namespace atelier::nn::kernels {

#ifdef __x86_64__
extern const WideProduct wide_avx512;
#endif

const WideProduct* find_wide_product(const char* table_name) {
#ifdef __x86_64__
  if (find_table(table_name) == nullptr) return nullptr;
  return std::strcmp(table_name, "avx512") == 0 || std::strcmp(table_name, "avx512bf16") == 0 ? &wide_avx512 : nullptr;
#else
  return nullptr;
#endif
}

const WideProduct* wide_product() { return find_wide_product(table().name); }

}  // namespace atelier::nn::kernels
