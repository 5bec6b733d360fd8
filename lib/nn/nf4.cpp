#include "nn/nf4.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <ATen/Dispatch.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/bitwise_and.h>
#include <ATen/ops/bitwise_right_shift.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include "io/weight_source.h"
#include "nn/linear.h"
#include "nn/parallel.h"
#include "nn/parameters.h"

namespace atelier::nn {
namespace {

std::array<float, 15> borders() {
  std::array<float, 15> middle{};
  for (std::size_t i = 0; i < middle.size(); ++i) middle[i] = (nf4_levels[i] + nf4_levels[i + 1]) / 2;
  return middle;
}

/// Place of the nearest level; of the lower one half way between two.
std::uint8_t nearest(float x, const std::array<float, 15>& middle) {
  std::uint8_t place = 0;
  for (const float m : middle) place += x > m ? 1 : 0;
  return place;
}

template <class T>
float quantise_block(const T* x, std::int64_t count, const std::array<float, 15>& middle, std::uint8_t* codes) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(static_cast<float>(x[i])));
  const auto place = [&](std::int64_t i) -> unsigned {
    return nearest(i < count && largest > 0 ? static_cast<float>(x[i]) / largest : 0.0F, middle);
  };
  for (std::int64_t i = 0; i < count; i += 2) codes[i / 2] = static_cast<std::uint8_t>(place(i) << 4 | place(i + 1));
  return largest;
}

/// Elements [first, last) of one block whose element 0 lies at `codes`.
template <class T>
void dequantise_block(const std::uint8_t* codes, float magnitude, std::int64_t first, std::int64_t last, T* y) {
  std::array<T, 16> table;
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<T>(nf4_levels[i] * magnitude);
  std::int64_t i = first;
  if (i % 2 == 1 && i < last) *y++ = table[codes[i++ / 2] & 15];
  for (; i + 1 < last; i += 2, y += 2) {
    const std::uint8_t pair = codes[i / 2];
    y[0] = table[pair >> 4];
    y[1] = table[pair & 15];
  }
  if (i < last) *y = table[codes[i / 2] >> 4];
}

}  // namespace

const std::array<float, 16> nf4_levels = {-1.0F,
                                          -0.6961928009986877F,
                                          -0.5250730514526367F,
                                          -0.39491748809814453F,
                                          -0.28444138169288635F,
                                          -0.18477343022823334F,
                                          -0.09105003625154495F,
                                          0.0F,
                                          0.07958029955625534F,
                                          0.16093020141124725F,
                                          0.24611230194568634F,
                                          0.33791524171829224F,
                                          0.44070982933044434F,
                                          0.5626170039176941F,
                                          0.7229568362236023F,
                                          1.0F};

std::shared_ptr<const Nf4Weight> Nf4Weight::quantise(const at::Tensor& weight, bool double_quantisation) {
  const at::NoGradGuard no_grad;
  const auto dense = weight.detach().to(at::kCPU).contiguous();
  auto made = std::make_shared<Nf4Weight>();
  made->out_ = weight.size(0);
  made->in_ = weight.size(1);
  const std::int64_t elements = dense.numel(), blocks = (elements + block - 1) / block;
  auto codes = at::empty({(elements + 1) / 2}, at::kByte);
  auto magnitudes = at::empty({blocks}, at::kFloat);
  const auto middle = borders();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, dense.scalar_type(), "nf4", [&] {
    const auto* const x = dense.const_data_ptr<scalar_t>();
    parallel(blocks, 20 * block, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t b = begin; b < end; ++b)
        magnitudes.data_ptr<float>()[b] = quantise_block(x + b * block, std::min(block, elements - b * block), middle,
                                                         codes.data_ptr<std::uint8_t>() + b * block / 2);
    });
  });
  made->codes_ = codes.to(weight.device());
  if (double_quantisation) {
    made->mean_ = blocks == 0 ? 0 : magnitudes.mean().item<double>();
    const auto tree = dynamic_tree(/*with_sign=*/true);
    made->small_ = nn::quantise(magnitudes - made->mean_, tree);
    made->tree_ = tree.to(weight.device());
    for (at::Tensor* part : {&made->small_.codes, &made->small_.absmax}) *part = part->to(weight.device());
  } else {
    made->magnitudes_ = magnitudes.to(weight.device());
  }
  return made;
}

