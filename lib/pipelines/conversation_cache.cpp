#include "pipelines/conversation_cache.h"

#include <algorithm>

#include <c10/core/InferenceMode.h>

namespace atelier::pipelines {
namespace {

using text::TokenId;
using Tokens = std::span<const TokenId>;

/// Copies kept at once: one for the end of the prompt, one for the turn before, which /retry and /undo go back to.
constexpr std::size_t most_windows = 2;

/// A shorter rest than this is computed anew rather than moved.
constexpr std::int64_t least_moved = 16;

std::int64_t common_prefix(Tokens a, Tokens b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

/// Where segments end: behind every "<start_of_turn>model\n", before the turn that follows it, and at the end.
std::vector<std::int64_t> segment_ends(const TextModel& model, Tokens tokens) {
  std::vector<std::int64_t> ends;
  const auto start = model.tokenizer->find("<start_of_turn>");
  const auto opening = model.tokenizer->encode(std::string_view("model\n"));
  const auto size = static_cast<std::int64_t>(tokens.size()), length = static_cast<std::int64_t>(opening.size());
  bool after_model = false;
  for (std::int64_t i = 0; start && i < size; ++i) {
    if (tokens[i] != *start) continue;
    if (after_model) ends.push_back(i);
    after_model = i + 1 + length <= size && std::equal(opening.begin(), opening.end(), tokens.begin() + i + 1);
    if (after_model) ends.push_back(i + 1 + length);
  }
  if (ends.empty() || ends.back() != size) ends.push_back(size);
  return ends;
}

}  // namespace

ConversationCache::Entered ConversationCache::enter(const TextModel& model, Tokens tokens, nn::KvCache& cache) {
  align(model, tokens);
  const std::int64_t known = positions();
  Entered entered;
  entered.logits = compute(model, tokens, /*want_logits=*/true);
  entered.computed = static_cast<std::int64_t>(tokens.size()) - known;
  keep_windows();
  cache = std::move(cache_);
  cache_ = {};
  return entered;
}

void ConversationCache::leave(nn::KvCache cache) {
  const c10::InferenceMode inference;
  cache_ = std::move(cache);
  if (!restore(positions())) clear();
}

void ConversationCache::settle(const TextModel& model, Tokens tokens) {
  const c10::InferenceMode inference;
  // Not where the tokens do not simply go on: then the next prompt decides what is worth keeping.
  if (common_prefix(tokens_, tokens) == positions() && !tokens_.empty()) compute(model, tokens, /*want_logits=*/false);
}

void ConversationCache::clear() {
  tokens_.clear();
  borders_.clear();
  windows_.clear();
  cache_ = {};
}

std::int64_t ConversationCache::bytes() const {
  std::int64_t sum = cache_.bytes();
  for (const Windows& copy : windows_)
    for (const auto& layer : copy.layers) sum += layer ? layer->bytes() : 0;
  return sum;
}

/// Brings the cache to a prefix of `tokens`, shorter than them, that ends at a border.
void ConversationCache::align(const TextModel& model, Tokens tokens) {
  const bool may_cut = std::exchange(cut_allowed_, false);
  std::int64_t common = common_prefix(tokens_, tokens);
  if (may_cut && common < positions() && cut(model, tokens, common)) common = positions();
  if (common == positions() && common < static_cast<std::int64_t>(tokens.size())) {
    if (tokens_.empty()) rewind(model, 0);
    return;
  }
  rewind(model, std::min(common, static_cast<std::int64_t>(tokens.size()) - 1));
}

/// Takes [common, common + d) out, where all that lies behind it is what `tokens` goes on with.
bool ConversationCache::cut(const TextModel& model, Tokens tokens, std::int64_t common) {
  const Tokens have(tokens_), wanted = tokens.subspan(common);
  for (std::int64_t d = 1; positions() - common - d >= least_moved; ++d) {
    const Tokens rest = have.subspan(common + d);
    if (rest.size() >= wanted.size() || !std::equal(rest.begin(), rest.end(), wanted.begin())) continue;
    if (!model.network->cut(cache_, common, d)) return false;
    tokens_.erase(tokens_.begin() + common, tokens_.begin() + common + d);
    std::erase_if(borders_, [&](std::int64_t b) { return b > common && b < common + d; });
    for (std::int64_t& b : borders_)
      if (b >= common + d) b -= d;
    windows_.clear();
    return true;
  }
  return false;
}

/// Back to the last border, not behind `most`, that can be restored.
void ConversationCache::rewind(const TextModel& model, std::int64_t most) {
  for (auto border = borders_.rbegin(); border != borders_.rend(); ++border) {
    const std::int64_t position = *border;
    if (position > most || !restore(position)) continue;
    tokens_.resize(static_cast<std::size_t>(position));
    std::erase_if(borders_, [position](std::int64_t b) { return b > position; });
    std::erase_if(windows_, [position](const Windows& w) { return w.position > position; });
    return;
  }
  clear();
  cache_ = model.network->new_cache();
}

bool ConversationCache::restore(std::int64_t position) {
  if (cache_.layers.empty() || position > cache_.positions) return false;
  if (cache_.can_truncate(position)) {
    cache_.truncate(position);
    return true;
  }
  const auto kept =
      std::find_if(windows_.begin(), windows_.end(), [position](const Windows& w) { return w.position == position; });
  if (kept == windows_.end()) return false;
  for (std::size_t i = 0; i < cache_.layers.size(); ++i) {
    if (kept->layers[i])
      cache_.layers[i] = std::move(*kept->layers[i]);
    else
      cache_.layers[i].truncate(position);
  }
  cache_.positions = position;
  windows_.erase(kept);
  return true;
}

void ConversationCache::keep_windows() {
  const bool sliding = std::any_of(cache_.layers.begin(), cache_.layers.end(),
                                   [](const nn::LayerCache& layer) { return layer.window() > 0; });
  if (!sliding || cache_.positions == 0) return;
  std::erase_if(windows_, [this](const Windows& w) { return w.position == cache_.positions; });
  if (windows_.size() == most_windows) windows_.erase(windows_.begin());
  Windows copy;
  copy.position = cache_.positions;
  for (const auto& layer : cache_.layers)
    copy.layers.push_back(layer.window() > 0 ? std::optional(layer.fork()) : std::nullopt);
  windows_.push_back(std::move(copy));
}

/// Computes what is missing of `tokens`, segment by segment. A stop in the middle of a segment takes it back.
at::Tensor ConversationCache::compute(const TextModel& model, Tokens tokens, bool want_logits) {
  at::Tensor logits;
  for (const std::int64_t end : segment_ends(model, tokens)) {
    const std::int64_t begin = positions();
    if (end <= begin) continue;
    const Tokens segment = tokens.subspan(begin, end - begin);
    const bool last = end == static_cast<std::int64_t>(tokens.size());
    if (last && want_logits) keep_windows();
    try {
      if (last && want_logits)
        logits = prefill_logits(model, segment, cache_);
      else
        prefill(model, segment, cache_, [](const at::Tensor&, std::int64_t) {});
    } catch (...) {
      if (!restore(begin)) clear();
      throw;
    }
    tokens_.insert(tokens_.end(), segment.begin(), segment.end());
    borders_.push_back(end);
  }
  return logits;
}

}  // namespace atelier::pipelines
