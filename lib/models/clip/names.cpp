#include "models/clip/names.h"

#include <string_view>

namespace atelier::models::clip {
namespace {

constexpr std::string_view kGroup = "text_model.";
const std::string kTable = "embeddings.token_embedding.weight";

}  // namespace

Names::Names(const io::WeightSource& source) : bare_(source.has(kTable) && !source.has(std::string(kGroup) + kTable)) {}

std::string Names::stored(const std::string& name) const {
  return bare_ && name.starts_with(kGroup) ? name.substr(kGroup.size()) : name;
}

}  // namespace atelier::models::clip