std::int64_t Nf4Weight::bytes() const {
  std::int64_t sum = 0;
  for (const at::Tensor* part : {&codes_, &magnitudes_, &small_.codes, &small_.absmax})
    if (part->defined()) sum += static_cast<std::int64_t>(part->nbytes());
  return sum;
}

at::Tensor Nf4Weight::magnitudes(std::int64_t first, std::int64_t last) const {
  if (magnitudes_.defined()) return magnitudes_.slice(0, first, last);
  const std::int64_t from = first / values_per_scale * values_per_scale;  // whole blocks of the second quantisation
  const QuantisedBlocks part{
      small_.codes.slice(0, from, last),
      small_.absmax.slice(0, from / values_per_scale, (last + values_per_scale - 1) / values_per_scale)};
  return nn::dequantise(part, tree_).slice(0, first - from) + mean_;
}

at::Tensor Nf4Weight::dequantise(at::ScalarType dtype, std::int64_t begin, std::int64_t end) const {
  const at::NoGradGuard no_grad;
  if (!device().is_cpu()) return dequantise_anywhere(dtype, begin, end);
  auto dense = at::empty({end - begin, in_}, dtype);
  const std::int64_t first = begin * in_, last = end * in_;
  if (first == last) return dense;
  const std::int64_t first_block = first / block, last_block = (last + block - 1) / block;
  const auto large = magnitudes(first_block, last_block);
  const auto* const codes = codes_.const_data_ptr<std::uint8_t>();
  const auto* const magnitude = large.const_data_ptr<float>();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, dtype, "nf4", [&] {
    auto* const y = dense.mutable_data_ptr<scalar_t>();
    parallel(last_block - first_block, 2 * block, [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t b = first_block + from; b < first_block + to; ++b) {
        const std::int64_t start = std::max(first, b * block), stop = std::min(last, (b + 1) * block);
        dequantise_block(codes + b * block / 2, magnitude[b - first_block], start - b * block, stop - b * block,
                         y + start - first);
      }
    });
  });
  return dense;
}

at::Tensor Nf4Weight::dequantise_anywhere(at::ScalarType dtype, std::int64_t begin, std::int64_t end) const {
  const std::int64_t first = begin * in_, last = end * in_, first_block = first / block,
                     last_block = (last + block - 1) / block;
  const auto bytes =
      codes_.slice(0, first_block * block / 2, std::min((last_block * block + 1) / 2, codes_.numel())).to(at::kInt);
  const auto places = at::stack({at::bitwise_right_shift(bytes, 4), at::bitwise_and(bytes, 15)}, 1).flatten();
  const auto levels = at::tensor(at::ArrayRef<float>(nf4_levels.data(), nf4_levels.size())).to(device());
  const auto values = at::index_select(levels, 0, places);  // (elements of whole blocks, or up to the last)
  const auto large = magnitudes(first_block, last_block).repeat_interleave(block).slice(0, 0, values.numel());
  return (values * large)
      .slice(0, first - first_block * block, last - first_block * block)
      .view({end - begin, in_})
      .to(dtype);
}

void load_nf4(Module& module, io::WeightSource& source, const NameMap& names, at::ScalarType dtype, at::Device device,
              const std::string& below, bool double_quantisation) {
  const at::NoGradGuard no_grad;
  std::map<std::string, Linear*> quantised;
  for (const auto& entry : module.named_modules())
    if (auto* linear = entry.value()->as<Linear>(); linear && entry.key().starts_with(below))
      quantised.emplace(entry.key() + ".weight", linear);
  load_parameters(module, source, names, dtype, device, [&](const std::string& parameter, const std::string& stored) {
    const auto place = quantised.find(parameter);
    if (place == quantised.end() || !has_parameter(stored, place->second->weight, source)) return false;
    const auto own = io::scalar_type(source.info(stored).dtype);
    place->second->quantise(Nf4Weight::quantise(source.load(stored, own, at::kCPU).to(device), double_quantisation));
    source.release(stored);
    return true;
  });
}

std::int64_t nf4_bytes(std::int64_t out, std::int64_t in, bool double_quantisation) {
  const std::int64_t elements = out * in, blocks = (elements + Nf4Weight::block - 1) / Nf4Weight::block;
  const std::int64_t of_blocks =
      double_quantisation ? blocks + (blocks + values_per_scale - 1) / values_per_scale * 4 : blocks * 4;
  return (elements + 1) / 2 + of_blocks;
}

}  // namespace atelier::nn
