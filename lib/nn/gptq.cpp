#include "nn/gptq.h"

#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/bitwise_or.h>
#include <ATen/ops/cholesky_inverse.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/round.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/stop.h"
#include "nn/linear.h"
#include "nn/parallel.h"

namespace atelier::nn {
namespace {

using kernels::PackedShape;

/// Rows of the weight that are worked on at once: columns of so many numbers stay in the caches.
constexpr std::int64_t rows_at_once = 4096;

/// What the rounding works with: the upper Cholesky factor of the damped moments' inverse (in, in). Damped more where
/// rounding errors leave the moments without one.
at::Tensor inverse_factor(const at::Tensor& moments, double damping, const std::string& what) {
  auto h = moments.to(at::kDouble);
  // A column whose inputs are always 0: whatever it is rounded to, nothing changes.
  const auto diagonal = h.diagonal().clone();
  h.diagonal().copy_(at::where(diagonal > 0, diagonal, at::full({}, 1.0, diagonal.options())));
  const double mean = diagonal.mean().item<double>();
  for (double part = damping; part < 1e3; part *= 10) {
    auto damped = h.clone();
    damped.diagonal().add_(std::max(part * mean, 1e-12));
    const auto [lower, failed] = at::linalg_cholesky_ex(damped);
    if (failed.item<int>() != 0) continue;
    const auto [upper, again] = at::linalg_cholesky_ex(at::cholesky_inverse(lower), /*upper=*/true);
    if (again.item<int>() == 0 && at::isfinite(upper).all().item<bool>()) return upper.to(at::kFloat).contiguous();
  }
  throw base::Error(base::ExitCode::data, fmt::format("{}: its inputs on the calibration text are not finite", what));
}

/// Scales and lowest values of one group of columns, each (rows): w (group, rows).
std::pair<at::Tensor, at::Tensor> group_scales(const at::Tensor& w, int bits, const at::Tensor& importance) {
  const auto by_row = w.t().contiguous();  // (rows, group)
  const std::int64_t rows = by_row.size(0), columns = by_row.size(1);
  auto scale = at::empty({rows}, at::kFloat), low = at::empty({rows}, at::kFloat);
  parallel(rows, 100 * columns, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      kernels::quantised_table().find_scale(bits, by_row.const_data_ptr<float>() + r * columns,
                                            importance.const_data_ptr<float>(), columns,
                                            scale.mutable_data_ptr<float>() + r, low.mutable_data_ptr<float>() + r);
  });
  return {scale, low};
}

/// The result before it is packed, by columns.
struct Codes {
  at::Tensor codes;               ///< (groups * group, rows) U8
  at::Tensor scales, lows;        ///< (groups, rows) U8
  at::Tensor unit{}, low_unit{};  ///< (rows) f32
};

/// Units of the rows must be known before the groups are: those of the weight as it is, with room for what the rounding of
/// earlier columns adds to it.
void choose_units(Codes& result, const at::Tensor& w, const PackedShape& shape, const at::Tensor& importance) {
  constexpr double room = 1.25;
  at::Tensor most = at::zeros({w.size(1)}), farthest = at::zeros({w.size(1)});
  for (std::int64_t first = 0; first < shape.in; first += shape.group) {
    const std::int64_t n = std::min(shape.group, shape.in - first);
    const auto [scale, low] = group_scales(w.narrow(0, first, n), shape.bits, importance.narrow(0, first, n));
    most = at::maximum(most, scale);
    farthest = at::maximum(farthest, low.abs());
  }
  result.unit = most * (room / 255);
  result.low_unit = farthest * (room / 127);
}

/// value / unit to the nearest whole number, 0 where the unit is.
at::Tensor in_units(const at::Tensor& value, const at::Tensor& unit) {
  return at::round(at::where(unit > 0, value / unit, at::zeros_like(value)));
}

/// Rows of a weight, transposed: w (in, rows) f32, which is used up.
Codes round_columns(at::Tensor w, const PackedShape& shape, const at::Tensor& factor, const at::Tensor& importance) {
  const std::int64_t rows = w.size(1), groups = shape.groups();
  Codes result{.codes = at::zeros({groups * shape.group, rows}, at::kByte),
               .scales = at::zeros({groups, rows}, at::kByte),
               .lows = at::zeros({groups, rows}, at::kByte)};
  choose_units(result, w, shape, importance);
  const double least = shape.bits == 8 ? 1 : 0, most = shape.bits == 8 ? 255 : 15;
  for (std::int64_t g = 0; g < groups; ++g) {
    base::throw_if_stopped();
    const std::int64_t first = g * shape.group, n = std::min(shape.group, shape.in - first), next = first + n;
    const auto part = w.narrow(0, first, n);
    const auto [wanted, wanted_low] = group_scales(part, shape.bits, importance.narrow(0, first, n));
    const auto scale_code = in_units(wanted, result.unit).clamp_(1, 255);
    const auto scale = scale_code * result.unit;
    at::Tensor low = scale * -128;
    if (shape.bits == 4) {
      const auto low_code = in_units(wanted_low, result.low_unit).clamp_(-127, 127);
      result.lows.select(0, g).copy_(low_code.to(at::kChar).view(at::kByte));
      low = low_code * result.low_unit;
    }
    result.scales.select(0, g).copy_(scale_code.to(at::kByte));
    const auto inverse = at::where(scale > 0, scale.reciprocal(), at::zeros_like(scale));
    auto errors = at::empty_like(part);
    for (std::int64_t k = 0; k < n; ++k) {
      const auto column = part.select(0, k), weights = factor.select(0, first + k);
      const auto code = ((column - low) * inverse).round_().clamp_(least, most);
      result.codes.select(0, first + k).copy_(code.to(at::kByte));
      const auto error = (column - code * scale - low) / weights.select(0, first + k);
      errors.select(0, k).copy_(error);
      if (k + 1 < n)
        part.narrow(0, k + 1, n - k - 1).sub_(at::outer(weights.narrow(0, first + k + 1, n - k - 1), error));
    }
    if (next < shape.in)
      w.narrow(0, next, shape.in - next)
          .addmm_(factor.narrow(0, first, n).narrow(1, next, shape.in - next).t(), errors, 1, -1);
  }
  return result;
}

/// Puts rows [first, first + rows) in their places: first is a multiple of 16.
void pack(const Codes& c, const PackedShape& shape, std::int64_t first, GroupQuantisedWeight::Parts& parts) {
  const std::int64_t rows = c.codes.size(1), missing = (16 - rows % 16) % 16, blocks = (rows + missing) / 16;
  const std::int64_t groups = shape.groups(), begin = first / 16;
  const auto whole = [&](const at::Tensor& t) { return at::constant_pad_nd(t, {0, missing}); };
  auto codes = whole(c.codes).t();  // (16 blocks, columns)
  if (shape.bits == 8) {
    codes = codes.reshape({blocks, 16, groups, shape.group / 4, 4}).permute({0, 2, 3, 1, 4});
  } else {
    const auto pairs = codes.reshape({blocks, 16, groups, shape.group / 8, 2, 4}).permute({0, 2, 3, 1, 4, 5});
    codes = at::bitwise_or(pairs.select(4, 0), pairs.select(4, 1) * 16);
  }
  parts.codes.narrow(0, begin, blocks).copy_(codes.reshape({blocks, groups, shape.group_bytes()}));
  const auto by_block = [&](const at::Tensor& t) { return whole(t).view({groups, blocks, 16}).transpose(0, 1); };
  parts.scales.narrow(0, begin, blocks).narrow(2, 0, 16).copy_(by_block(c.scales));
  parts.units.narrow(0, begin, blocks).narrow(1, 0, 16).copy_(whole(c.unit).view({blocks, 16}));
  if (shape.bits == 8) return;
  parts.scales.narrow(0, begin, blocks).narrow(2, 16, 16).copy_(by_block(c.lows));
  parts.units.narrow(0, begin, blocks).narrow(1, 16, 16).copy_(whole(c.low_unit).view({blocks, 16}));
}

}  // namespace

