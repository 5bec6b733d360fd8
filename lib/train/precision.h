#pragma once

#include <string_view>

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

namespace atelier::train {

enum class Precision { fp32, bf16, fp16 };

/// "fp32", "bf16", "fp16"; Error(usage) otherwise.
Precision precision(std::string_view name);

/// Error(unavailable): fp16 on a CPU, whose f16 products are slower than f32's and need a loss scale besides.
void check_precision(Precision precision, c10::Device device);

/// LibTorch's autocast for what runs while this lives: products in bf16 or f16, sums, norms and losses in f32. fp32
/// changes nothing. The cache of cast weights goes with the scope, so that a step never sees the weights of another.
class AutocastScope {
 public:
  AutocastScope(Precision precision, c10::Device device);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  bool active_;
  c10::DeviceType type_;
  bool was_enabled_ = false;
  c10::ScalarType was_dtype_ = c10::ScalarType::Float;
};

/// No autocast while this lives: what is computed beside the training (latents, samples) has its own formats.
class WithoutAutocast {
 public:
  explicit WithoutAutocast(c10::Device device);
  ~WithoutAutocast();
  WithoutAutocast(const WithoutAutocast&) = delete;
  WithoutAutocast& operator=(const WithoutAutocast&) = delete;

 private:
  c10::DeviceType type_;
  bool was_;
};

}  // namespace atelier::train
