// Weights in 8 and 4 bits: every instruction set against the plain C++ one bit for bit, that one against double precision, and
// rows that do not depend on one another.
#include "nn/kernels/quantised.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/seed.h"

namespace {

using namespace atelier::nn::kernels;

std::vector<const QuantisedTable*> tables() {
  std::vector<const QuantisedTable*> found;
  for (const char* name : {"scalar", "avx2", "avx512vnni"})
    if (const QuantisedTable* t = find_quantised_table(name)) found.push_back(t);
  return found;
}

const QuantisedTable& plain() { return *find_quantised_table("scalar"); }

float to_float(bf16 x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

/// In [-1, 1), now and then ten times as large.
std::vector<float> numbers(std::int64_t n, std::uint64_t seed) {
  atelier::base::Generator generator(seed);
  std::vector<float> v(static_cast<std::size_t>(n));
  for (float& x : v) {
    x = static_cast<float>(atelier::base::uniform(generator) * 2 - 1);
    if (atelier::base::uniform(generator) < 0.02) x *= 10;
  }
  return v;
}

std::vector<bf16> halves(const std::vector<float>& v) {
  std::vector<bf16> h(v.size());
  for (std::size_t i = 0; i < v.size(); ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, &v[i], 4);
    h[i] = static_cast<bf16>(bits >> 16);
  }
  return h;
}

struct Packed {
  PackedShape shape;
  std::vector<std::uint8_t> codes, scales;
  std::vector<float> units;

  explicit Packed(const PackedShape& s, std::uint8_t before = 0xAA)
      : shape(s),
        codes(static_cast<std::size_t>(s.blocks() * s.groups() * s.group_bytes()), before),
        scales(static_cast<std::size_t>(s.blocks() * s.groups() * s.scale_bytes()), before),
        units(static_cast<std::size_t>(s.blocks() * s.units()), before) {}
  PackedMatrix view() const { return {shape, codes.data(), scales.data(), units.data()}; }
  bool operator==(const Packed& other) const {
    return codes == other.codes && scales == other.scales && same_bits(units, other.units);
  }
};

Packed pack(const QuantisedTable& table, const PackedShape& shape, const std::vector<float>& w,
            const float* importance = nullptr, std::uint8_t before = 0xAA) {
  Packed packed(shape, before);
  std::vector<float> scratch(static_cast<std::size_t>(2 * shape.groups() + shape.group));
  table.pack({.shape = shape,
              .type = Type::float32,
              .w = w.data(),
              .importance = importance,
              .codes = packed.codes.data(),
              .scales = packed.scales.data(),
              .units = packed.units.data(),
              .scratch = scratch.data()},
             0, shape.blocks());
  return packed;
}

std::vector<float> unpack(const QuantisedTable& table, const Packed& packed) {
  std::vector<float> w(static_cast<std::size_t>(packed.shape.out * packed.shape.in));
  table.unpack(packed.view(), Type::float32, w.data(), 0, packed.shape.out);
  return w;
}

struct Activations {
  std::vector<std::int8_t> codes;
  std::vector<float> scales, sums;
  std::vector<std::int32_t> starts;
  PackedActivations view;

  Activations(const QuantisedTable& table, const PackedShape& s, const std::vector<float>& x, std::int64_t rows)
      : codes(static_cast<std::size_t>(rows * s.groups() * s.group)),
        scales(static_cast<std::size_t>(rows * s.groups())),
        sums(scales.size()),
        starts(scales.size()),
        view{s.group, s.groups(), codes.data(), scales.data(), sums.data(), starts.data()} {
    table.quantise_activations(Type::float32, x.data(), s.in, view, 0, rows);
  }
};

std::vector<float> product(const QuantisedTable& table, const Packed& w, const std::vector<float>& x, std::int64_t rows,
                           const std::vector<float>& bias = {}, std::int64_t split = 0) {
  const Activations activations(table, w.shape, x, rows);
  std::vector<float> y(static_cast<std::size_t>(rows * w.shape.out));
  const PackedLinearArgs args{.w = w.view(),
                              .x = activations.view,
                              .rows = rows,
                              .bias = bias.empty() ? nullptr : bias.data(),
                              .y = y.data(),
                              .type = Type::float32,
                              .y_f32 = true};
  table.linear(args, split, w.shape.blocks());
  table.linear(args, 0, split);
  return y;
}

/// Shapes that fill no block and no group, and such that do.
std::vector<PackedShape> shapes() {
  std::vector<PackedShape> all;
  for (const int bits : {8, 4})
    for (const std::int64_t group : {32, 64, 128})
      for (const std::int64_t out : {1, 16, 37})
        for (const std::int64_t in : {1, 31, 128, 200}) all.push_back({bits, group, out, in});
  return all;
}

}  // namespace

