#include "train/loss_scaler.h"

#include <cstdint>

namespace atelier::train {
namespace {

constexpr double kSmallest = 0x1p-14;  // the smallest normal f16
constexpr double kLargest = 0x1p126;   // what f32 holds, with a bit to spare

}  // namespace

LossScaler::LossScaler(double initial, std::int64_t growth_interval)
    : scale_(initial), growth_interval_(growth_interval) {}

void LossScaler::update(bool finite) {
  if (!finite) {
    scale_ /= 2;
    finite_in_a_row_ = 0;
  } else if (++finite_in_a_row_ == growth_interval_) {
    if (scale_ < kLargest) scale_ *= 2;
    finite_in_a_row_ = 0;
  }
}

bool LossScaler::exhausted() const { return scale_ < kSmallest; }

base::Json LossScaler::state() const { return {{"scale", scale_}, {"finite_in_a_row", finite_in_a_row_}}; }

void LossScaler::load_state(const base::Json& state) {
  const base::JsonFields fields(state, "loss scale");
  scale_ = fields.number("scale", 0, 0x1p127);
  finite_in_a_row_ = fields.integer("finite_in_a_row", 0, growth_interval_);
}

}  // namespace atelier::train
