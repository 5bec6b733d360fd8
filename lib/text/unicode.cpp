#include "text/unicode.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>

#include "text/utf8.h"

namespace atelier::text {
namespace {

struct Range {
  std::uint32_t first, last;
};
/// Every `step`-th character from first to last becomes itself + difference.
struct LowerRun {
  std::uint32_t first, last, step;
  std::int32_t difference;
};
/// One step of the canonical decomposition; second 0: there is only one.
struct Decomposition {
  std::uint32_t character, first, second;
};
/// Characters of one canonical combining class.
struct MarkRun {
  std::uint32_t first, last;
  int combining_class;
};

#include "text/unicode_tables.inc"

// Hangul syllables are composed by arithmetic (The Unicode Standard, 3.12).
constexpr std::uint32_t kSyllables = 0xAC00, kLeading = 0x1100, kVowels = 0x1161, kTrailing = 0x11A7;
constexpr std::uint32_t kLeadingCount = 19, kVowelCount = 21, kTrailingCount = 28;
constexpr std::uint32_t kSyllableCount = kLeadingCount * kVowelCount * kTrailingCount;

/// The run that holds `c`, or null; runs are sorted and do not overlap.
template <typename Run, std::size_t n>
const Run* find_run(const Run (&runs)[n], std::uint32_t c) {
  const auto after = std::upper_bound(std::begin(runs), std::end(runs), c,
                                      [](std::uint32_t value, const Run& run) { return value < run.first; });
  if (after == std::begin(runs)) return nullptr;
  const Run* run = std::prev(after);
  return c <= run->last ? run : nullptr;
}

int combining_class(std::uint32_t c) {
  const MarkRun* run = find_run(kMarks, c);
  return run != nullptr ? run->combining_class : 0;
}

void decompose(std::uint32_t c, std::u32string& out) {
  if (c >= kSyllables && c < kSyllables + kSyllableCount) {
    const std::uint32_t index = c - kSyllables, trailing = index % kTrailingCount;
    out += static_cast<char32_t>(kLeading + index / (kVowelCount * kTrailingCount));
    out += static_cast<char32_t>(kVowels + index / kTrailingCount % kVowelCount);
    if (trailing != 0) out += static_cast<char32_t>(kTrailing + trailing);
    return;
  }
  const auto found = std::lower_bound(std::begin(kDecompositions), std::end(kDecompositions), c,
                                      [](const Decomposition& d, std::uint32_t value) { return d.character < value; });
  if (found == std::end(kDecompositions) || found->character != c) {
    out += static_cast<char32_t>(c);
    return;
  }
  decompose(found->first, out);
  if (found->second != 0) decompose(found->second, out);
}

/// Sorts every run of combining marks by class, keeping the order of equals.
void reorder_marks(std::u32string& text) {
  const auto by_class = [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); };
  for (auto at = text.begin(); at != text.end();) {
    const auto marks = std::find_if(at, text.end(), [](char32_t c) { return combining_class(c) != 0; });
    at = std::find_if(marks, text.end(), [](char32_t c) { return combining_class(c) == 0; });
    std::stable_sort(marks, at, by_class);
  }
}

std::uint64_t pair_key(std::uint32_t first, std::uint32_t second) {
  return (static_cast<std::uint64_t>(first) << 32) | second;
}

const std::unordered_map<std::uint64_t, std::uint32_t>& compositions() {
  static const auto pairs = [] {
    std::unordered_map<std::uint64_t, std::uint32_t> map;
    for (const Decomposition& d : kDecompositions) {
      if (d.second == 0) continue;
      if (std::binary_search(std::begin(kNeverComposed), std::end(kNeverComposed), d.character)) continue;
      map.emplace(pair_key(d.first, d.second), d.character);
    }
    return map;
  }();
  return pairs;
}

/// The character that two make together, or 0.
std::uint32_t compose(std::uint32_t first, std::uint32_t second) {
  if (first >= kLeading && first < kLeading + kLeadingCount && second >= kVowels && second < kVowels + kVowelCount)
    return kSyllables + ((first - kLeading) * kVowelCount + (second - kVowels)) * kTrailingCount;
  if (first >= kSyllables && first < kSyllables + kSyllableCount && (first - kSyllables) % kTrailingCount == 0 &&
      second > kTrailing && second < kTrailing + kTrailingCount)
    return first + (second - kTrailing);
  const auto found = compositions().find(pair_key(first, second));
  return found != compositions().end() ? found->second : 0;
}

std::u32string compose_all(const std::u32string& text) {
  std::u32string out;
  std::size_t starter = std::u32string::npos;  // place in `out` of the last character of class 0
  int last_class = 0;                          // of what `out` ends with
  for (const char32_t c : text) {
    const int own = combining_class(c);
    const bool reaches = starter != std::u32string::npos && (last_class < own || starter + 1 == out.size());
    if (reaches) {
      if (const std::uint32_t both = compose(out[starter], c); both != 0) {
        out[starter] = static_cast<char32_t>(both);
        continue;
      }
    }
    if (own == 0) starter = out.size();
    last_class = own;
    out += c;
  }
  return out;
}

}  // namespace

bool is_letter(std::uint32_t c) { return find_run(kLetters, c) != nullptr; }
bool is_number(std::uint32_t c) { return find_run(kNumbers, c) != nullptr; }
bool is_space(std::uint32_t c) { return find_run(kSpaces, c) != nullptr; }

std::u32string to_nfd(std::u32string_view text) {
  std::u32string parts;
  for (const char32_t c : text) decompose(c, parts);
  reorder_marks(parts);
  return parts;
}

std::u32string to_nfc(std::u32string_view text) {
  if (std::all_of(text.begin(), text.end(), [](char32_t c) { return c < 0x300; })) return std::u32string(text);
  return compose_all(to_nfd(text));
}

std::u32string to_lower(std::u32string_view text) {
  std::u32string out;
  for (const char32_t c : text) {
    if (c == 0x130) {  // the only one whose lower case is two characters
      out += U"i\u0307";
      continue;
    }
    const LowerRun* run = find_run(kLower, c);
    const bool member = run != nullptr && (c - run->first) % run->step == 0;
    out += member ? static_cast<char32_t>(static_cast<std::int64_t>(c) + run->difference) : c;
  }
  return out;
}

std::u32string to_utf32(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = decode_utf8(text);
    out += static_cast<char32_t>(step.code_point);
    text.remove_prefix(step.length);
  }
  return out;
}

std::string to_utf8(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : text) append_utf8(out, c);
  return out;
}

}  // namespace atelier::text
