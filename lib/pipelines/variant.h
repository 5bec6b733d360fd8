#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "pipelines/text_model.h"

namespace atelier::pipelines {

/// Specialised Gemmas, which are asked in their own way.
enum class Variant { plain, functiongemma, translategemma, medgemma, shieldgemma };

std::string_view variant_name(Variant variant);  ///< as in --variant
std::vector<std::string> variant_names();

/// From the folder: its name, or `_name_or_path` of its config.json, holds the variant's name (model folders have no field that
/// says so); a chat template that asks for `source_lang_code` is TranslateGemma's.
Variant find_variant(const TextModelFiles& files);

/// MedGemma's system message, for conversations that bring none (model card of google/medgemma-27b-text-it).
inline constexpr std::string_view medgemma_system = "You are a helpful medical assistant.";

}  // namespace atelier::pipelines
