#include "pipelines/prefill.h"

#include <algorithm>

#include "base/stop.h"

namespace atelier::pipelines {

void prefill(const TextModel& model, std::span<const text::TokenId> tokens, nn::KvCache& cache,
             const std::function<void(const at::Tensor&, std::int64_t)>& each, std::int64_t chunk) {
  nn::KvCache* const caches[] = {&cache};
  const auto count = static_cast<std::int64_t>(tokens.size());
  for (std::int64_t i = 0; i < count; i += chunk) {
    base::throw_if_stopped();
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