void InputMoments::add(const at::Tensor& x) {
  const auto rows = x.reshape({-1, x.size(-1)}).to(at::kFloat);
  if (!sum_.defined()) sum_ = at::zeros({rows.size(1), rows.size(1)});
  sum_.addmm_(rows.t(), rows);
  rows_ += rows.size(0);
}

at::Tensor InputMoments::mean() const { return sum_ / static_cast<double>(std::max<std::int64_t>(1, rows_)); }

at::Tensor ObservedWeight::dequantise(at::ScalarType dtype, std::int64_t begin, std::int64_t end) const {
  return weight_.narrow(0, begin, end - begin).to(dtype);
}

at::Tensor ObservedWeight::product(const at::Tensor& x, const at::Tensor& bias, bool f32_result) const {
  if (moments_) moments_->add(x);
  return linear(x, weight_, bias, f32_result);
}

std::shared_ptr<const GroupQuantisedWeight> quantise_gptq(const at::Tensor& weight, const GroupQuantisation& quantisation,
                                                  const at::Tensor& moments, const std::string& what, double damping) {
  const at::NoGradGuard no_grad;
  const PackedShape shape{quantisation.bits, quantisation.group, weight.size(0), weight.size(1)};
  if (!at::isfinite(weight).all().item<bool>())
    throw base::Error(base::ExitCode::data, fmt::format("{}: holds numbers that are not finite", what));
  const at::Tensor factor = inverse_factor(moments, damping, what);
  const at::Tensor importance = factor.diagonal().square().reciprocal().contiguous();
  auto parts = GroupQuantisedWeight::empty_parts(shape);
  for (std::int64_t first = 0; first < shape.out; first += rows_at_once) {
    const std::int64_t rows = std::min(rows_at_once, shape.out - first);
    auto columns = weight.narrow(0, first, rows).t().to(at::kFloat).clone(at::MemoryFormat::Contiguous);
    pack(round_columns(std::move(columns), shape, factor, importance), shape, first, parts);
  }
  return std::make_shared<const GroupQuantisedWeight>(std::move(parts), shape.out, shape.in, what);
}

}  // namespace atelier::nn
