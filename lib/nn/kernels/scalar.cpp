#include "nn/kernels/channels_last_impl.h"
#include "nn/kernels/lanes_scalar.h"

namespace atelier::nn::kernels {

extern const Table scalar_table;
const Table scalar_table = Kernels<Lanes8, FloatDot<Lanes8, bf16>>::make("scalar");
extern const ChannelsLast scalar_channels_last;
const ChannelsLast scalar_channels_last = ChannelsLastOf<Lanes8>::make();

}  // namespace atelier::nn::kernels
