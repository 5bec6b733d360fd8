// The self-test's golden values are those of the Python packages, and it passes.
#include <cmath>
#include <string>
#include <vector>

#include "metrics/goldens.h"
#include "metrics/selftest.h"
#include "support/doctest_last.h"

using namespace atelier;

namespace {

const std::vector<metrics::SelfTest>& results() {
  static const auto tests = metrics::selftest();
  return tests;
}

}  // namespace

TEST_CASE("the self-test passes, and each metric is in it") {
  std::string metrics;
  for (const auto& test : results()) {
    CAPTURE(test.metric);
    CAPTURE(test.variant);
    CAPTURE(test.value);
    CAPTURE(test.expected);
    CHECK(test.passed());
    CHECK(test.tolerance > 0);
    metrics += test.metric + "/" + test.variant + " ";
  }
  CHECK(metrics ==
        "fid/pytorch-fid kid/pytorch-fid kid-deviation/pytorch-fid fid/clean-fid kid/clean-fid kid-deviation/clean-fid "
        "lpips/alex lpips/vgg "
        "lpips/squeeze diversity/alex clip-score/clip preference/pickscore preference/hpsv2 "
        "preference/imagereward ");
}

TEST_CASE("its golden values are the packages'") {
  const auto& goldens = test::metrics_golden("selftest");
  const auto& clip = test::metrics_golden("clip");
  const auto& lpips = test::metrics_golden("lpips");
  double pairs = 0;
  for (const auto& pair : lpips.at("pairs")) pairs += pair.get<double>() / 6;
  const auto cosine = [&](const char* kind, std::size_t picture) { return clip.at(kind)[picture][2].get<double>(); };
  for (const auto& test : results()) {
    CAPTURE(test.metric);
    CAPTURE(test.variant);
    double expected = NAN;
    if (test.metric == "fid") expected = goldens.at(test.variant).at("fid").at("pytorch_fid").get<double>();
    if (test.metric == "kid") expected = goldens.at(test.variant).at("kid").at("mean").get<double>();
    if (test.metric == "kid-deviation") expected = goldens.at(test.variant).at("kid").at("deviation").get<double>();
    if (test.metric == "lpips") expected = lpips.at(test.variant)[0].get<double>();
    if (test.metric == "diversity") expected = pairs;
    if (test.metric == "clip-score") expected = 100 * cosine("cosines", 0);
    if (test.variant == "pickscore") expected = clip.at("logit_scale").get<double>() * cosine("cosines", 1);
    if (test.variant == "imagereward") expected = test::metrics_golden("imagereward").at("values")[1][2].get<double>();
    if (test.variant == "hpsv2") expected = 100 * cosine("padded", 1);
    CHECK(std::abs(test.expected - expected) < 1e-5);
  }
}

TEST_CASE("a value that is off, or no number, does not pass") {
  metrics::SelfTest test{"fid", "pytorch-fid", 1.0, 1.0, 0.1};
  CHECK(test.passed());
  test.value = 1.2;
  CHECK_FALSE(test.passed());
  test.value = NAN;
  CHECK_FALSE(test.passed());
}
