#include "cli/bench_quality.h"

#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "cli/bench_figures.h"
#include "cli/common.h"

namespace atelier::cli {

using base::Error;
using base::ExitCode;
using base::Json;

void QualityOptions::check() const {
  if (reference.empty() == inception.empty()) return;
  throw Error(ExitCode::usage, reference.empty() ? "--inception needs --reference, the pictures to compare with"
                                                 : "--reference needs --inception, the network that compares");
}

std::vector<std::string> QualityOptions::metrics() const {
  std::vector<std::string> names;
  if (!inception.empty()) names = {"fid", "kid"};
  if (!lpips.empty()) names.emplace_back("diversity");
  if (!clip.empty()) names.emplace_back("clip-score");
  if (!preference.empty()) names.emplace_back("preference");
  return names;
}

Quality::Quality(const QualityOptions& options, at::Device device, BenchStore& store)
    : options_(options), store_(store) {
  folder_.bootstrap.resamples = options.bootstrap;
  folder_.bootstrap.seed = options.seed;
  if (!options.inception.empty()) {
    inception_ = metrics::Inception::open(options.inception, device);
    reference_sha256_ = std::filesystem::is_directory(options.reference)
                            ? metrics::pictures_sha256(metrics::list_pictures(options.reference))
                            : base::sha256_file(options.reference);
  }
  if (!options.lpips.empty()) lpips_ = metrics::Lpips::open(options.lpips, device);
  if (!options.clip.empty()) clip_ = metrics::ClipScorer::open(options.clip, device);
  if (!options.preference.empty())
    preference_ =
        metrics::Preference::open(options.preference, *metrics::parse_preference_model(options.predictor), device);
}

/// A metric that cannot be computed (too few pictures, say) costs itself, not the row.
void Quality::add(Result& result, const std::string& metric, const Json& description, const Compute& compute) {
  const std::string key = BenchStore::key(description);
  try {
    if (const auto known = store_.figure(key)) {
      for (const Json& record : known->at("figures")) result.figures.push_back(figure_of(record));
      return;
    }
  } catch (const Json::exception&) {  // not what this program writes: computed again
  }
  try {
    Json records = Json::array();
    for (const metrics::Figure& figure : compute()) {
      records.push_back(figure_record(figure));
      result.figures.push_back(figure);
    }
    store_.put_figure(key, {{"of", description}, {"figures", records}});
  } catch (const base::Stopped&) {
    throw;
  } catch (const std::exception& error) {
    const Failure failure = describe_failure(error);
    if (failure.code == ExitCode::cannot_create || failure.code == ExitCode::io) throw;
    base::log_warning(fmt::format("{}: {}", metric, failure.message));
    result.failed.push_back({{"metric", metric}, {"error", failure.message}});
  }
}

std::vector<metrics::Figure> Quality::distances(const std::vector<std::string>& files) {
  const auto variant = *metrics::parse_inception_variant(options_.resize);
  if (!reference_)
    reference_ = metrics::features_of(options_.reference, *inception_, variant, folder_, store_.folder() + "/figures");
  metrics::PictureSet set;
  set.files = files;
  const auto made = metrics::inception_features(set, *inception_, variant, folder_);
  std::vector<metrics::Figure> figures{metrics::fid(*reference_, made, folder_)};
  // Of a file of statistics alone there is no KID.
  if (reference_->features.defined()) figures.push_back(metrics::kid(*reference_, made, folder_));
  return figures;
}

Quality::Result Quality::judge(const std::vector<metrics::Captioned>& pictures,
                               const std::vector<std::string>& sha256) {
  std::vector<std::string> files, texts;
  for (const auto& [file, text] : pictures) files.push_back(file), texts.push_back(text);
  const Json shared = {
      {"version", 1}, {"pictures", sha256}, {"bootstrap", options_.bootstrap}, {"seed", options_.seed}};
  const auto described = [&](const std::string& metric, const std::string& weights) {
    Json description = shared;
    description["metric"] = metric;
    description["weights"] = weights;
    return description;
  };
  Result result;
  if (inception_) {
    Json description = described("fid", inception_->weights_sha256());
    description["variant"] = options_.resize;
    description["reference"] = reference_sha256_;
    add(result, "fid", description, [&] { return distances(files); });
  }
  if (lpips_)
    add(result, "diversity", described("diversity", lpips_->weights_sha256()), [&] {
      metrics::PictureSet set;
      set.files = files;
      return std::vector{metrics::diversity(set, *lpips_, 10000, folder_)};
    });
  if (clip_) {
    Json description = described("clip-score", clip_->weights_sha256());
    description["texts"] = texts;
    add(result, "clip-score", description, [&] { return std::vector{metrics::clip_score(pictures, *clip_, folder_)}; });
  }
  if (preference_) {
    Json description = described("preference", preference_->weights_sha256());
    description["texts"] = texts;
    description["variant"] = options_.predictor;
    add(result, "preference", description,
        [&] { return std::vector{metrics::preference(pictures, *preference_, folder_)}; });
  }
  return result;
}

}  // namespace atelier::cli
