#pragma once

#include <cstdint>

namespace atelier::nn::kernels {

/// Products in f32 with a weight that may be narrower: it is widened in the cache, as it is packed, and never as a whole.
struct WideProductArgs {
  enum class Weight { float32, float16, bfloat16 };

  const float* x;  ///< (rows, depth)
  std::int64_t rows, depth, columns;
  const void* w;
  Weight type;
  bool transposed;    ///< y = x w^T of w (columns, depth); else y = x w of w (depth, columns)
  const float* bias;  ///< (columns), or null
  float* y;           ///< (rows, columns)
};

struct WideProduct {
  std::int64_t scratch_size;  ///< elements of f32 that one thread needs
  /// Rows [row, last_row) of column panels [panel, last_panel). A number does not depend on how rows and panels are shared out.
  void (*compute)(const WideProductArgs&, std::int64_t row, std::int64_t last_row, std::int64_t panel, std::int64_t last_panel,
                  float* scratch);
};

inline constexpr std::int64_t wide_panel = 64;  ///< columns of a panel

/// Depth and columns that the kernels take: multiples of 16.
inline bool has_wide_shape(std::int64_t depth, std::int64_t columns) { return depth > 0 && columns > 0 && depth % 16 == 0 && columns % 16 == 0; }

/// For this processor (and ATELIER_ISA, as table() takes it); null where it has none.
const WideProduct* wide_product();
/// Of a table by name, or null.
const WideProduct* find_wide_product(const char* table_name);

}  // namespace atelier::nn::kernels
