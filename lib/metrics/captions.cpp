// Scores of pictures for their texts.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

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

/// score(prepared pictures, their places in the list) of every picture, in their order; NaN where it could not be read.
template <class Score>
std::vector<double> by_picture(const std::vector<Captioned>& pictures, std::vector<Unreadable>& unreadable,
                               const FolderOptions& options, const Prepare& prepare, const Score& score) {
  std::vector<std::string> files;
  for (const Captioned& picture : pictures) files.push_back(picture.file);
  std::vector<double> all(pictures.size(), std::numeric_limits<double>::quiet_NaN());
  const auto take = [&](const PictureBatch& batch) {
    const std::vector<double> scores = score(batch.pictures, batch.indices);
    for (std::size_t i = 0; i < scores.size(); ++i) {
      if (!std::isfinite(scores[i]))
        throw base::Error(base::ExitCode::data,
                          fmt::format("{}: its score is not a finite number: the network's weights are damaged",
                                      files[batch.indices[i]]));
      all[batch.indices[i]] = scores[i];
    }
  };
  const auto failed =
      read_batches(files, options.batch_size > 0 ? options.batch_size : kBatch, prepare, take, options.progress);
  unreadable.insert(unreadable.end(), failed.begin(), failed.end());
  return all;
}

std::vector<double> rewards(const std::vector<Captioned>& pictures, const ImageReward& network,
                            std::vector<Unreadable>& unreadable, const FolderOptions& options) {
  return by_picture(
      pictures, unreadable, options, [&](const image::Image& rgb) { return network.prepare(rgb); },
      [&](const std::vector<at::Tensor>& prepared, const std::vector<std::size_t>& places) {
        std::vector<std::string> texts;
        for (const std::size_t place : places) texts.push_back(pictures[place].text);
        return network.rewards(prepared, texts);
      });
}

/// The mean of the scores that are there.
Figure mean_score(std::vector<double> scores, std::vector<Unreadable> unreadable, const FolderOptions& options) {
  const std::size_t all = scores.size();
  std::erase_if(scores, [](double score) { return std::isnan(score); });
  if (scores.empty())
    throw base::Error(
        base::ExitCode::data,
        fmt::format(
            "none of {} pictures can be read{}", all,
            unreadable.empty() ? "" : fmt::format("; {}: {}", unreadable.front().first, unreadable.front().second)));
  const at::Tensor values = at::tensor(scores);
  Figure figure;
  figure.n_fake = values.numel();
  figure.value = values.mean().item<double>();
  figure.interval = bootstrap_mean(values, options.bootstrap);
  figure.unreadable = std::move(unreadable);
  return figure;
}

}  // namespace

std::vector<double> caption_cosines(const std::vector<Captioned>& pictures, const ClipScorer& scorer,
                                    std::vector<Unreadable>& unreadable, const FolderOptions& options) {
  const auto embeddings = embed(pictures, scorer);
  return by_picture(
      pictures, unreadable, options, [&](const image::Image& rgb) { return scorer.prepare(rgb); },
      [&](const std::vector<at::Tensor>& prepared, const std::vector<std::size_t>& places) {
        const at::Tensor rows = scorer.picture_embeddings(prepared).to(at::kDouble);  // (B, D)
        std::vector<double> cosines;
        for (std::size_t i = 0; i < places.size(); ++i) {
          const at::Tensor& words = embeddings.at(pictures[places[i]].text);
          cosines.push_back((rows[static_cast<std::int64_t>(i)] * words).sum().item<double>());
        }
        return cosines;
      });
}

Figure clip_score(const std::vector<Captioned>& pictures, const ClipScorer& scorer, const FolderOptions& options) {
  std::vector<Unreadable> unreadable;
  std::vector<double> scores = caption_cosines(pictures, scorer, unreadable, options);
  for (double& score : scores)
    if (!std::isnan(score)) score = std::max(100 * score, 0.0);
  Figure figure = mean_score(std::move(scores), std::move(unreadable), options);
  figure.metric = "clip-score";
  figure.variant = "clip";
  figure.weights_sha256 = scorer.weights_sha256();
  return figure;
}

Figure preference(const std::vector<Captioned>& pictures, const Preference& model, const FolderOptions& options) {
  std::vector<Unreadable> unreadable;
  std::vector<double> scores = model.reward() ? rewards(pictures, *model.reward(), unreadable, options)
                                              : caption_cosines(pictures, *model.clip(), unreadable, options);
  if (model.clip())
    for (double& score : scores) score = model.score(score);
  Figure figure = mean_score(std::move(scores), std::move(unreadable), options);
  figure.metric = "preference";
  figure.variant = preference_name(model.model());
  figure.weights_sha256 = model.weights_sha256();
  return figure;
}

}  // namespace atelier::metrics
