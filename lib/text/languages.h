#pragma once

#include <span>
#include <string>
#include <string_view>

namespace atelier::text {

struct Language {
  std::string_view code;  ///< of ISO 639, in lower case
  std::string_view name;  ///< in English
};

/// The languages of TranslateGemma: those of WMT24++ (arXiv:2502.12404), whose 55 varieties differ from them by country, and
/// English. By code.
std::span<const Language> languages();

/// A language as a translation prompt names it.
struct LanguageTag {
  std::string code;  ///< as it was given, with `-` for `_`: en, en-GB, zh-Hans
  std::string name;  ///< English, Chinese
};

/// Understands a code of the table, alone or followed by scripts, countries and variants (`en_US`, `en-GB`, `zh-Hans-TW`), and
/// the language's English name. Error(usage) naming the nearest one for anything else.
LanguageTag find_language(std::string_view text);

struct TranslationPair {
  LanguageTag source, target;
};

/// `de:en`. Error(usage).
TranslationPair parse_translation_pair(std::string_view text);

/// What TranslateGemma is asked, as one user's message. Blanks around the text do not count.
/// Reference: the model card of google/translategemma-4b-it.
std::string translation_prompt(const TranslationPair& pair, std::string_view text);

}  // namespace atelier::text
