// metrics-test-tool WEIGHTS METRIC ARGUMENTS...: one figure as a line of JSON. WEIGHTS is the file or folder of the network.
//   fid|clean-fid|kid REAL FAKE    lpips A B    diversity FOLDER    features FOLDER OUTPUT
//   clip-score|pickscore|hpsv2|imagereward FOLDER TEXT
// With WEIGHTS `selftest` the golden values. scripts/check-metrics compares them with the Python packages.
#include <cstdio>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "metrics/metrics.h"

namespace {

using namespace atelier;
using namespace atelier::metrics;

Figure distance(const std::string& weights, const std::string& metric, const std::string& real,
                const std::string& fake) {
  const auto variant = metric == "clean-fid" ? InceptionVariant::clean_fid : InceptionVariant::pytorch_fid;
  const Inception network = Inception::open(weights);
  const auto a = features_of(real, network, variant), b = features_of(fake, network, variant);
  return metric == "kid" ? kid(a, b) : fid(a, b);
}

std::vector<Captioned> captioned(const std::string& folder, const std::string& text) {
  std::vector<Captioned> pictures;
  for (const std::string& file : list_pictures(folder).files) pictures.push_back({file, text});
  return pictures;
}

Figure measure(const std::vector<std::string>& a) {
  const std::string &weights = a.at(0), &metric = a.at(1);
  if (metric == "lpips") return lpips(a.at(2), a.at(3), Lpips::open(weights));
  if (metric == "diversity") return diversity(list_pictures(a.at(2)), Lpips::open(weights));
  if (metric == "clip-score") return clip_score(captioned(a.at(2), a.at(3)), ClipScorer::open(weights));
  if (const auto model = parse_preference_model(metric))
    return preference(captioned(a.at(2), a.at(3)), Preference::open(weights, *model));
  if (metric == "features") {
    save_features(a.at(3), features_of(a.at(2), Inception::open(weights), InceptionVariant::pytorch_fid));
    return {};
  }
  return distance(weights, metric, a.at(2), a.at(3));
}

int print_selftest() {
  bool good = true;
  for (const SelfTest& test : selftest()) {
    std::printf("%s %s %.9g expected %.9g\n", test.metric.c_str(), test.variant.c_str(), test.value, test.expected);
    good &= test.passed();
  }
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.at(0) == "selftest") return print_selftest();
  const Figure figure = measure(arguments);
  base::Json record{{"metric", figure.metric}, {"variant", figure.variant}, {"value", figure.value},
                    {"n_real", figure.n_real}, {"n_fake", figure.n_fake},   {"unreadable", figure.unreadable.size()}};
  if (figure.interval) record["interval"] = {figure.interval->first, figure.interval->second};
  if (figure.deviation) record["deviation"] = *figure.deviation;
  std::printf("%s\n", base::dump_json(record).c_str());
  return 0;
} catch (const base::Error& error) {
  base::log_error(error.what());
  return static_cast<int>(error.code());
} catch (const std::exception& error) {
  base::log_error(error.what());
  return 64;
}
