#include "schedulers/brownian.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

namespace atelier::schedulers {
namespace {

/// numpy's hash: the constant changes with every use.
class Hash {
 public:
  Hash(std::uint32_t constant, std::uint32_t multiplier) : constant_(constant), multiplier_(multiplier) {}
  std::uint32_t operator()(std::uint32_t value) {
    value ^= constant_;
    constant_ *= multiplier_;
    value *= constant_;
    return value ^ (value >> 16);
  }

 private:
  std::uint32_t constant_, multiplier_;
};

std::uint32_t mix(std::uint32_t x, std::uint32_t y) {
  const std::uint32_t result = 0xca01f9ddU * x - 0x4973f715U * y;
  return result ^ (result >> 16);
}

void append_words(std::vector<std::uint32_t>& words, std::uint64_t value) {
  words.push_back(static_cast<std::uint32_t>(value));
  if (value >> 32 != 0) words.push_back(static_cast<std::uint32_t>(value >> 32));
}

/// Python's round(value, 6): the nearest decimal, exact ties to even. glibc prints with the same rule.
double round6(double value) {
  char text[400];
  std::snprintf(text, sizeof text, "%.6f", value);
  return std::strtod(text, nullptr);
}

}  // namespace

SeedSequence::SeedSequence(std::uint64_t entropy, std::initializer_list<std::uint64_t> spawn_key) {
  std::vector<std::uint32_t> words;
  append_words(words, entropy);
  if (spawn_key.size() > 0) words.resize(kPool);  // or a short seed and its key could be mistaken for a long seed
  for (const std::uint64_t key : spawn_key) append_words(words, key);

  Hash hash(0x43b0d7e5U, 0x931e8875U);
  for (std::size_t i = 0; i < kPool; ++i) pool_[i] = hash(i < words.size() ? words[i] : 0);
  for (std::size_t from = 0; from < kPool; ++from) {
    for (std::size_t to = 0; to < kPool; ++to) {
      if (from != to) pool_[to] = mix(pool_[to], hash(pool_[from]));
    }
  }
  for (std::size_t from = kPool; from < words.size(); ++from) {
    for (std::uint32_t& to : pool_) to = mix(to, hash(words[from]));
  }
}

std::uint32_t SeedSequence::first() const { return Hash(0x8b51f9ddU, 0x58f38dedU)(pool_[0]); }

BrownianTree::BrownianTree(double t0, double t1, std::vector<std::int64_t> shape, at::ScalarType dtype,
                           std::uint64_t seed)
    : start_(round6(t0)), end_(round6(t1)), shape_(std::move(shape)), dtype_(dtype), seed_(seed) {
  whole_ = draw(SeedSequence(seed).first()) * std::sqrt(t1 - t0);
}

at::Tensor BrownianTree::draw(std::uint64_t seed) const {
  return at::randn(shape_, at::detail::createCPUGenerator(seed), at::TensorOptions(dtype_));
}

at::Tensor BrownianTree::increment(double a, double b) const {
  a = round6(std::clamp(a, start_, end_));
  b = round6(std::clamp(b, start_, end_));
  at::Tensor sum;
  if (a < b) collect({start_, end_, 0, 0, whole_}, a, b, sum);
  return sum.defined() ? sum : at::zeros(shape_, at::TensorOptions(dtype_));
}

void BrownianTree::collect(const Node& node, double a, double b, at::Tensor& sum) const {
  if (a == node.start && b == node.end) {
    sum = sum.defined() ? sum + node.increment : node.increment;
    return;
  }
  const double middle = round6(0.5 * (node.end + node.start));
  const double left = middle - node.start, right = node.end - middle, per_length = 1 / (node.end - node.start);
  const at::Tensor noise = draw(SeedSequence(seed_, {node.key, node.depth}).first());
  const at::Tensor first = left * node.increment * per_length + std::sqrt(left * right * per_length) * noise;
  if (a < middle) {
    collect({node.start, middle, 2 * node.key, node.depth + 1, first}, a, std::min(b, middle), sum);
  }
  if (b > middle) {
    collect({middle, node.end, 2 * node.key + 1, node.depth + 1, node.increment - first}, std::max(a, middle), b, sum);
  }
}

}  // namespace atelier::schedulers
