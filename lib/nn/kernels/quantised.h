#pragma once

#include <cstdint>

#include "nn/kernels/kernels.h"

/// CPU kernels of weights in 8 or 4 bits: how they are packed, chosen, multiplied and read back.
///
/// A weight matrix (out, in) is cut into blocks of 16 rows, and each block into groups of `group` columns. A row's group is
///   8 bits:  w = unit * scale * (code - 128)                            code 1..255, symmetric about 0
///   4 bits:  w = unit * scale * code + low_unit * low                   code 0..15, from a lowest value upwards
/// with `scale` (U8) and `low` (I8) for each row and group, and `unit` and `low_unit` (f32) for each row. Rows and columns that
/// the matrix does not have (out up to a multiple of 16, in up to one of `group`) are stored as 0 and never count.
///
/// codes:  per block and group, lines of 64 bytes: 16 rows x 4 columns, row by row; of 4 bits 16 rows x 8 columns, the lower
///         halves of the bytes being the first four columns and the upper halves the others. One line (or half) is one step of
///         a product whose 16 sums lie beside one another: nothing is ever added across lanes, and a thread reads forwards only.
/// scales: per block and group, 16 scales; of 4 bits followed by 16 lows.
/// units:  per block, 16 units; of 4 bits followed by 16 low_units.
///
/// What a row of activations is multiplied as: 8 bits with one scale for each group of it, found from the row alone.
///
/// Every instruction set gives the same bits as the plain C++ one: products are summed exactly in integers within a group, and
/// the groups in f32 from first to last, each operation rounded for itself.
namespace atelier::nn::kernels {

inline constexpr std::int64_t packed_rows = 16;

struct PackedShape {
  int bits;  ///< 4 or 8
  std::int64_t group, out, in;

  std::int64_t blocks() const { return (out + packed_rows - 1) / packed_rows; }
  std::int64_t groups() const { return (in + group - 1) / group; }
  std::int64_t group_bytes() const { return packed_rows * group * bits / 8; }  ///< of codes, of a block
  std::int64_t scale_bytes() const { return packed_rows * (bits == 4 ? 2 : 1); }
  std::int64_t units() const { return packed_rows * (bits == 4 ? 2 : 1); }
};

struct PackedMatrix {
  PackedShape shape;
  const std::uint8_t* codes;
  const std::uint8_t* scales;
  const float* units;
};

/// Rows of activations in 8 bits: x = scale * code.
struct PackedActivations {
  std::int64_t group, groups;
  std::int8_t* codes;    ///< (rows, groups * group), -127..127; 0 beyond the row's end
  float* scales;         ///< (rows, groups); NaN where a number of the group is not finite
  float* sums;           ///< (rows, groups): scale times the sum of the codes, by which the lowest values of 4 bits count
  std::int32_t* starts;  ///< (rows, groups): -128 times that sum, where products with 8-bit codes that are unsigned begin
};

/// y = x w^T (+ bias), x quantised before; y: (rows, out), f32 where `y_f32`, else `type`.
struct PackedLinearArgs {
  PackedMatrix w;
  PackedActivations x;
  std::int64_t rows;
  const void* bias;  ///< (out) of `type`, or null
  void* y;
  Type type;
  bool y_f32;
};

/// Which weights become which: `importance` (in) says how much an error of each column counts; null: all alike.
struct PackArgs {
  PackedShape shape;
  Type type;      ///< of w
  const void* w;  ///< (out, in)
  const float* importance;
  std::uint8_t* codes;  ///< all of the matrix's
  std::uint8_t* scales;
  float* units;
  float* scratch;  ///< of one thread: groups * 32 numbers, and 2 * group
};

struct QuantisedTable {
  const char* name;
  /// Rows [begin, end) of x (rows, in).
  void (*quantise_activations)(Type, const void* x, std::int64_t in, const PackedActivations&, std::int64_t begin,
                               std::int64_t end);
  /// Blocks [begin, end) of the output. Up to any number of rows in one pass over the weights.
  void (*linear)(const PackedLinearArgs&, std::int64_t begin, std::int64_t end);
  /// Rows [begin, end) as dense numbers: y (end - begin, in).
  void (*unpack)(const PackedMatrix&, Type, void* y, std::int64_t begin, std::int64_t end);
  /// Blocks [begin, end): the scale and lowest value of each group with the least squared error (4 bits), or that reach the largest
  /// number (8 bits), then the nearest codes. A row with a number that is not finite gets a NaN unit.
  void (*pack)(const PackArgs&, std::int64_t begin, std::int64_t end);
  /// The search of pack() alone, for one group of n <= 128 numbers: w is about scale * code + low. 8 bits: low = -128 * scale.
  void (*find_scale)(int bits, const float* w, const float* importance, std::int64_t n, float* scale, float* low);
};

/// Columns of one group; what all kernels are compiled for.
inline constexpr bool is_packed_group(std::int64_t group) { return group == 32 || group == 64 || group == 128; }

/// The best table that this processor runs; with ATELIER_ISA=scalar or avx2 that one, with any other value the best.
const QuantisedTable& quantised_table();
/// "scalar", "avx2" or "avx512vnni"; null where this build or processor lacks it.
const QuantisedTable* find_quantised_table(const char* name);

}  // namespace atelier::nn::kernels
