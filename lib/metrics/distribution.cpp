// Distances between distributions of Inception features.
#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "metrics/metrics.h"

namespace atelier::metrics {
namespace {

using base::Error;
using base::ExitCode;

constexpr std::int64_t kEnough = 2048;  // pictures, for a covariance of full rank

/// All but the value.
Figure figure_of(const char* metric, const InceptionFeatures& real, const InceptionFeatures& fake) {
  if (real.weights_sha256 != fake.weights_sha256 || real.variant != fake.variant)
    throw Error(ExitCode::data, fmt::format("features of {} ({}) and of {} ({}) cannot be compared",
                                            variant_name(real.variant), real.weights_sha256.substr(0, 12),
                                            variant_name(fake.variant), fake.weights_sha256.substr(0, 12)));
  Figure figure;
  figure.metric = metric;
  figure.variant = variant_name(real.variant);
  figure.n_real = real.statistics.count;
  figure.n_fake = fake.statistics.count;
  figure.weights_sha256 = real.weights_sha256;
  figure.unreadable = real.unreadable;
  figure.unreadable.insert(figure.unreadable.end(), fake.unreadable.begin(), fake.unreadable.end());
  return figure;
}

}  // namespace

Figure fid(const InceptionFeatures& real, const InceptionFeatures& fake, const FolderOptions& options) {
  Figure figure = figure_of("fid", real, fake);
  if (const std::int64_t fewer = std::min(figure.n_real, figure.n_fake); fewer < kEnough)
    base::log_warning(
        fmt::format("FID of {} pictures: below {} the figure depends much on their number; compare it only with "
                    "figures of as many pictures, or take KID",
                    fewer, kEnough));
  const Frechet result = frechet(real.features, real.statistics, fake.features, fake.statistics);
  figure.value = result.distance;
  figure.interval =
      bootstrap_influence(result.distance, result.real_influence, result.fake_influence, options.bootstrap);
  return figure;
}

Figure kid(const InceptionFeatures& real, const InceptionFeatures& fake, const FolderOptions& options,
           const KidOptions& kid_options) {
  Figure figure = figure_of("kid", real, fake);
  if (!real.features.defined() || !fake.features.defined())
    throw Error(ExitCode::data, "KID needs the pictures' features, and the file has only their statistics");
  KidOptions used = kid_options;
  used.subset_size = std::min({used.subset_size, figure.n_real, figure.n_fake});
  if (used.subset_size < kid_options.subset_size)
    base::log_warning(fmt::format("KID of {} and {} pictures: its subsets are of {}, not of {}", figure.n_real,
                                  figure.n_fake, used.subset_size, kid_options.subset_size));
  const Kid result = kernel_distance(real.features, fake.features, used);
  const auto [real_influence, fake_influence] = kernel_influence(real.features, fake.features);
  figure.value = result.mean;
  figure.deviation = result.deviation;
  figure.interval = bootstrap_influence(result.mean, real_influence, fake_influence, options.bootstrap);
  return figure;
}

}  // namespace atelier::metrics
