// LPIPS of pairs of pictures, and of all pairs of a set.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/seed.h"
#include "base/stop.h"
#include "metrics/metrics.h"

namespace atelier::metrics {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;

constexpr std::int64_t kPairs = 8;                           // that are compared at a time
constexpr std::size_t kMostPictures = 2000;                  // whose diversity is measured
constexpr std::size_t kFeatureBytes = std::size_t{1} << 30;  // of features that are held at a time

Figure figure_of(const char* metric, const Lpips& network) {
  Figure figure;
  figure.metric = metric;
  figure.variant = network.variant();
  figure.weights_sha256 = network.weights_sha256();
  return figure;
}

std::string size_text(const at::Tensor& picture) { return fmt::format("{}x{}", picture.size(1), picture.size(0)); }

std::map<std::string, std::string> by_name(const PictureSet& set, const std::string& folder) {
  std::map<std::string, std::string> names;
  for (const std::string& file : set.files) {
    const auto [place, fresh] = names.emplace(fs::path(file).stem().native(), file);
    if (!fresh) throw Error(ExitCode::data, fmt::format("{}: {} and {} have one name", folder, place->second, file));
  }
  return names;
}

/// a0, b0, a1, b1, ... of two folders.
std::vector<std::string> paired(const std::string& a, const std::string& b, std::vector<Unreadable>& unreadable) {
  const PictureSet left = list_pictures(a), right = list_pictures(b);
  unreadable = left.unreadable;
  unreadable.insert(unreadable.end(), right.unreadable.begin(), right.unreadable.end());
  const auto names = by_name(left, a), others = by_name(right, b);
  std::vector<std::string> files;
  for (const auto& [name, file] : names) {
    const auto other = others.find(name);
    if (other == others.end())
      throw Error(ExitCode::data, fmt::format("{}: has no picture that is named as {}", b, file));
    files.insert(files.end(), {file, other->second});
  }
  for (const auto& [name, file] : others)
    if (!names.contains(name))
      throw Error(ExitCode::data, fmt::format("{}: has no picture that is named as {}", a, file));
  if (files.empty()) throw Error(ExitCode::data, fmt::format("{}: has no pictures", a));
  return files;
}

at::Tensor finite(const at::Tensor& distances) {
  if (!distances.isfinite().all().item<bool>())
    throw Error(ExitCode::data, "a distance is not a finite number: the network's weights are damaged");
  return distances.to(at::kDouble);
}

/// Collects pairs of one size until there are enough to be compared together.
class PairTaker {
 public:
  PairTaker(const Lpips& network, const std::vector<std::string>& files, std::size_t batch)
      : network_(network), files_(files), batch_(batch) {}

  void take(std::size_t place, const at::Tensor& picture) {
    if (place % 2 == 0 || !first_ ||
        first_->first + 1 != place) {  // of a pair whose first is unreadable nothing is left
      first_ = {place, picture};
      return;
    }
    const at::Tensor& a = first_->second;
    if (a.sizes() != picture.sizes())
      throw Error(ExitCode::data, fmt::format("{} is {}, {} is {}: only pictures of one size can be compared",
                                              files_[place - 1], size_text(a), files_[place], size_text(picture)));
    if (!left_.empty() && (left_.front().sizes() != a.sizes() || left_.size() == batch_)) flush();
    left_.push_back(a);
    right_.push_back(picture);
    first_.reset();
  }

  void flush() {
    if (left_.empty()) return;
    parts_.push_back(network_.distances(network_.features(left_), network_.features(right_)));
    left_.clear();
    right_.clear();
  }
  at::Tensor distances() const { return parts_.empty() ? at::Tensor() : finite(at::cat(parts_, 0)); }