TEST_CASE("packing, reading back, activations and products: every table has the plain one's bits") {
  for (const PackedShape& shape : shapes()) {
    const std::int64_t rows = 19;
    const auto w = numbers(shape.out * shape.in, 1), x = numbers(rows * shape.in, 2), bias = numbers(shape.out, 3);
    const Packed expected = pack(plain(), shape, w);
    const auto dense = unpack(plain(), expected);
    const Activations activations(plain(), shape, x, rows);
    const auto y = product(plain(), expected, x, rows, bias);
    for (const QuantisedTable* table : tables()) {
      CAPTURE(table->name);
      CAPTURE(shape.bits);
      CAPTURE(shape.group);
      CAPTURE(shape.out);
      CAPTURE(shape.in);
      CHECK(pack(*table, shape, w) == expected);
      CHECK(pack(*table, shape, w, nullptr, 0x55) == expected);  // nothing is left as the memory was
      CHECK(same_bits(unpack(*table, expected), dense));
      const Activations own(*table, shape, x, rows);
      CHECK(own.codes == activations.codes);
      CHECK(own.starts == activations.starts);
      CHECK(same_bits(own.sums, activations.sums));
      CHECK(same_bits(own.scales, activations.scales));
      CHECK(same_bits(product(*table, expected, x, rows, bias), y));
    }
  }
}

TEST_CASE("whatever bytes a file holds: every table has the plain one's bits") {
  atelier::base::Generator generator(7);
  for (const PackedShape& shape : shapes()) {
    Packed w(shape);
    for (auto* bytes : {&w.codes, &w.scales})
      for (auto& byte : *bytes) byte = static_cast<std::uint8_t>(atelier::base::uniform(generator) * 256);
    for (auto& unit : w.units) unit = static_cast<float>(atelier::base::uniform(generator) - 0.5);
    // The largest activations there are, all of one sign: the largest sums.
    for (const float sign : {1.0F, -1.0F}) {
      const std::vector<float> x(static_cast<std::size_t>(3 * shape.in), sign);
      const auto y = product(plain(), w, x, 3);
      for (const QuantisedTable* table : tables()) CHECK(same_bits(product(*table, w, x, 3), y));
    }
  }
  for (const std::uint8_t byte : {0, 127, 128, 255}) {
    Packed w({8, 128, 16, 256});
    std::fill(w.codes.begin(), w.codes.end(), byte);
    for (const float sign : {1.0F, -1.0F}) {
      const std::vector<float> x(256, sign);
      for (const QuantisedTable* table : tables())
        CHECK(same_bits(product(*table, w, x, 1), product(plain(), w, x, 1)));
    }
  }
}

TEST_CASE("a product is that of the numbers that weights and activations were rounded to") {
  for (const PackedShape& shape : shapes()) {
    const std::int64_t rows = 5;
    const auto x = numbers(rows * shape.in, 5), bias = numbers(shape.out, 6);
    const Packed w = pack(plain(), shape, numbers(shape.out * shape.in, 4));
    const auto dense = unpack(plain(), w);
    const Activations a(plain(), shape, x, rows);
    const auto y = product(plain(), w, x, rows, bias);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t o = 0; o < shape.out; ++o) {
        double sum = bias[o], size = 1;
        for (std::int64_t i = 0; i < shape.in; ++i) {
          const double term = static_cast<double>(a.codes[r * shape.groups() * shape.group + i]) *
                              a.scales[r * shape.groups() + i / shape.group] * dense[o * shape.in + i];
          sum += term;
          size += std::abs(term);
        }
        CHECK(std::abs(y[r * shape.out + o] - sum) < 1e-5 * size);
      }
  }
}

