#include "pipelines/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace atelier::pipelines {

std::size_t StopMatcher::held_prefix() const {
  std::size_t held = 0;
  for (const std::string& stop : stops_)
    for (std::size_t n = std::min(stop.size() - 1, pending_.size()); n > held; --n)
      if (std::string_view(pending_).ends_with(std::string_view(stop).substr(0, n))) {
        held = n;
        break;
      }
  return held;
}

std::string StopMatcher::push(std::string_view piece) {
  if (matched_) return {};
  pending_ += piece;
  std::size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, pending_.find(stop));
  matched_ = first != std::string::npos;
  const std::size_t show = matched_ ? first : pending_.size() - held_prefix();
  std::string out = pending_.substr(0, show);
  pending_.erase(0, show);
  shown_ += show;
  if (matched_) pending_.clear();
  return out;
}

std::string StopMatcher::flush() {
  shown_ += pending_.size();
  return std::exchange(pending_, {});
}

}  // namespace atelier::pipelines
