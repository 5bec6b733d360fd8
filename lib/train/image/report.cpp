#include "train/image/report.h"

#include <algorithm>
#include <iterator>

namespace atelier::train::image {
namespace {

using base::Json;

constexpr Problem kProblems[] = {Problem::unreadable, Problem::tiny,        Problem::duplicate,
                                 Problem::no_caption, Problem::caption_cut, Problem::wildcards_unused,
                                 Problem::transparent};

}  // namespace

std::string problem_name(Problem problem) {
  switch (problem) {
    case Problem::unreadable: return "unreadable";
    case Problem::tiny: return "tiny";
    case Problem::duplicate: return "duplicate";
    case Problem::no_caption: return "no_caption";
    case Problem::caption_cut: return "caption_cut";
    case Problem::wildcards_unused: return "wildcards_unused";
    case Problem::transparent: return "transparent";
  }
  return "";
}

std::int64_t DataReport::count(Problem problem) const {
  return std::count_if(findings.begin(), findings.end(), [problem](const Finding& f) { return f.problem == problem; });
}

Json DataReport::json() const {
  Json all_buckets = Json::array(), problems = Json::object(), all_findings = Json::array();
  for (const Bucket& bucket : buckets)
    all_buckets.push_back({{"width", bucket.size.width},
                           {"height", bucket.size.height},
                           {"pictures", bucket.pictures},
                           {"draws", bucket.draws},
                           {"batches", bucket.batches}});
  for (const Problem problem : kProblems)
    if (const auto number = count(problem); number > 0) problems[problem_name(problem)] = number;
  for (const Finding& finding : findings)
    all_findings.push_back(
        {{"problem", problem_name(finding.problem)}, {"path", finding.path}, {"message", finding.message}});
  return {{"pictures", found},
          {"kept", kept},
          {"left_out", found - kept},
          {"class_pictures", class_pictures},
          {"draws", draws},
          {"batches", batches},
          {"buckets", std::move(all_buckets)},
          {"problems", std::move(problems)},
          {"findings", std::move(all_findings)}};
}

}  // namespace atelier::train::image