TEST_CASE("numbers that the codes can hold exactly come out exactly") {
  // 8 bits: 127 steps of 1/64. 4 bits: 16 levels of 1/8 from -1 on, as 255 and 127 times their units.
  const std::int64_t in = 64, out = 16;
  std::vector<float> eight(out * in), four(out * in), x(in);
  for (std::int64_t i = 0; i < out * in; ++i) {
    eight[i] = static_cast<float>(i % 255 - 127) / 64;
    four[i] = static_cast<float>(i * 7 % 16) / 8 - 1;
  }
  for (std::int64_t o = 0; o < out; ++o) eight[o * in] = eight[o * in + 32] = 127.0F / 64;
  for (std::int64_t i = 0; i < in; ++i) x[i] = static_cast<float>(i * 5 % 255 - 127) / 4;
  x[0] = x[32] = 127.0F / 4;
  for (const int bits : {8, 4})
    for (const QuantisedTable* table : tables()) {
      CAPTURE(table->name);
      CAPTURE(bits);
      const auto& w = bits == 8 ? eight : four;
      const Packed packed = pack(*table, {bits, 32, out, in}, w);
      const auto back = unpack(*table, packed);
      for (std::int64_t i = 0; i < out * in; ++i) CHECK(back[i] == doctest::Approx(w[i]).epsilon(1e-6));
      const auto y = product(*table, packed, x, 1);
      for (std::int64_t o = 0; o < out; ++o) {
        double sum = 0;
        for (std::int64_t i = 0; i < in; ++i) sum += static_cast<double>(w[o * in + i]) * x[i];
        CHECK(std::abs(y[o] - sum) < 1e-4 * (1 + std::abs(sum)));
      }
    }
}

TEST_CASE("a row does not depend on the rows beside it, nor on how blocks are shared out") {
  for (const int bits : {8, 4})
    for (const QuantisedTable* table : tables()) {
      const PackedShape shape{bits, 32, 70, 100};
      const Packed w = pack(*table, shape, numbers(shape.out * shape.in, 8));
      const std::int64_t most = 21;
      const auto x = numbers(most * shape.in, 9);
      const auto all = product(*table, w, x, most);
      for (std::int64_t rows = 1; rows <= most; ++rows) {
        const std::vector<float> some(x.begin() + (most - rows) * shape.in, x.end());
        const auto y = product(*table, w, some, rows, {}, /*split=*/rows % shape.blocks());
        CHECK(same_bits(y, std::vector<float>(all.begin() + (most - rows) * shape.out, all.end())));
      }
    }
}

TEST_CASE("bf16 in and out: the same numbers, rounded once") {
  for (const int bits : {8, 4})
    for (const QuantisedTable* table : tables()) {
      const PackedShape shape{bits, 32, 20, 70};
      const auto h = halves(numbers(3 * shape.in, 10)), weights = halves(numbers(shape.out * shape.in, 11)),
                 bias = halves(numbers(shape.out, 12));
      std::vector<float> x(h.size()), wide(weights.size()), wide_bias(bias.size());
      for (std::size_t i = 0; i < h.size(); ++i) x[i] = to_float(h[i]);
      for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = to_float(weights[i]);
      for (std::size_t i = 0; i < wide_bias.size(); ++i) wide_bias[i] = to_float(bias[i]);
      const Packed w = pack(*table, shape, wide);
      Packed same(shape);
      std::vector<float> scratch(static_cast<std::size_t>(2 * shape.groups() + shape.group));
      table->pack({shape, Type::bfloat16, weights.data(), nullptr, same.codes.data(), same.scales.data(),
                   same.units.data(), scratch.data()},
                  0, shape.blocks());
      CHECK(same == w);
      const auto y = product(*table, w, x, 3, wide_bias);
      Activations a(*table, shape, std::vector<float>(h.size()), 3);
      table->quantise_activations(Type::bfloat16, h.data(), shape.in, a.view, 0, 3);
      std::vector<bf16> narrow(y.size());
      std::vector<float> wide_y(y.size());
      table->linear({w.view(), a.view, 3, bias.data(), narrow.data(), Type::bfloat16, false}, 0, shape.blocks());
      table->linear({w.view(), a.view, 3, bias.data(), wide_y.data(), Type::bfloat16, true}, 0, shape.blocks());
      CHECK(same_bits(wide_y, y));
      for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::abs(to_float(narrow[i]) - y[i]) <= std::abs(y[i]) / 256);
      std::vector<bf16> dense(weights.size());
      table->unpack(w.view(), Type::bfloat16, dense.data(), 0, shape.out);
      const auto exact = unpack(*table, w);
      for (std::size_t i = 0; i < dense.size(); ++i)
        CHECK(std::abs(to_float(dense[i]) - exact[i]) <= std::abs(exact[i]) / 256);
    }
}

