#include <cstring>

#include "nn/kernels/cache_codes.h"

namespace atelier::nn::kernels {

extern const CodeTable scalar_code_table;
#ifdef __x86_64__
extern const CodeTable avx2_code_table;
extern const CodeTable avx512_code_table;
#endif

const CodeTable* find_code_table(const char* name) {
  if (find_table(name) == nullptr) return nullptr;  // this processor cannot run it
#ifdef __x86_64__
  if (std::strncmp(name, "avx512", 6) == 0) return &avx512_code_table;
  if (std::strcmp(name, "avx2") == 0) return &avx2_code_table;
#endif
  return &scalar_code_table;
}

const CodeTable& code_table() {
  static const CodeTable& chosen = *find_code_table(table().name);
  return chosen;
}

}  // namespace atelier::nn::kernels
