#include "text/languages.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"

namespace atelier::text {
namespace {

using base::Error;
using base::ExitCode;

constexpr Language kLanguages[] = {
    {"ar", "Arabic"},     {"bg", "Bulgarian"},  {"bn", "Bengali"},    {"ca", "Catalan"},   {"cs", "Czech"},
    {"da", "Danish"},     {"de", "German"},     {"el", "Greek"},      {"en", "English"},   {"es", "Spanish"},
    {"et", "Estonian"},   {"fa", "Persian"},    {"fi", "Finnish"},    {"fil", "Filipino"}, {"fr", "French"},
    {"gu", "Gujarati"},   {"he", "Hebrew"},     {"hi", "Hindi"},      {"hr", "Croatian"},  {"hu", "Hungarian"},
    {"id", "Indonesian"}, {"is", "Icelandic"},  {"it", "Italian"},    {"ja", "Japanese"},  {"kn", "Kannada"},
    {"ko", "Korean"},     {"lt", "Lithuanian"}, {"lv", "Latvian"},    {"ml", "Malayalam"}, {"mr", "Marathi"},
    {"nl", "Dutch"},      {"no", "Norwegian"},  {"pa", "Punjabi"},    {"pl", "Polish"},    {"pt", "Portuguese"},
    {"ro", "Romanian"},   {"ru", "Russian"},    {"sk", "Slovak"},     {"sl", "Slovenian"}, {"sr", "Serbian"},
    {"sv", "Swedish"},    {"sw", "Swahili"},    {"ta", "Tamil"},      {"te", "Telugu"},    {"th", "Thai"},
    {"tr", "Turkish"},    {"uk", "Ukrainian"},  {"ur", "Urdu"},       {"vi", "Vietnamese"}, {"zh", "Chinese"},
    {"zu", "Zulu"},
};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

/// "GB", "419", "Hans", "valencia": what may follow a language's code.
bool is_subtag(std::string_view tag) {
  return tag.size() >= 2 && tag.size() <= 8 &&
         std::all_of(tag.begin(), tag.end(), [](unsigned char c) { return c < 0x80 && std::isalnum(c) != 0; });
}

bool has_good_subtags(std::string_view rest) {
  while (!rest.empty()) {
    rest.remove_prefix(1);  // the hyphen
    const std::size_t end = std::min(rest.find('-'), rest.size());
    if (!is_subtag(rest.substr(0, end))) return false;
    rest.remove_prefix(end);
  }
  return true;
}

Error unknown_language(std::string_view text) {
  std::vector<std::string> codes, names;
  for (const Language& l : kLanguages) codes.emplace_back(l.code), names.push_back(lower(l.name));
  const std::string word = lower(text);
  const auto describe = [](const Language& l) { return fmt::format("did you mean \"{}\" ({})?", l.code, l.name); };
  std::string hint;
  // A word of up to three letters is a code. Of codes everything is near: the one that shares most letters in their places.
  if (const std::string head = word.substr(0, word.find_first_of("-_")); head.size() <= 3) {
    const Language* best = &kLanguages[0];
    int most = -1;
    for (const Language& l : kLanguages) {
      int same = 0;
      for (std::size_t i = 0; i < std::min(head.size(), l.code.size()); ++i)
        same += head[i] == l.code[i] ? (i == 0 ? 3 : 2) : 0;
      same -= head.size() != l.code.size();
      if (same > most) most = same, best = &l;
    }
    hint = describe(*best);
  } else if (const std::string name = base::nearest(word, names); !name.empty()) {
    hint = describe(kLanguages[std::find(names.begin(), names.end(), name) - names.begin()]);
  } else {
    hint = fmt::format("the codes are {}", fmt::join(codes, " "));
  }
  return Error(ExitCode::usage, fmt::format("--translate: unknown language {}", base::in_quotes(text)), hint);
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\n\f\v";
  const std::size_t first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) + 1 - first);
}

}  // namespace

std::span<const Language> languages() { return kLanguages; }

LanguageTag find_language(std::string_view text) {
  std::string code(text);
  std::replace(code.begin(), code.end(), '_', '-');
  const std::size_t end = std::min(code.find('-'), code.size());
  const std::string head = lower(std::string_view(code).substr(0, end)), whole = lower(text);
  for (const Language& l : kLanguages) {
    if (head == l.code && has_good_subtags(std::string_view(code).substr(end)))
      return {head + code.substr(end), std::string(l.name)};
    if (whole == lower(l.name)) return {std::string(l.code), std::string(l.name)};
  }
  throw unknown_language(text);
}

TranslationPair parse_translation_pair(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos || text.find(':', colon + 1) != std::string_view::npos)
    throw Error(ExitCode::usage, fmt::format("--translate: {} is not FROM:TO", base::in_quotes(text)),
                "for example --translate de:en");
  return {find_language(text.substr(0, colon)), find_language(text.substr(colon + 1))};
}

std::string translation_prompt(const TranslationPair& pair, std::string_view text) {
  const auto& [s, t] = pair;
  return fmt::format(
      "You are a professional {0} ({1}) to {2} ({3}) translator. Your goal is to accurately convey the meaning and nuances "
      "of the original {0} text while adhering to {2} grammar, vocabulary, and cultural sensitivities.\nProduce only the "
      "{2} translation, without any additional explanations or commentary. Please translate the following {0} text into "
      "{2}:\n\n\n{4}",
      s.name, s.code, t.name, t.code, trimmed(text));
}

}  // namespace atelier::text
