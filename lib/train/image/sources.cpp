#include "train/image/sources.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "io/file_system.h"

namespace atelier::train::image {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;

constexpr std::size_t kMaxTomlBytes = 4u << 20;
constexpr std::int64_t kMostRepeats = 1'000'000;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

/// The formats that are read, and those that a user may take for such: the reader says which they are.
bool is_picture(const fs::path& path) {
  static constexpr std::string_view endings[] = {".png", ".jpg",  ".jpeg", ".webp", ".bmp", ".gif",
                                                 ".tif", ".tiff", ".avif", ".heic", ".jxl"};
  const std::string ending = lower(path.extension().string());
  return std::find(std::begin(endings), std::end(endings), ending) != std::end(endings) &&
         !lower(path.stem().string()).ends_with(".mask");
}

/// `10_token class`: 10 and "token class".
std::optional<std::pair<std::int64_t, std::string>> repeats_of(const std::string& name) {
  std::int64_t repeats = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data(), end, repeats);
  if (error != std::errc() || stop == end || *stop != '_' || repeats < 1 || repeats > kMostRepeats) return std::nullopt;
  return std::pair{repeats, std::string(stop + 1, end)};
}

std::vector<fs::path> folders_in(const std::string& folder) {
  std::error_code failed;
  std::vector<fs::path> found;
  for (auto at = fs::directory_iterator(folder, failed); !failed && at != fs::directory_iterator();
       at.increment(failed))
    if (at->is_directory()) found.push_back(at->path());
  if (failed) throw Error(ExitCode::no_input, fmt::format("{}: {}", folder, failed.message()));
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<Subset> folder_subsets(const std::string& data, const Subset& defaults) {
  std::vector<Subset> subsets;
  for (const fs::path& folder : folders_in(data)) {
    const auto named = repeats_of(folder.filename().string());
    if (!named || picture_files(folder.string()).empty()) continue;
    Subset subset = defaults;
    subset.folder = folder.string();
    subset.repeats = named->first;
    subset.class_tokens = named->second;
    subsets.push_back(std::move(subset));
  }
  const std::size_t own = picture_files(data).size();
  if (!subsets.empty() && own > 0)
    base::log_warning(fmt::format(
        "{}: {} pictures lie beside folders that are named REPEATS_CAPTION; only those are used", data, own));
  if (!subsets.empty()) return subsets;
  if (own == 0)
    throw Error(
        ExitCode::data, fmt::format("{}: no pictures", data),
        "PNG and JPEG files are looked for in the folder, or in folders in it that are named like \"10_token class\"");
  subsets.push_back(defaults);
  subsets.front().folder = data;
  return subsets;
}

/// A TOML file's folders are sought from where the tool runs, as kohya's scripts do, or else beside the file.
void find_folder(std::string& folder, const fs::path& beside) {
  std::error_code ignored;
  if (folder.empty() || fs::path(folder).is_absolute() || fs::is_directory(folder, ignored)) return;
  if (fs::is_directory(beside / folder, ignored)) folder = (beside / folder).string();
}

}  // namespace

std::vector<std::string> picture_files(const std::string& folder) {
  std::error_code failed;
  std::vector<std::string> found;
  for (auto at = fs::directory_iterator(folder, failed); !failed && at != fs::directory_iterator();
       at.increment(failed)) {
    std::error_code ignored;
    if (is_picture(at->path()) && !at->is_directory(ignored)) found.push_back(at->path().string());
  }
  if (failed) throw Error(ExitCode::no_input, fmt::format("{}: {}", folder, failed.message()));
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<SubsetGroup> open_sources(const std::string& data, const SourceDefaults& defaults) {
  std::error_code failed;
  const auto status = fs::status(data, failed);
  if (!fs::exists(status)) throw Error(ExitCode::no_input, fmt::format("{}: no such file or folder", data));
  std::vector<SubsetGroup> groups;
  if (fs::is_directory(status)) {
    groups = {{defaults.buckets, defaults.batch_size, folder_subsets(data, defaults.subset)}};
  } else {
    if (lower(fs::path(data).extension().string()) != ".toml")
      throw Error(ExitCode::data, fmt::format("{}: is neither a folder of pictures nor a .toml file", data));
    groups = parse_sources(io::read_file(data, kMaxTomlBytes), data, defaults);
    for (SubsetGroup& group : groups)
      for (Subset& subset : group.subsets) {
        find_folder(subset.folder, fs::path(data).parent_path());
        find_folder(subset.mask_folder, fs::path(data).parent_path());
        if (std::error_code ignored; !fs::is_directory(subset.folder, ignored))
          throw Error(ExitCode::no_input, fmt::format("{}: {}: no such folder", data, subset.folder));
        if (picture_files(subset.folder).empty())
          throw Error(ExitCode::data, fmt::format("{}: no pictures in {}", data, subset.folder));
      }
  }
  for (const SubsetGroup& group : groups) check_buckets(group.buckets);
  return groups;
}

}  // namespace atelier::train::image
