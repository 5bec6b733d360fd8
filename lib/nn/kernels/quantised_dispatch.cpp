#include <cstdlib>
#include <cstring>

#include "nn/kernels/quantised.h"

namespace atelier::nn::kernels {

extern const QuantisedTable quantised_scalar_table;
#ifdef __x86_64__
extern const QuantisedTable quantised_avx2_table;
extern const QuantisedTable quantised_avx512vnni_table;
#endif

namespace {

const QuantisedTable& choose() {
  if (const char* wanted = std::getenv("ATELIER_ISA"))
    if (const QuantisedTable* t = find_quantised_table(wanted)) return *t;
  constexpr const char* best_first[] = {"avx512vnni", "avx2"};
  for (const char* name : best_first)
    if (const QuantisedTable* t = find_quantised_table(name)) return *t;
  return quantised_scalar_table;
}

}  // namespace

const QuantisedTable* find_quantised_table(const char* name) {
#ifdef __x86_64__
  if (std::strcmp(name, "avx512vnni") == 0 && __builtin_cpu_supports("avx512vnni") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    return &quantised_avx512vnni_table;
  if (std::strcmp(name, "avx2") == 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return &quantised_avx2_table;
#endif
  return std::strcmp(name, "scalar") == 0 ? &quantised_scalar_table : nullptr;
}

const QuantisedTable& quantised_table() {
  static const QuantisedTable& chosen = choose();
  return chosen;
}

}  // namespace atelier::nn::kernels