 private:
  const Lpips& network_;
  const std::vector<std::string>& files_;
  std::size_t batch_;
  std::optional<std::pair<std::size_t, at::Tensor>> first_;
  std::vector<at::Tensor> left_, right_, parts_;
};

/// The pictures of a set that can be read, bytes (H, W, 3), all of one size.
std::vector<at::Tensor> read_all(const PictureSet& set, std::vector<Unreadable>& unreadable, const std::string& label) {
  std::vector<at::Tensor> pictures;
  const auto failed = read_batches(
      set.files, 1, to_byte_tensor,
      [&](const PictureBatch& batch) {
        const at::Tensor& picture = batch.pictures.front();
        if (!pictures.empty() && picture.sizes() != pictures.front().sizes())
          throw Error(ExitCode::data,
                      fmt::format("{} is {}, others are {}: diversity wants pictures of one size",
                                  set.files[batch.indices.front()], size_text(picture), size_text(pictures.front())));
        pictures.push_back(picture);
      },
      label);
  unreadable = set.unreadable;
  unreadable.insert(unreadable.end(), failed.begin(), failed.end());
  return pictures;
}

/// Not more pictures than can be held, evenly spaced.
PictureSet thinned(const PictureSet& set) {
  if (set.files.size() <= kMostPictures) return set;
  base::log_warning(fmt::format("diversity of {} pictures is measured on {} of them, evenly spaced", set.files.size(),
                                kMostPictures));
  PictureSet part{{}, set.unreadable};
  for (std::size_t i = 0; i < kMostPictures; ++i) part.files.push_back(set.files[i * set.files.size() / kMostPictures]);
  return part;
}

/// Which pairs i < j of n pictures are compared: by row i the places j.
std::vector<std::vector<std::int64_t>> choose_pairs(std::int64_t n, std::int64_t most, std::uint64_t seed) {
  std::vector<std::vector<std::int64_t>> chosen(static_cast<std::size_t>(n));
  base::Generator generator(seed);
  // One pass over all pairs takes each with the chance that makes the wanted number come out exactly.
  std::int64_t left = n * (n - 1) / 2, wanted = std::min(most, left);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = i + 1; j < n; ++j, --left)
      if (base::uniform(generator) * static_cast<double>(left) < static_cast<double>(wanted)) {
        chosen[static_cast<std::size_t>(i)].push_back(j);
        --wanted;
      }
  return chosen;
}

/// Features of runs of pictures, made when they are needed; a run at a time on either side is held.
class FeatureRuns {
 public:
  FeatureRuns(const Lpips& network, const std::vector<at::Tensor>& pictures) : network_(network), pictures_(pictures) {
    std::size_t bytes = 1;
    for (const at::Tensor& part : network.features({pictures.front()})) bytes += part.nbytes();
    run_ = std::clamp<std::size_t>(kFeatureBytes / (2 * bytes), 1, pictures.size());
  }
  std::int64_t size() const { return static_cast<std::int64_t>(run_); }

  /// Features of pictures [first, first + size()).
  std::vector<at::Tensor> run(std::int64_t first) const {
    const auto end = std::min(pictures_.size(), static_cast<std::size_t>(first) + run_);
    std::vector<std::vector<at::Tensor>> parts;
    for (auto i = static_cast<std::size_t>(first); i < end; ++i) {
      base::throw_if_stopped();
      const auto features = network_.features({pictures_[i]});
      parts.resize(features.size());
      for (std::size_t k = 0; k < features.size(); ++k) parts[k].push_back(features[k]);
    }
    std::vector<at::Tensor> joined;
    for (const auto& part : parts) joined.push_back(at::cat(part, 0));
    return joined;
  }

 private:
  const Lpips& network_;
  const std::vector<at::Tensor>& pictures_;
  std::size_t run_;
};

std::vector<at::Tensor> rows_of(const std::vector<at::Tensor>& features, const std::vector<std::int64_t>& rows) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& part : features) result.push_back(part.index_select(0, at::tensor(rows).to(part.device())));
  return result;
}

