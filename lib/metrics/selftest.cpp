#include "metrics/selftest.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/core/grad_mode.h>

#include "metrics/metrics.h"
#include "metrics/seeded.h"

namespace atelier::metrics {
namespace {

/// `scale`: what a tolerance of `relative` is relative to.
SelfTest test(std::string metric, std::string variant, double value, double expected, double relative, double scale) {
  return {std::move(metric), std::move(variant), value, expected, relative * std::abs(scale)};
}

InceptionFeatures features(const Inception& network, const std::string& side, InceptionVariant variant) {
  std::vector<at::Tensor> pictures;
  for (int i = 0; i < 4; ++i)
    pictures.push_back(Inception::prepare(seeded_picture(side + "." + std::to_string(i), 48, 48), variant));
  InceptionFeatures result;
  result.features = network.features(pictures, variant);
  result.statistics = feature_statistics(result.features);
  result.variant = variant;
  result.weights_sha256 = network.weights_sha256();
  return result;
}

void distributions(std::vector<SelfTest>& tests) {
  struct Golden {
    InceptionVariant variant;
    double fid, kid, deviation;
  };
  constexpr Golden goldens[] = {{InceptionVariant::pytorch_fid, 11.2292996, -0.0255656978, 0.0229248795},
                                {InceptionVariant::clean_fid, 12.6643526, -0.0326591190, 0.0381616416}};
  const Inception network = seeded_inception();
  for (const Golden& golden : goldens) {
    const auto real = features(network, "real", golden.variant), fake = features(network, "fake", golden.variant);
    const std::string variant = variant_name(golden.variant);
    const double distance = frechet(real.features, real.statistics, fake.features, fake.statistics).distance;
    tests.push_back(test("fid", variant, distance, golden.fid, 1e-3, golden.fid));
    const Kid kid = kernel_distance(real.features, fake.features, {.subsets = 10, .subset_size = 3});
    tests.push_back(test("kid", variant, kid.mean, golden.kid, 1e-3, golden.kid));
    tests.push_back(test("kid-deviation", variant, kid.deviation, golden.deviation, 1e-3, golden.deviation));
  }
}

double distance(const Lpips& network, const image::Image& a, const image::Image& b) {
  return network.distances(network.features({to_byte_tensor(a)}), network.features({to_byte_tensor(b)})).item<double>();
}

void perceptual(std::vector<SelfTest>& tests) {
  struct Golden {
    const char* trunk;
    double value;
  };
  constexpr Golden goldens[] = {{"alex", 1.3359984}, {"vgg", 1.0432363}, {"squeeze", 1.0797212}};
  const auto a = seeded_picture("lpips.64.a", 64, 48), b = seeded_picture("lpips.64.b", 64, 48);
  for (const Golden& golden : goldens)
    tests.push_back(test("lpips", golden.trunk, distance(seeded_lpips(golden.trunk), a, b), golden.value, 1e-4, 1));
  const Lpips alex = seeded_lpips("alex");
  double sum = 0;
  for (int i = 0; i < 4; ++i)
    for (int j = i + 1; j < 4; ++j)
      sum += distance(alex, seeded_picture("diverse." + std::to_string(i), 48, 40),
                      seeded_picture("diverse." + std::to_string(j), 48, 40));
  tests.push_back(test("diversity", "alex", sum / 6, 1.1862803, 1e-4, 1));
}

double cosine(const ClipScorer& scorer, const image::Image& picture, const std::string& text) {
  const at::Tensor seen = scorer.picture_embeddings({scorer.prepare(picture)}), said = scorer.text_embeddings({text});
  return (seen * said).sum().item<double>();
}

void captions(std::vector<SelfTest>& tests) {
  const auto picture = seeded_picture("clip.1", 50, 40);
  const std::string text = "Two BLUE squares, and a dog's ball!";
  const ClipScorer clip = seeded_clip();
  const double plain = cosine(clip, seeded_picture("clip.0", 32, 32), text);
  tests.push_back(test("clip-score", "clip", std::max(100 * plain, 0.0), 16.5604234, 1e-4, 1));
  const auto preferred = [&](const Preference& model) {
    return model.scores({model.prepare(picture)}, {text}).front();
  };
  const Preference pickscore(clip, PreferenceModel::pickscore),
      hpsv2(seeded_clip(ClipPreparation::Fit::pad), PreferenceModel::hpsv2), reward(seeded_image_reward());
  tests.push_back(test("preference", "pickscore", preferred(pickscore), -1.9562677, 1e-4, 1));
  tests.push_back(test("preference", "hpsv2", preferred(hpsv2), 21.7312813, 1e-4, 1));
  tests.push_back(test("preference", "imagereward", preferred(reward), -4.2464323, 1e-4, 1));
}

}  // namespace

bool SelfTest::passed() const { return std::abs(value - expected) <= tolerance; }

std::vector<SelfTest> selftest() {
  const at::NoGradGuard no_grad;
  std::vector<SelfTest> tests;
  distributions(tests);
  perceptual(tests);
  captions(tests);
  return tests;
}

}  // namespace atelier::metrics
