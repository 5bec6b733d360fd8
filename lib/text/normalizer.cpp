#include "text/normalizer.h"

#include "base/error.h"
#include "text/utf8.h"

namespace atelier::text {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

std::uint32_t little_endian(std::string_view bytes) {
  std::uint32_t word = 0;
  for (std::size_t i = 4; i-- > 0;) word = (word << 8) | static_cast<unsigned char>(bytes[i]);
  return word;
}

// Fields of a unit of the Darts-clone double array.
std::uint32_t unit_label(std::uint32_t unit) { return unit & 0x800000FFu; }
bool unit_has_leaf(std::uint32_t unit) { return (unit >> 8) & 1u; }
std::uint32_t unit_value(std::uint32_t unit) { return unit & 0x7FFFFFFFu; }
std::uint32_t unit_offset(std::uint32_t unit) { return (unit >> 10) << ((unit & 0x200u) >> 6); }

}  // namespace

Normalizer::Normalizer(NormalizerSpec spec, const PieceMatcher& user_defined, const std::string& what)
    : spec_(std::move(spec)), user_defined_(user_defined) {
  if (spec_.charsmap.empty()) return;
  const std::string_view blob = spec_.charsmap;
  const std::uint64_t trie_size = blob.size() > 4 ? little_endian(blob) : 0;
  if (trie_size < 1024 || trie_size % 1024 != 0 || trie_size >= blob.size() - 4 || blob.back() != '\0') {
    throw base::Error(base::ExitCode::data, what + ": malformed normalisation rules");
  }
  trie_ = blob.substr(4, trie_size);
  replacements_ = blob.substr(4 + trie_size);
}

std::optional<std::uint32_t> Normalizer::unit(std::size_t position) const {
  if (position >= trie_.size() / 4) return std::nullopt;
  return little_endian(trie_.substr(position * 4, 4));
}

Normalizer::Prefix Normalizer::longest_rule(std::string_view input) const {
  Prefix found;
  std::size_t position = unit_offset(*unit(0));
  for (std::size_t i = 0; i < input.size(); ++i) {
    const auto byte = static_cast<unsigned char>(input[i]);
    position ^= byte;
    const auto node = unit(position);
    if (!node || unit_label(*node) != byte) break;
    position ^= unit_offset(*node);
    if (!unit_has_leaf(*node)) continue;
    const auto leaf = unit(position);
    if (!leaf || unit_value(*leaf) >= replacements_.size()) return {};
    const std::string_view rest = replacements_.substr(unit_value(*leaf));
    found = {rest.substr(0, rest.find('\0')), i + 1};
  }
  return found;
}

Normalizer::Prefix Normalizer::normalize_prefix(std::string_view input) const {
  if (const auto match = user_defined_.longest(input)) return {input.substr(0, match->length), match->length};
  if (!trie_.empty()) {
    if (const Prefix rule = longest_rule(input); rule.consumed > 0) return rule;
  }
  const Utf8Step step = decode_utf8(input);
  if (!step.valid) return {kReplacement, 1};
  return {input.substr(0, step.length), step.length};
}

std::vector<std::string> Normalizer::normalize(std::span<const std::string_view> stretches) const {
  std::vector<std::string> out(stretches.size());
  const bool squeeze = spec_.remove_extra_whitespaces;
  const std::string_view blank = spec_.escape_whitespaces ? kSpaceSymbol : " ";
  bool started = false, after_space = squeeze;
  for (std::size_t i = 0; i < stretches.size(); ++i) {
    std::string_view input = stretches[i];
    out[i].reserve(input.size() + input.size() / 4 + blank.size());
    while (!input.empty()) {
      Prefix prefix = normalize_prefix(input);
      input.remove_prefix(prefix.consumed);
      if (!started && squeeze && prefix.text == " ") continue;
      if (!started && spec_.add_dummy_prefix) out[i].append(blank);
      started = true;
      while (after_space && prefix.text.starts_with(' ')) prefix.text.remove_prefix(1);
      for (const char c : prefix.text) c == ' ' ? void(out[i].append(blank)) : out[i].push_back(c);
      if (!prefix.text.empty()) after_space = prefix.text.ends_with(' ');
      if (!squeeze) after_space = false;
    }
  }
  for (std::size_t i = out.size(); squeeze && i-- > 0;) {
    while (out[i].ends_with(blank)) out[i].resize(out[i].size() - blank.size());
    if (!out[i].empty()) break;
  }
  return out;
}

}  // namespace atelier::text