/// Distances of the chosen pairs, f64 (N, N), NaN elsewhere.
at::Tensor compare(const Lpips& network, const std::vector<at::Tensor>& pictures,
                   const std::vector<std::vector<std::int64_t>>& chosen, const std::string& label) {
  const auto n = static_cast<std::int64_t>(pictures.size());
  at::Tensor result = at::full({n, n}, std::nan(""), at::kDouble);
  double* data = result.mutable_data_ptr<double>();
  const FeatureRuns runs(network, pictures);
  std::optional<base::Progress> progress;
  if (!label.empty()) progress.emplace(label, pictures.size(), "pictures");
  for (std::int64_t low = 0; low < n; low += runs.size()) {
    const auto own = runs.run(low);
    for (std::int64_t other = low; other < n; other += runs.size()) {
      const auto others = other == low ? own : runs.run(other);
      for (std::int64_t i = low; i < std::min(n, low + runs.size()); ++i) {
        base::throw_if_stopped();
        std::vector<std::int64_t> rows;
        for (const std::int64_t j : chosen[static_cast<std::size_t>(i)])
          if (j >= other && j < other + runs.size()) rows.push_back(j - other);
        if (rows.empty()) continue;
        const at::Tensor distances = finite(network.distances(rows_of(own, {i - low}), rows_of(others, rows)));
        for (std::size_t k = 0; k < rows.size(); ++k) {
          const std::int64_t j = other + rows[k];
          data[i * n + j] = data[j * n + i] = distances[static_cast<std::int64_t>(k)].item<double>();
        }
      }
    }
    if (progress) progress->update(static_cast<std::uint64_t>(std::min(n, low + runs.size())));
  }
  return result;
}

}  // namespace

Figure lpips(const std::string& a, const std::string& b, const Lpips& network, const FolderOptions& options) {
  Figure figure = figure_of("lpips", network);
  std::error_code ignored;
  const bool folders = fs::is_directory(a, ignored);
  if (folders != fs::is_directory(b, ignored))
    throw Error(ExitCode::no_input, fmt::format("{} and {}: two files or two folders are wanted", a, b));
  const std::vector<std::string> files = folders ? paired(a, b, figure.unreadable) : std::vector<std::string>{a, b};
  const std::int64_t pairs = options.batch_size > 0 ? options.batch_size : kPairs;
  PairTaker taker(network, files, static_cast<std::size_t>(pairs));
  const auto failed = read_batches(
      files, 2 * pairs, to_byte_tensor,
      [&](const PictureBatch& batch) {
        for (std::size_t i = 0; i < batch.pictures.size(); ++i) taker.take(batch.indices[i], batch.pictures[i]);
      },
      options.progress);
  taker.flush();
  figure.unreadable.insert(figure.unreadable.end(), failed.begin(), failed.end());
  const at::Tensor distances = taker.distances();
  if (!distances.defined())
    throw Error(
        failed.empty() ? ExitCode::internal : ExitCode::data,
        failed.empty() ? "no pair was compared" : fmt::format("{}: {}", failed.front().first, failed.front().second));
  figure.value = distances.mean().item<double>();
  figure.n_real = figure.n_fake = distances.numel();
  figure.interval = bootstrap_mean(distances, options.bootstrap);
  return figure;
}

Figure diversity(const PictureSet& set, const Lpips& network, std::int64_t max_pairs, const FolderOptions& options) {
  Figure figure = figure_of("diversity", network);
  const std::vector<at::Tensor> pictures = read_all(thinned(set), figure.unreadable, {});
  const auto n = static_cast<std::int64_t>(pictures.size());
  if (n < 2) throw Error(ExitCode::data, fmt::format("{} pictures can be read: too few to differ", n));
  const at::Tensor pairs =
      compare(network, pictures, choose_pairs(n, max_pairs, options.bootstrap.seed), options.progress);
  figure.n_fake = n;
  figure.value = pairs.nanmean().item<double>();
  figure.interval = bootstrap_pairs(pairs, options.bootstrap);
  return figure;
}

}  // namespace atelier::metrics
