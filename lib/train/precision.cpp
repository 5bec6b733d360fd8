#include "train/precision.h"

#include <string>

#include <ATen/autocast_mode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"

namespace atelier::train {

using base::Error;
using base::ExitCode;

Precision precision(std::string_view name) {
  if (name == "fp32") return Precision::fp32;
  if (name == "bf16") return Precision::bf16;
  if (name == "fp16") return Precision::fp16;
  throw Error(ExitCode::usage, fmt::format("unknown precision {}", base::in_quotes(name)), "one of fp32, bf16, fp16");
}

void check_precision(Precision precision, c10::Device device) {
  if (precision == Precision::fp16 && device.is_cpu()) {
    throw Error(ExitCode::unavailable, "training in fp16 needs a GPU", "use bf16 or fp32 on a CPU");
  }
}

AutocastScope::AutocastScope(Precision precision, c10::Device device)
    : active_(precision != Precision::fp32), type_(device.type()) {
  if (!active_) return;
  was_enabled_ = at::autocast::is_autocast_enabled(type_);
  was_dtype_ = at::autocast::get_autocast_dtype(type_);
  at::autocast::increment_nesting();
  at::autocast::set_autocast_dtype(type_, precision == Precision::bf16 ? at::kBFloat16 : at::kHalf);
  at::autocast::set_autocast_enabled(type_, true);
}

AutocastScope::~AutocastScope() {
  if (!active_) return;
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(type_, was_enabled_);
  at::autocast::set_autocast_dtype(type_, was_dtype_);
}

WithoutAutocast::WithoutAutocast(c10::Device device)
    : type_(device.type()), was_(at::autocast::is_autocast_enabled(type_)) {
  at::autocast::set_autocast_enabled(type_, false);
}

WithoutAutocast::~WithoutAutocast() { at::autocast::set_autocast_enabled(type_, was_); }

}  // namespace atelier::train
