#include "train/ema.h"

#include <algorithm>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"

namespace atelier::train {

using base::Error;
using base::ExitCode;

Ema::Ema(const std::vector<Parameter>& parameters, double decay) : parameters_(parameters), decay_(decay) {
  if (!(decay >= 0 && decay < 1)) throw Error(ExitCode::usage, "the average's decay must be at least 0 and below 1");
  for (const Parameter& parameter : parameters_) {
    average_[parameter.name] = parameter.tensor.detach().to(at::kFloat, false, /*copy=*/true).contiguous();
  }
}

void Ema::update(std::int64_t step) {
  const at::NoGradGuard no_grad;
  const double decay = std::min(decay_, static_cast<double>(1 + step) / static_cast<double>(10 + step));
  for (const Parameter& parameter : parameters_) {
    average_.at(parameter.name).lerp_(parameter.tensor.to(at::kFloat), 1 - decay);
  }
}

void Ema::load_state(const TensorMap& state) {
  const at::NoGradGuard no_grad;
  if (state.size() != average_.size()) throw Error(ExitCode::data, "the averaged weights are not those of this run");
  for (auto& [name, average] : average_) {
    const auto saved = state.find(name);
    if (saved == state.end() || saved->second.sizes() != average.sizes()) {
      throw Error(ExitCode::data, fmt::format("no averaged weights of the right shape for {}", base::in_quotes(name)));
    }
  }
  for (auto& [name, average] : average_) average.copy_(state.at(name));
}

void Ema::swap() {
  const at::NoGradGuard no_grad;
  const bool back = !held_.empty();
  for (Parameter& parameter : parameters_) {
    if (!back) held_[parameter.name] = parameter.tensor.detach().clone();
    parameter.tensor.copy_(back ? held_.at(parameter.name) : average_.at(parameter.name));
  }
  if (back) held_.clear();
}

}  // namespace atelier::train
