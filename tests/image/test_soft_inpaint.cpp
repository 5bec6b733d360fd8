#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include "image/fixtures.h"
#include "image/soft_inpaint.h"

using namespace atelier::image;
using namespace atelier::test;

namespace {

void check_close(const FloatImage& result, const std::string& name) {
  const FloatImage& wanted = expected_floats(name);
  REQUIRE(result.data.size() == wanted.data.size());
  float largest = 0;
  for (std::size_t i = 0; i < wanted.data.size(); ++i)
    largest = std::max(largest, std::abs(result.data[i] - wanted.data[i]));
  CAPTURE(name);
  CHECK(largest < 2e-5f);
}

}  // namespace

TEST_CASE("soft inpainting follows A1111's formulas") {
  const FloatImage &original = expected_floats("soft original"), &result = expected_floats("soft result");
  const FloatImage& mask = expected_floats("soft mask");
  SoftInpaint settings;
  check_close(soft_blend(original, result, mask, settings), "soft blend");
  settings.schedule_bias = 1.2;
  settings.preservation = 0.4;
  check_close(soft_step_mask(mask, 7.3, settings), "soft step");
  settings.preservation = 0.5;
  settings.mask_influence = 0.3;
  check_close(soft_final_mask(original, result, mask, settings), "soft final");
}

TEST_CASE("soft inpainting at its ends") {
  const FloatImage &original = expected_floats("soft original"), &result = expected_floats("soft result");
  const FloatImage none(original.width, original.height, 1, 0.0f), all(original.width, original.height, 1, 1.0f);
  const FloatImage kept = soft_blend(original, result, none, {}), taken = soft_blend(original, result, all, {});
  for (std::size_t i = 0; i < kept.data.size(); ++i) {
    CHECK(std::abs(kept.data[i] - original.data[i]) < 1e-4f);
    CHECK(std::abs(taken.data[i] - result.data[i]) < 1e-4f);
  }
  for (const float share : soft_final_mask(original, original, all, {}).data) CHECK(share == 0.0f);
}
