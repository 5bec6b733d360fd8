#include <cstring>

#include "nn/kernels/flash_attention.h"

namespace atelier::nn::kernels {

#ifdef __x86_64__
extern const FlashKernels flash_avx512_float;
extern const FlashKernels flash_avx512bf16_bf16;
#endif

const FlashKernels* find_flash_kernels(const char* table_name, Type type) {
#ifdef __x86_64__
  const bool pairs = std::strcmp(table_name, "avx512bf16") == 0;
  if (find_table(table_name) == nullptr) return nullptr;
  if (type == Type::bfloat16) return pairs ? &flash_avx512bf16_bf16 : nullptr;
  return pairs || std::strcmp(table_name, "avx512") == 0 ? &flash_avx512_float : nullptr;
#else
  return nullptr;
#endif
}

const FlashKernels* flash_kernels(Type type) { return find_flash_kernels(table().name, type); }

}  // namespace atelier::nn::kernels
