#include "pipelines/prefill.h"

#include <algorithm>
#include <utility>

#include "base/stop.h"

namespace atelier::pipelines {
namespace {

thread_local std::optional<PrefillDeadline::TimePoint> g_deadline;

void throw_if_late() {
  if (g_deadline && std::chrono::steady_clock::now() > *g_deadline) throw PastDeadline{};
}

}  // namespace

PrefillDeadline::PrefillDeadline(std::optional<TimePoint> deadline) : outer_(std::exchange(g_deadline, deadline)) {}
PrefillDeadline::~PrefillDeadline() { g_deadline = outer_; }

void prefill(const TextModel& model, std::span<const text::TokenId> tokens, nn::KvCache& cache,
             const std::function<void(const at::Tensor&, std::int64_t)>& each, std::int64_t chunk) {
  nn::KvCache* const caches[] = {&cache};
  const auto count = static_cast<std::int64_t>(tokens.size());
  for (std::int64_t i = 0; i < count; i += chunk) {
    base::throw_if_stopped();
    throw_if_late();
    each(model.network->forward({tokens.subspan(i, std::min(chunk, count - i)), caches}), i);
  }
}

at::Tensor prefill_logits(const TextModel& model, std::span<const text::TokenId> tokens, nn::KvCache& cache,
                          std::int64_t chunk) {
  at::Tensor last;
  prefill(
      model, tokens, cache,
      [&](const at::Tensor& hidden, std::int64_t) { last = hidden.narrow(0, hidden.size(0) - 1, 1); }, chunk);
  return model.network->logits(last).cpu();
}

}  // namespace atelier::pipelines
