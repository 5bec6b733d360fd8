#include <cstdlib>
#include <cstring>

#include "nn/kernels/channels_last.h"
#include "nn/kernels/kernels.h"

namespace atelier::nn::kernels {

extern const Table scalar_table;
extern const ChannelsLast scalar_channels_last;
#ifdef __x86_64__
extern const Table avx2_table;
extern const Table avx512_table;
extern const Table avx512bf16_table;
extern const ChannelsLast avx2_channels_last;
extern const ChannelsLast avx512_channels_last;
extern const ChannelsLast avx512bf16_channels_last;
#endif

namespace {

struct Candidate {
  const Table* table;
  bool usable;
};

/// Best first.
const Candidate* candidates(int& count) {
  static const Candidate all[] = {
#ifdef __x86_64__
      {&avx512bf16_table, __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
                              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")},
      {&avx512_table,
       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")},
      {&avx2_table, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#endif
      {&scalar_table, true},
  };
  count = sizeof(all) / sizeof(all[0]);
  return all;
}

const Table& choose() {
  if (const char* wanted = std::getenv("ATELIER_ISA"))
    if (const Table* t = find_table(wanted)) return *t;
  int count = 0;
  const Candidate* all = candidates(count);
  for (int i = 0; i < count; ++i)
    if (all[i].usable) return *all[i].table;
  return scalar_table;
}

}  // namespace

const Table* find_table(const char* name) {
  int count = 0;
  const Candidate* all = candidates(count);
  for (int i = 0; i < count; ++i)
    if (all[i].usable && std::strcmp(all[i].table->name, name) == 0) return all[i].table;
  return nullptr;
}

const Table& table() {
  static const Table& chosen = choose();
  return chosen;
}

const ChannelsLast* find_channels_last(const char* table_name) {
  const Table* t = find_table(table_name);
#ifdef __x86_64__
  if (t == &avx512bf16_table) return &avx512bf16_channels_last;
  if (t == &avx512_table) return &avx512_channels_last;
  if (t == &avx2_table) return &avx2_channels_last;
#endif
  return t == &scalar_table ? &scalar_channels_last : nullptr;
}

const ChannelsLast& channels_last() {
  static const ChannelsLast& chosen = *find_channels_last(table().name);
  return chosen;
}

}  // namespace atelier::nn::kernels
