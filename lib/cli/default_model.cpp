#include "cli/default_model.h"

#include <cstdlib>
#include <filesystem>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"

namespace atelier::cli {

namespace fs = std::filesystem;

namespace {

std::vector<fs::path> candidates(const std::string& name) {
  std::vector<fs::path> found;
  if (const char* folder = std::getenv("ATELIER_MODELS"); folder != nullptr && *folder != '\0')
    found.push_back(fs::path(folder) / name);
  std::error_code failed;
  const fs::path executable = fs::read_symlink("/proc/self/exe", failed);
  if (failed) return found;
  const fs::path folder = executable.parent_path();
  found.push_back(folder.parent_path() / "share" / "atelier" / "models" / name);
  for (fs::path at = folder;; at = at.parent_path()) {
    found.push_back(at / "examples" / "models" / name);
    if (at == at.parent_path()) return found;
  }
}

}  // namespace

std::string shipped_model(const std::string& name) {
  for (const fs::path& path : candidates(name)) {
    std::error_code failed;
    for (const char* file : {"config.json", "model_index.json"})
      if (fs::is_regular_file(path / file, failed)) return path.string();
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
