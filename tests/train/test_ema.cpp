#include <algorithm>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "train/ema.h"

#include "support/doctest_last.h"
#include "support/errors.h"

using namespace atelier;
using namespace atelier::train;

TEST_CASE("the average follows diffusers' warmed-up decay") {
  std::vector<Parameter> parameters{{"w", at::full({3}, 1.0f).requires_grad_(true)}};
  Ema ema(parameters, 0.5);
  double expected = 1;
  for (int step = 1; step <= 20; ++step) {
    {
      const at::NoGradGuard no_grad;
      parameters[0].tensor.fill_(step);
    }
    ema.update(step);
    const double decay = std::min(0.5, (1.0 + step) / (10.0 + step));
    expected = decay * expected + (1 - decay) * step;
    CHECK(ema.state().at("w")[1].item<double>() == doctest::Approx(expected).epsilon(1e-6));
  }
}

TEST_CASE("the averaged weights stand in the parameters within a scope, and both survive it exactly") {
  std::vector<Parameter> parameters{{"w", at::full({3}, 1, at::kBFloat16).requires_grad_(true)}};
  Ema ema(parameters, 0.9);
  {
    const at::NoGradGuard no_grad;
    parameters[0].tensor.fill_(2);
  }
  ema.update(1);
  const at::Tensor average = ema.state().at("w").clone();
  {
    const EmaScope scope(&ema);
    CHECK(at::equal(parameters[0].tensor, average.to(at::kBFloat16)));
    CHECK(at::equal(ema.state().at("w"), average));
  }
  CHECK(at::equal(parameters[0].tensor, at::full({3}, 2, at::kBFloat16)));
  CHECK(at::equal(ema.state().at("w"), average));
  const EmaScope none(nullptr);
}

TEST_CASE("averages of another run are refused") {
  std::vector<Parameter> parameters{{"w", at::zeros({3}).requires_grad_(true)}};
  Ema ema(parameters, 0.9);
  using base::ExitCode;
  for (const TensorMap& bad : {TensorMap{}, TensorMap{{"v", at::zeros({3})}}, TensorMap{{"w", at::zeros({4})}}}) {
    CHECK(test::error_of(ExitCode::data, [&] { ema.load_state(bad); }) != "(no error)");
  }
  ema.load_state({{"w", at::full({3}, 7.0f)}});
  CHECK(ema.state().at("w")[0].item<float>() == 7);
  CHECK(test::error_of(ExitCode::usage, [&] { Ema(parameters, 1); }) != "(no error)");
}
