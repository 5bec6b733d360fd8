// Products with weights that are widened on the way, against sums in double precision.
#include "nn/kernels/wide_product.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/seed.h"
#include "kernels/bf16.h"

namespace {

using namespace atelier::nn::kernels;
using Weight = WideProductArgs::Weight;

/// A half of a few bits, as f16 has it: sign, exponents -3 to 0, three bits of mantissa.
struct Half {
  std::uint16_t bits;
  float value;
};
Half half_of(std::uint64_t draw) {
  const auto sign = static_cast<unsigned>(draw & 1), exponent = static_cast<unsigned>(draw >> 1 & 3), mantissa = static_cast<unsigned>(draw >> 3 & 7);
  const float value = std::ldexp(1.0F + static_cast<float>(mantissa) / 8, static_cast<int>(exponent) - 3);
  return {static_cast<std::uint16_t>(sign << 15 | (exponent + 12) << 10 | mantissa << 7), sign != 0 ? -value : value};
}

struct Problem {
  std::int64_t rows, depth, columns;
  bool transposed, with_bias;
  Weight type;
  std::vector<float> x, values, bias;
  std::vector<std::uint16_t> halves;

  Problem(std::int64_t r, std::int64_t d, std::int64_t c, bool t, bool b, Weight w) : rows(r), depth(d), columns(c), transposed(t), with_bias(b), type(w) {
    atelier::base::Generator generator(11);
    const auto draw = [&] { return static_cast<float>(atelier::base::uniform(generator) * 2 - 1); };
    for (std::int64_t i = 0; i < rows * depth; ++i) x.push_back(draw());
    for (std::int64_t i = 0; i < columns; ++i) bias.push_back(draw());
    for (std::int64_t i = 0; i < depth * columns; ++i) {
      const Half half = half_of(static_cast<std::uint64_t>(atelier::base::uniform(generator) * 64));
      values.push_back(half.value);
      halves.push_back(type == Weight::float16 ? half.bits : atelier::test::to_bf16(half.value));
    }
  }

  WideProductArgs args(float* y) const {
    return {.x = x.data(), .rows = rows, .depth = depth, .columns = columns,
            .w = type == Weight::float32 ? static_cast<const void*>(values.data()) : halves.data(), .type = type, .transposed = transposed,
            .bias = with_bias ? bias.data() : nullptr, .y = y};
  }

  double expected(std::int64_t row, std::int64_t column) const {
    double sum = with_bias ? bias[static_cast<std::size_t>(column)] : 0;
    for (std::int64_t k = 0; k < depth; ++k)
      sum += static_cast<double>(x[static_cast<std::size_t>(row * depth + k)]) *
             values[static_cast<std::size_t>(transposed ? column * depth + k : k * columns + column)];
    return sum;
  }
};

TEST_CASE("a product with a weight of any type, either way round, and the same bits however it is shared out") {
  for (const char* table : {"avx512", "avx512bf16"}) {
    const WideProduct* kernel = find_wide_product(table);
    if (kernel == nullptr) continue;
    std::vector<float> scratch(static_cast<std::size_t>(kernel->scratch_size));
    for (const Weight type : {Weight::float32, Weight::float16, Weight::bfloat16})
      for (const bool transposed : {false, true})
        for (const auto& [rows, depth, columns] : {std::array<std::int64_t, 3>{1, 16, 16}, {7, 352, 80}, {50, 640, 208}, {13, 320, 64}}) {
          CAPTURE(static_cast<int>(type));
          CAPTURE(transposed);
          CAPTURE(columns);
          const Problem p(rows, depth, columns, transposed, columns != 80, type);
          const std::int64_t panels = (columns + wide_panel - 1) / wide_panel;
          std::vector<float> whole(static_cast<std::size_t>(rows * columns), NAN), parts = whole;
          kernel->compute(p.args(whole.data()), 0, rows, 0, panels, scratch.data());
          for (std::int64_t panel = 0; panel < panels; ++panel)
            for (std::int64_t row = 0; row < rows; row += 5)
              kernel->compute(p.args(parts.data()), row, std::min(rows, row + 5), panel, panel + 1, scratch.data());
          CHECK(std::memcmp(whole.data(), parts.data(), whole.size() * sizeof(float)) == 0);
          double worst = 0;
          for (std::int64_t r = 0; r < rows; ++r)
            for (std::int64_t c = 0; c < columns; ++c) {
              const double error = std::abs(static_cast<double>(whole[static_cast<std::size_t>(r * columns + c)]) - p.expected(r, c));
              worst = std::isfinite(error) ? std::max(worst, error) : INFINITY;
            }
          CHECK(worst < 1e-5 * std::sqrt(static_cast<double>(depth)));
        }
  }
}

}  // namespace
