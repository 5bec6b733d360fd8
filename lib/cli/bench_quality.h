#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/bench_store.h"
#include "metrics/metrics.h"

namespace atelier::cli {

/// What a comparison judges its pictures by; what is empty is not measured.
struct QualityOptions {
  std::string reference, inception;  ///< both or neither: fid and kid
  std::string resize = "pytorch-fid";
  std::string lpips;  ///< weights: diversity
  std::string clip;   ///< folder: clip-score
  std::string preference, predictor = "pickscore";
  std::int64_t bootstrap = 1000;
  std::uint64_t seed = 0;

  bool any() const { return !inception.empty() || !lpips.empty() || !clip.empty() || !preference.empty(); }
  /// Error(usage) for a reference without Inception or the other way.
  void check() const;
  /// Names of the figures that will be there: "fid", "kid", "diversity", "clip-score", "preference".
  std::vector<std::string> metrics() const;
};

/// The figures of rows of pictures. Networks are opened for their errors at once, so that a wrong file ends the run before a
/// picture is made, and figures of the same pictures are taken from the store.
class Quality {
 public:
  /// Errors as the networks'.
  Quality(const QualityOptions& options, at::Device device, BenchStore& store);

  struct Result {
    std::vector<metrics::Figure> figures;
    base::Json failed = base::Json::array();  ///< {"metric","error"} of those that could not be computed
  };
  /// `sha256`: of each picture's file, which tell one set from another.
  Result judge(const std::vector<metrics::Captioned>& pictures, const std::vector<std::string>& sha256);

 private:
  using Compute = std::function<std::vector<metrics::Figure>()>;
  void add(Result& result, const std::string& metric, const base::Json& description, const Compute& compute);
  std::vector<metrics::Figure> distances(const std::vector<std::string>& files);

  QualityOptions options_;
  BenchStore& store_;
  metrics::FolderOptions folder_;
  std::optional<metrics::Inception> inception_;
  std::optional<metrics::Lpips> lpips_;
  std::optional<metrics::ClipScorer> clip_;
  std::optional<metrics::Preference> preference_;
  std::optional<metrics::InceptionFeatures> reference_;  ///< computed when the first row needs it
  std::string reference_sha256_;
};

}  // namespace atelier::cli
