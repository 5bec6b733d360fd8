// Scores of pictures for their texts.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/stop.h"
#include "metrics/metrics.h"

namespace atelier::metrics {
namespace {

constexpr std::int64_t kBatch = 16;

/// The embedding of every different text, (D) each.
std::map<std::string, at::Tensor> embed(const std::vector<Captioned>& pictures, const ClipScorer& scorer) {
  std::map<std::string, at::Tensor> embeddings;
  for (const Captioned& picture : pictures) {
    base::throw_if_stopped();
    if (!embeddings.contains(picture.text))
      embeddings.emplace(picture.text, scorer.text_embeddings({picture.text}).squeeze(0));
  }
  return embeddings;
}

/// The mean of `score(cosine)` over the pictures that can be read.
template <class Score>
Figure mean_score(const std::vector<Captioned>& pictures, const ClipScorer& scorer, const FolderOptions& options,
                  const Score& score) {
  Figure figure;
  figure.weights_sha256 = scorer.weights_sha256();
  std::vector<double> scores;
  for (const double cosine : caption_cosines(pictures, scorer, figure.unreadable, options))
    if (!std::isnan(cosine)) scores.push_back(score(cosine));
  if (scores.empty())
    throw base::Error(base::ExitCode::data,
                      fmt::format("none of {} pictures can be read{}", pictures.size(),
                                  figure.unreadable.empty() ? ""
                                                            : fmt::format("; {}: {}", figure.unreadable.front().first,
                                                                          figure.unreadable.front().second)));
  const at::Tensor values = at::tensor(scores);
  figure.n_fake = values.numel();
  figure.value = values.mean().item<double>();
  figure.interval = bootstrap_mean(values, options.bootstrap);
  return figure;
}

}  // namespace

std::vector<double> caption_cosines(const std::vector<Captioned>& pictures, const ClipScorer& scorer,
                                    std::vector<Unreadable>& unreadable, const FolderOptions& options) {
  const auto embeddings = embed(pictures, scorer);
  std::vector<std::string> files;
  for (const Captioned& picture : pictures) files.push_back(picture.file);
  std::vector<double> cosines(pictures.size(), std::numeric_limits<double>::quiet_NaN());
  const auto failed = read_batches(
      files, options.batch_size > 0 ? options.batch_size : kBatch,
      [&](const image::Image& rgb) { return scorer.prepare(rgb); },
      [&](const PictureBatch& batch) {
        const at::Tensor rows = scorer.picture_embeddings(batch.pictures).to(at::kDouble);  // (B, D)
        for (std::size_t i = 0; i < batch.indices.size(); ++i) {
          const at::Tensor& words = embeddings.at(pictures[batch.indices[i]].text);
          const double cosine = (rows[static_cast<std::int64_t>(i)] * words).sum().item<double>();
          if (!std::isfinite(cosine))
            throw base::Error(base::ExitCode::data,
                              fmt::format("{}: its score is not a finite number: the network's weights are damaged",
                                          files[batch.indices[i]]));
          cosines[batch.indices[i]] = cosine;
        }
      },
      options.progress);
  unreadable.insert(unreadable.end(), failed.begin(), failed.end());
  return cosines;
}

Figure clip_score(const std::vector<Captioned>& pictures, const ClipScorer& scorer, const FolderOptions& options) {
  Figure figure = mean_score(pictures, scorer, options, [](double cosine) { return std::max(100 * cosine, 0.0); });
  figure.metric = "clip-score";
  figure.variant = "clip";
  return figure;
}

Figure preference(const std::vector<Captioned>& pictures, const Preference& model, const FolderOptions& options) {
  Figure figure = mean_score(pictures, model.clip(), options, [&](double cosine) { return model.score(cosine); });
  figure.metric = "preference";
  figure.variant = preference_name(model.model());
  return figure;
}

}  // namespace atelier::metrics
