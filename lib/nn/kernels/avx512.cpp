// Compiled with -mavx512f -mavx512bw -mavx512vl -mavx512dq.
#include "nn/kernels/channels_last_impl.h"
#include "nn/kernels/lanes_avx512.h"

namespace atelier::nn::kernels {

extern const Table avx512_table;
const Table avx512_table = Kernels<Avx512, FloatDot<Avx512, bf16>>::make("avx512");
extern const ChannelsLast avx512_channels_last;
const ChannelsLast avx512_channels_last = ChannelsLastOf<Avx512>::make();

}  // namespace atelier::nn::kernels
