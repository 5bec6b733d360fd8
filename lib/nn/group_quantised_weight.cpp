#include "nn/group_quantised_weight.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/stop.h"
#include "nn/parallel.h"

namespace atelier::nn {
namespace {

using kernels::PackedShape;

/// Bytes of a dense weight that are quantised between two calls of `after_part`.
constexpr std::int64_t part_bytes = 64 << 20;

[[noreturn]] void bad(const std::string& what, const std::string& why) {
  throw base::Error(base::ExitCode::data, fmt::format("{}: {}", what, why));
}

/// Bits and group of codes and scales of these shapes; 0 bits where there are none such.
PackedShape shape_of(const GroupQuantisedWeight::Parts& parts, std::int64_t out, std::int64_t in) {
  if (parts.codes.dim() != 3 || parts.scales.dim() != 3) return {};
  for (const int bits : {8, 4})
    for (const std::int64_t group : {32, 64, 128}) {
      const PackedShape shape{bits, group, out, in};
      if (parts.codes.size(2) == shape.group_bytes() && parts.scales.size(2) == shape.scale_bytes()) return shape;
    }
  return {};
}

kernels::Type type_of(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? kernels::Type::bfloat16 : kernels::Type::float32;
}

/// x in 8 bits. The memory is one tensor each, so that nothing is kept between products.
struct Activations {
  at::Tensor codes, scales, sums, starts;
  kernels::PackedActivations view;

  Activations(const at::Tensor& x, std::int64_t rows, const PackedShape& shape) {
    const std::int64_t groups = shape.groups();
    codes = at::empty({rows, groups * shape.group}, at::kChar);
    scales = at::empty({rows, groups}, at::kFloat);
    sums = at::empty({rows, groups}, at::kFloat);
    starts = at::empty({rows, groups}, at::kInt);
    view = {.group = shape.group,
            .groups = groups,
            .codes = codes.mutable_data_ptr<std::int8_t>(),
            .scales = scales.mutable_data_ptr<float>(),
            .sums = sums.mutable_data_ptr<float>(),
            .starts = starts.mutable_data_ptr<std::int32_t>()};
    parallel(rows, 2 * shape.in, [&](std::int64_t begin, std::int64_t end) {
      kernels::quantised_table().quantise_activations(kernel_type(x), x.const_data_ptr(), shape.in, view, begin, end);
    });
  }
};

}  // namespace

GroupQuantisedWeight::GroupQuantisedWeight(Parts parts, std::int64_t out, std::int64_t in, const std::string& what)
    : parts_(std::move(parts)), shape_(shape_of(parts_, out, in)) {
  if (shape_.bits == 0) bad(what, "its codes and scales have shapes that no packed weight has");
  if (parts_.codes.scalar_type() != at::kByte || parts_.scales.scalar_type() != at::kByte ||
      parts_.units.scalar_type() != at::kFloat)
    bad(what, "its codes and scales must be U8, its units F32");
  const std::int64_t blocks = shape_.blocks(), groups = shape_.groups();
  if (parts_.codes.size(0) != blocks || parts_.codes.size(1) != groups || parts_.scales.size(0) != blocks ||
      parts_.scales.size(1) != groups || parts_.units.sizes() != at::IntArrayRef({blocks, shape_.units()}))
    bad(what, fmt::format("its parts are not those of a matrix of {} x {}", out, in));
  for (const at::Tensor* part : {&parts_.codes, &parts_.scales, &parts_.units})
    if (!part->is_contiguous()) bad(what, "its parts are not contiguous");
  if (!at::isfinite(parts_.units).all().item<bool>()) bad(what, "holds a scale that is no finite number");
}

GroupQuantisedWeight::Parts GroupQuantisedWeight::empty_parts(const PackedShape& shape) {
  return {at::empty({shape.blocks(), shape.groups(), shape.group_bytes()}, at::kByte),
          at::empty({shape.blocks(), shape.groups(), shape.scale_bytes()}, at::kByte),
          at::empty({shape.blocks(), shape.units()}, at::kFloat)};
}

std::int64_t GroupQuantisedWeight::quantised_bytes(std::int64_t out, std::int64_t in, const GroupQuantisation& quantisation) {
  const PackedShape s{quantisation.bits, quantisation.group, out, in};
  return s.blocks() * (s.groups() * (s.group_bytes() + s.scale_bytes()) + s.units() * 4);
}

std::shared_ptr<const GroupQuantisedWeight> GroupQuantisedWeight::quantise(const at::Tensor& weight, const GroupQuantisation& quantisation,
                                                           const std::string& what, const at::Tensor& importance,
                                                           const std::function<void()>& after_part) {
  const at::NoGradGuard no_grad;
  const bool known = weight.scalar_type() == at::kFloat || weight.scalar_type() == at::kBFloat16;
  const at::Tensor dense = (known ? weight : weight.to(at::kFloat)).to(at::kCPU).contiguous();
  const PackedShape shape{quantisation.bits, quantisation.group, dense.size(0), dense.size(1)};
  Parts parts = empty_parts(shape);
  kernels::PackArgs args{.shape = shape,
                         .type = type_of(dense.scalar_type()),
                         .w = dense.const_data_ptr(),
                         .importance = importance.defined() ? importance.const_data_ptr<float>() : nullptr,
                         .codes = parts.codes.mutable_data_ptr<std::uint8_t>(),
                         .scales = parts.scales.mutable_data_ptr<std::uint8_t>(),
                         .units = parts.units.mutable_data_ptr<float>(),
                         .scratch = nullptr};
  const auto row_bytes = shape.in * static_cast<std::int64_t>(dense.element_size());
  const std::int64_t step =
      std::max<std::int64_t>(64, part_bytes / std::max<std::int64_t>(1, row_bytes * kernels::packed_rows));
  for (std::int64_t first = 0; first < shape.blocks(); first += step) {
    base::throw_if_stopped();
    const std::int64_t count = std::min(step, shape.blocks() - first);
    parallel(count, kernels::packed_rows * shape.in * 100, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> scratch(static_cast<std::size_t>(2 * shape.groups() + shape.group));
      kernels::PackArgs own = args;
      own.scratch = scratch.data();
      kernels::quantised_table().pack(own, first + begin, first + end);
    });
    if (after_part) after_part();
  }
  if (!at::isfinite(parts.units).all().item<bool>()) bad(what, "holds numbers that are not finite");
  return std::shared_ptr<const GroupQuantisedWeight>(new GroupQuantisedWeight(std::move(parts), shape));
}