TEST_CASE("the search beats levels laid from the least to the largest number, and heeds importance") {
  double searched = 0, straight = 0, heeded = 0, unheeded = 0;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const auto w = numbers(32, 100 + seed);
    std::vector<float> importance(32, 0.01F);
    for (int i = 0; i < 32; i += 4) importance[i] = 1;
    const auto error = [&](float scale, float low, bool weighted) {
      double sum = 0;
      for (int i = 0; i < 32; ++i) {
        const double code = std::min(15.0, std::max(0.0, std::round((w[i] - low) / static_cast<double>(scale))));
        sum += (weighted ? importance[i] : 1) * std::pow(code * scale + low - w[i], 2);
      }
      return sum;
    };
    float scale, low;
    plain().find_scale(4, w.data(), nullptr, 32, &scale, &low);
    searched += error(scale, low, false);
    unheeded += error(scale, low, true);
    const auto [least, most] = std::minmax_element(w.begin(), w.end());
    straight += error((*most - *least) / 15, *least, false);
    plain().find_scale(4, w.data(), importance.data(), 32, &scale, &low);
    heeded += error(scale, low, true);
  }
  CHECK(searched < 0.85 * straight);
  CHECK(heeded < 0.7 * unheeded);
}

TEST_CASE("8 bits: no number is farther off than half a step; zeros stay zeros") {
  const PackedShape shape{8, 32, 16, 256};
  auto w = numbers(shape.out * shape.in, 13);
  for (std::int64_t i = 0; i < 64; ++i) w[i] = 0;
  for (std::int64_t i = 64; i < 128; ++i) w[i] *= 1e-4F;  // beside groups that are 10,000 times as large
  const Packed packed = pack(plain(), shape, w);
  const auto back = unpack(plain(), packed);
  for (std::int64_t o = 0; o < shape.out; ++o)
    for (std::int64_t i = 0; i < shape.in; ++i) {
      const double step = packed.units[o] * packed.scales[(i / 32) * 16 + o];
      CHECK(std::abs(back[o * shape.in + i] - w[o * shape.in + i]) <= 0.5001 * step);
    }
  for (std::int64_t i = 0; i < 64; ++i) CHECK(back[i] == 0);
}

TEST_CASE("numbers that are not finite show in every product") {
  for (const int bits : {8, 4})
    for (const float bad : {NAN, INFINITY, -INFINITY})
      for (const QuantisedTable* table : tables()) {
        CAPTURE(table->name);
        const PackedShape shape{bits, 32, 20, 70};
        auto w = numbers(shape.out * shape.in, 14), x = numbers(2 * shape.in, 15);
        const Packed good = pack(*table, shape, w);
        w[3 * shape.in + 40] = bad;
        const auto y = product(*table, pack(*table, shape, w), x, 2);
        CHECK(std::isnan(y[3]));
        CHECK(std::isfinite(y[4]));
        x[shape.in + 69] = bad;
        const auto z = product(*table, good, x, 2);
        CHECK(std::isfinite(z[5]));
        CHECK(std::isnan(z[shape.out + 5]));
      }
}
