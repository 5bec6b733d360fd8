#include "io/whole_folder.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "base/error.h"
#include "io/file_system.h"

namespace atelier::io {
namespace {

namespace fs = std::filesystem;

/// "a/b/" names the folder "a/b".
fs::path without_slash(const std::string& path) {
  fs::path clean = fs::path(path).lexically_normal();
  return clean.has_filename() ? clean : clean.parent_path();
}

}  // namespace

void require_new_folder(const std::string& path) {
  std::error_code ignored;
  if (!fs::exists(fs::symlink_status(path, ignored))) return;
  if (fs::is_directory(path, ignored) && fs::is_empty(path, ignored)) return;
  throw base::Error(base::ExitCode::cannot_create, fmt::format("{}: is there already", path),
                    "give a folder that is new, or empty");
}

void write_whole_folder(const std::string& path, const std::function<void(const std::string&)>& fill) {
  require_new_folder(path);
  const fs::path target = without_slash(path);
  const std::string folder = target.has_parent_path() ? target.parent_path().string() : ".";
  const std::string partial = fmt::format("{}/.{}.{}.partial", folder, target.filename().string(), ::getpid());
  file_system().create_folders(folder);
  std::error_code ignored;
  try {
    file_system().create_folders(partial);
    fill(partial);
    file_system().rename(partial, target.string());
  } catch (...) {
    fs::remove_all(partial, ignored);
    throw;
  }
  file_system().sync_folder(folder);
}

}  // namespace atelier::io
