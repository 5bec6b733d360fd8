#include "cli/default_model.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <system_error>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"

namespace atelier::cli {

namespace fs = std::filesystem;

namespace {

/// Folders that may hold what ships of a kind, the likeliest first.
std::vector<fs::path> shipped_folders(const std::string& kind) {
  std::vector<fs::path> found;
  std::string variable = "ATELIER_" + kind;
  std::transform(variable.begin(), variable.end(), variable.begin(), [](unsigned char c) { return std::toupper(c); });
  if (const char* folder = std::getenv(variable.c_str()); folder != nullptr && *folder != '\0')
    found.push_back(fs::path(folder));
  std::error_code failed;
  const fs::path executable = fs::read_symlink("/proc/self/exe", failed);
  if (failed) return found;
  const fs::path folder = executable.parent_path();
  found.push_back(folder.parent_path() / "share" / "atelier" / kind);
  for (fs::path at = folder;; at = at.parent_path()) {
    found.push_back(at / "examples" / kind);
    if (at == at.parent_path()) return found;
  }
}

}  // namespace

std::string shipped_path(const std::string& kind, const std::string& name) {
  std::error_code failed;
  for (const fs::path& folder : shipped_folders(kind))
    if (fs::exists(folder / name, failed)) return (folder / name).string();
  return {};
}

std::vector<std::string> shipped_names(const std::string& kind) {
  std::set<std::string> names;
  std::error_code ignored;
  for (const fs::path& folder : shipped_folders(kind))
    for (const auto& entry : fs::directory_iterator(folder, ignored)) names.insert(entry.path().stem().string());
  return {names.begin(), names.end()};
}

std::string shipped_model(const std::string& name) {
  for (const fs::path& folder : shipped_folders("models")) {
    std::error_code failed;
    for (const char* file : {"config.json", "model_index.json"})
      if (fs::is_regular_file(folder / name / file, failed)) return (folder / name).string();
  }
  throw base::Error(base::ExitCode::no_input, fmt::format("the shipped model \"{}\" was not found", name),
                    "give a model with --model, or set ATELIER_MODELS to the folder that holds it");
}

std::string model_or_default(const std::string& given, const std::string& name) {
  if (!given.empty()) return given;
  const std::string path = shipped_model(name);
  base::log_info(fmt::format("no --model given, using the shipped {} ({})", name, path));
  return path;
}

}  // namespace atelier::cli
