#include "pipelines/variant.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "text/chat_template.h"

namespace atelier::pipelines {
namespace {

constexpr Variant kVariants[] = {Variant::plain, Variant::functiongemma, Variant::translategemma, Variant::medgemma,
                                 Variant::shieldgemma};

std::string letters(std::string text) {
  std::erase_if(text, [](unsigned char c) { return std::isalnum(c) == 0; });
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

std::string_view variant_name(Variant variant) {
  constexpr std::string_view names[] = {"plain", "functiongemma", "translategemma", "medgemma", "shieldgemma"};
  return names[static_cast<int>(variant)];
}

std::vector<std::string> variant_names() {
  std::vector<std::string> names;
  for (const Variant v : kVariants) names.emplace_back(variant_name(v));
  return names;
}

Variant find_variant(const TextModelFiles& files) {
  std::error_code failed;
  const auto path =
      std::filesystem::absolute(files.gguf ? files.gguf->file->path() : files.folder, failed).lexically_normal();
  const std::string folder = path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
  std::string origin;
  if (const auto name = files.config_json.find("_name_or_path"); name != files.config_json.end() && name->is_string())
    origin = std::filesystem::path(name->get<std::string>()).filename().string();
  for (const std::string& word : {letters(folder), letters(origin)})
    for (const Variant v : kVariants)
      if (v != Variant::plain && word.find(variant_name(v)) != std::string::npos) return v;
  const auto own = files.own_template();
  return own && own->mentions("source_lang_code") ? Variant::translategemma : Variant::plain;
}

}  // namespace atelier::pipelines
