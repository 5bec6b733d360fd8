#include "train/image/dreambooth.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"

namespace atelier::train::image {
namespace {

using base::Error;
using base::ExitCode;

constexpr std::int64_t kViews = 100, kPriorViews = 200, kLeastViews = 200, kMostViews = 4000;
constexpr std::int64_t kFewPictures = 3;

}  // namespace

std::string fill_template(const std::string& text, const std::string& token, const std::string& class_name) {
  std::string filled;
  bool has_token = false;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t open = std::min(text.find('{', at), text.size());
    filled += text.substr(at, open - at);
    if (open == text.size()) break;
    const std::size_t close = std::min(text.find('}', open), text.size());
    const std::string name = text.substr(open + 1, close - open - 1);
    if (close == text.size() || (name != "token" && name != "class"))
      throw Error(ExitCode::usage, fmt::format("the template \"{}\": its names are {{token}} and {{class}}", text));
    has_token |= name == "token";
    const std::string& value = name == "token" ? token : class_name;
    at = close + 1;
    if (value.empty() && (filled.empty() || filled.ends_with(' ')) && at < text.size() && text[at] == ' ') ++at;
    filled += value;
  }
  if (!has_token) throw Error(ExitCode::usage, fmt::format("the template \"{}\" has no {{token}}", text));
  while (filled.ends_with(' ')) filled.pop_back();
  return filled;
}

DreamBoothPlan dreambooth_plan(const DreamBoothFacts& facts) {
  const std::int64_t views = std::clamp(facts.pictures * (facts.prior ? kPriorViews : kViews), kLeastViews, kMostViews);
  DreamBoothPlan plan;
  plan.steps = (views + facts.batch_size - 1) / facts.batch_size;
  plan.unet_lr = !facts.full ? 1e-4 : facts.text_encoder ? 2e-6 : 5e-6;
  plan.text_encoder_lr = facts.full ? plan.unet_lr : plan.unet_lr / 2;
  if (facts.pictures < kFewPictures) {
    plan.unet_lr /= 2;
    plan.text_encoder_lr /= 2;
  }
  return plan;
}

}  // namespace atelier::train::image
