#include "text/languages.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "support/errors.h"

using namespace atelier;
using test::contains;

namespace {

/// Message and hint of the refusal.
std::string refused(const std::string& pair) {
  try {
    text::parse_translation_pair(pair);
  } catch (const base::Error& error) {
    CHECK(error.code() == base::ExitCode::usage);
    return std::string(error.what()) + " / " + error.hint();
  }
  return "(no error)";
}

}  // namespace

TEST_CASE("the 55 varieties of WMT24++ and English are known") {
  for (const char* code :
       {"ar_EG", "ar_SA", "bg_BG", "bn_IN", "ca_ES", "cs_CZ", "da_DK", "de_DE", "el_GR", "es_MX", "et_EE", "fa_IR",
        "fi_FI", "fil_PH", "fr_CA", "fr_FR", "gu_IN", "he_IL", "hi_IN", "hr_HR", "hu_HU", "id_ID", "is_IS", "it_IT",
        "ja_JP", "kn_IN", "ko_KR", "lt_LT", "lv_LV", "ml_IN", "mr_IN", "nl_NL", "no_NO", "pa_IN", "pl_PL", "pt_BR",
        "pt_PT", "ro_RO", "ru_RU", "sk_SK", "sl_SI", "sr_RS", "sv_SE", "sw_KE", "sw_TZ", "ta_IN", "te_IN", "th_TH",
        "tr_TR", "uk_UA", "ur_PK", "vi_VN", "zh_CN", "zh_TW", "zu_ZA", "en_US"})
    CHECK_NOTHROW(text::find_language(code));
  const auto all = text::languages();
  CHECK(std::is_sorted(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.code < b.code; }));
}

TEST_CASE("codes with countries and scripts, and names") {
  const auto tag = [](const char* text) {
    const auto found = text::find_language(text);
    return found.code + " " + found.name;
  };
  CHECK(tag("en") == "en English");
  CHECK(tag("EN") == "en English");
  CHECK(tag("en_US") == "en-US English");
  CHECK(tag("en-GB") == "en-GB English");
  CHECK(tag("zh-Hans") == "zh-Hans Chinese");
  CHECK(tag("zh_Hant_TW") == "zh-Hant-TW Chinese");
  CHECK(tag("german") == "de German");
}

TEST_CASE("unknown ones are refused, with the nearest") {
  CHECK(refused("dr:en") == "--translate: unknown language \"dr\" / did you mean \"da\" (Danish)?");
  CHECK(contains(refused("en:frr"), "\"fr\" (French)"));
  CHECK(contains(refused("de:engl"), "unknown language \"engl\""));
  CHECK(contains(refused("germen:en"), "did you mean \"de\" (German)?"));
  CHECK(contains(refused("en-:de"), "unknown language"));
  CHECK(contains(refused("en-x!:de"), "unknown language"));
  CHECK(contains(refused("klingonese:de"), "the codes are ar bg"));
  for (const char* bad : {"", "de", "de:", ":en", "de:en:fr", "de-en"}) CHECK(refused(bad) != "(no error)");
}

TEST_CASE("the prompt is TranslateGemma's") {
  CHECK(text::translation_prompt(text::parse_translation_pair("cs:de_DE"), "  V nejhorším případě\n") ==
        "You are a professional Czech (cs) to German (de-DE) translator. Your goal is to accurately convey the meaning and "
        "nuances of the original Czech text while adhering to German grammar, vocabulary, and cultural "
        "sensitivities.\nProduce only the German translation, without any additional explanations or commentary. Please "
        "translate the following Czech text into German:\n\n\nV nejhorším případě");
}
