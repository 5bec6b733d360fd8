#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "schedulers/config.h"

namespace atelier::schedulers {

/// Moves a flow model's sigmas (N), between 0 and 1, towards noise, as larger pictures need (Esser et al. 2024): by the
/// configuration's shift, or dynamically by mu, which must be given then (Error(internal)). In the tensor's own dtype.
at::Tensor shift_sigmas(const Config& config, const at::Tensor& sigmas, std::optional<double> mu);

/// mu on the line through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift); nothing without dynamic shifting.
std::optional<double> flow_shift_mu(const Config& config, std::int64_t image_tokens);

}  // namespace atelier::schedulers
