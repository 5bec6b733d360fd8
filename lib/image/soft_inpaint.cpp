#include "image/soft_inpaint.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "base/error.h"

namespace atelier::image {
namespace {

constexpr int kReach = 2;  // of the window in which the differences are filtered

void check(const FloatImage& a, const FloatImage& b, const FloatImage& mask) {
  if (a.width != b.width || a.height != b.height || a.channels != b.channels || a.width != mask.width ||
      a.height != mask.height || mask.channels != 1) {
    throw base::Error(base::ExitCode::internal, "soft inpainting: latents and mask of unlike sizes");
  }
}

double length(const float* vector, int channels) {
  double sum = 0;
  for (int c = 0; c < channels; ++c) sum += static_cast<double>(vector[c]) * static_cast<double>(vector[c]);
  return std::sqrt(sum);
}

// A Gaussian of deviation 1.5 / sqrt(2), lowered so that it ends at 0 one pixel beyond the window.
const std::array<double, (2 * kReach + 1) * (2 * kReach + 1)>& window_weights() {
  static const auto weights = [] {
    std::array<double, (2 * kReach + 1) * (2 * kReach + 1)> result{};
    const auto bell = [](double squared) { return std::exp(-squared / (1.5 * 1.5)); };
    const double end = bell((kReach + 1.0) * (kReach + 1.0));
    std::size_t i = 0;
    for (int y = -kReach; y <= kReach; ++y) {
      for (int x = -kReach; x <= kReach; ++x) result[i++] = std::max(0.0, (bell(x * x + y * y) - end) / (1 - end));
    }
    return result;
  }();
  return weights;
}

struct Sample {
  double value, weight;
};

// The mean of the samples between two shares of their sorted weights; at least a weight of 1 is looked at.
double mean_between(std::vector<Sample>& samples, double low, double high) {
  std::stable_sort(samples.begin(), samples.end(), [](const Sample& a, const Sample& b) { return a.value < b.value; });
  double total = 0;
  for (const Sample& sample : samples) total += sample.weight;
  double from = total * low, to = total * high;
  if (to - from < 1) {
    const double centre = (from + to) / 2;
    from = centre - 0.5;
    to = centre + 0.5;
    if (to > total) {
      from = total - 1;
      to = total;
    }
    if (from < 0) {
      from = 0;
      to = 1;
    }
  }
  double at = 0, sum = 0, weight = 0;
  for (const Sample& sample : samples) {
    const double share = std::min(to, at + sample.weight) - std::max(from, at);
    at += sample.weight;
    if (share <= 0) continue;
    sum += sample.value * share;
    weight += share;
  }
  return weight > 0 ? sum / weight : 0;
}

FloatImage filtered(const FloatImage& image, double low, double high) {
  const auto& weights = window_weights();
  FloatImage result(image.width, image.height, 1);
  std::vector<Sample> samples;
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      samples.clear();
      for (int v = std::max(0, y - kReach); v <= std::min(image.height - 1, y + kReach); ++v) {
        for (int u = std::max(0, x - kReach); u <= std::min(image.width - 1, x + kReach); ++u) {
          const auto i = static_cast<std::size_t>((v - y + kReach) * (2 * kReach + 1) + u - x + kReach);
          samples.push_back({static_cast<double>(*image.at(u, v)), weights[i]});
        }
      }
      *result.at(x, y) = static_cast<float>(mean_between(samples, low, high));
    }
  }
  return result;
}

double smoother_step(double x) { return x * x * x * (x * (x * 6 - 15) + 10); }

}  // namespace

FloatImage soft_step_mask(const FloatImage& mask, double sigma, const SoftInpaint& settings) {
  const double exponent = std::pow(sigma, settings.schedule_bias) * settings.preservation;
  FloatImage result = mask;
  for (float& value : result.data) value = static_cast<float>(std::pow(static_cast<double>(value), exponent));
  return result;
}

FloatImage soft_blend(const FloatImage& original, const FloatImage& current, const FloatImage& mask,
                      const SoftInpaint& settings) {
  check(original, current, mask);
  const int channels = original.channels;
  const double power = settings.contrast_boost;
  FloatImage result(original.width, original.height, channels);
  for (int y = 0; y < result.height; ++y) {
    for (int x = 0; x < result.width; ++x) {
      const float t = *mask.at(x, y);
      const float *a = original.at(x, y), *b = current.at(x, y);
      float* out = result.at(x, y);
      for (int c = 0; c < channels; ++c) out[c] = a[c] * (1 - t) + b[c] * t;
      const double wanted = std::pow(std::pow(length(a, channels), power) * (1 - static_cast<double>(t)) +
                                         std::pow(length(b, channels), power) * static_cast<double>(t),
                                     1 / power);
      const double factor = wanted / (length(out, channels) + 1e-5);
      for (int c = 0; c < channels; ++c) out[c] = static_cast<float>(static_cast<double>(out[c]) * factor);
    }
  }
  return result;
}

FloatImage soft_final_mask(const FloatImage& original, const FloatImage& result, const FloatImage& mask,
                           const SoftInpaint& settings) {
  check(original, result, mask);
  FloatImage distance(original.width, original.height, 1);
  std::vector<float> difference(static_cast<std::size_t>(original.channels));
  for (int y = 0; y < distance.height; ++y) {
    for (int x = 0; x < distance.width; ++x) {
      for (std::size_t c = 0; c < difference.size(); ++c) difference[c] = result.at(x, y)[c] - original.at(x, y)[c];
      *distance.at(x, y) = static_cast<float>(length(difference.data(), original.channels));
    }
  }
  distance = filtered(filtered(distance, 0.9, 1.0), 0.25, 0.75);
  for (std::size_t i = 0; i < distance.data.size(); ++i) {
    const double level = std::clamp(static_cast<double>(mask.data[i]), 0.0, 1.0);
    double scale = 1 - std::pow(level, settings.preservation / 2);
    scale = 0.5 * (1 - settings.mask_influence) + scale * settings.mask_influence;
    scale /= 1.00001 - scale;
    const double half = settings.difference_threshold * scale;
    const double ratio = half > 0 ? static_cast<double>(distance.data[i]) / half : 1e30;
    distance.data[i] = static_cast<float>(1 - smoother_step(1 / (1 + std::pow(ratio, settings.difference_contrast))));
  }
  return distance;
}

}  // namespace atelier::image