kernels::PackedMatrix GroupQuantisedWeight::matrix() const {
  return {.shape = shape_,
          .codes = parts_.codes.const_data_ptr<std::uint8_t>(),
          .scales = parts_.scales.const_data_ptr<std::uint8_t>(),
          .units = parts_.units.const_data_ptr<float>()};
}

at::Tensor GroupQuantisedWeight::dequantise(at::ScalarType dtype, std::int64_t begin, std::int64_t end) const {
  const at::NoGradGuard no_grad;
  const bool known = dtype == at::kFloat || dtype == at::kBFloat16;
  auto dense = at::empty({end - begin, shape_.in}, known ? dtype : at::kFloat);
  const auto row_bytes = shape_.in * static_cast<std::int64_t>(dense.element_size());
  auto* const data = static_cast<std::byte*>(dense.mutable_data_ptr());
  parallel(end - begin, 4 * shape_.in, [&](std::int64_t first, std::int64_t last) {
    kernels::quantised_table().unpack(matrix(), type_of(dense.scalar_type()), data + first * row_bytes, begin + first,
                                      begin + last);
  });
  return dense.to(dtype);
}

at::Tensor GroupQuantisedWeight::product(const at::Tensor& x, const at::Tensor& bias, bool f32_result) const {
  if (!has_kernels(x) || (bias.defined() && bias.scalar_type() != x.scalar_type())) return {};
  const auto input = x.contiguous();
  const std::int64_t rows = input.numel() / shape_.in;
  auto shape = x.sizes().vec();
  shape.back() = shape_.out;
  auto y = at::empty(shape, f32_result ? x.options().dtype(at::kFloat) : x.options());
  const Activations activations(input, rows, shape_);
  const kernels::PackedLinearArgs args{.w = matrix(),
                                       .x = activations.view,
                                       .rows = rows,
                                       .bias = bias.defined() ? bias.const_data_ptr() : nullptr,
                                       .y = y.mutable_data_ptr(),
                                       .type = kernel_type(x),
                                       .y_f32 = f32_result};
  parallel(shape_.blocks(), kernels::packed_rows * shape_.in * rows / 8,
           [&](std::int64_t begin, std::int64_t end) { kernels::quantised_table().linear(args, begin, end); });
  return y;
}

}  // namespace atelier::nn
