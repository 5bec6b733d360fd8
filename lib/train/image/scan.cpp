// Reading the pictures of a dataset for the first time: what there is, and what is wrong with it.
#include <algorithm>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "image/read.h"
#include "io/file_system.h"
#include "train/image/pictures.h"

namespace atelier::train::image {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;

constexpr std::size_t kMaxFileBytes = 512u << 20;
constexpr double kMuchEnlarged = 1.5;

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

/// The caption's file: NAME.txt or else NAME.caption, or with the subset's own ending; "" where there is none.
std::string caption_path(const fs::path& picture, const Subset& subset) {
  std::vector<std::string> endings{".txt", ".caption"};
  if (!subset.caption_extension.empty()) endings = {subset.caption_extension};
  for (const std::string& ending : endings) {
    fs::path path = picture;
    if (is_file(path.replace_extension(ending))) return path.string();
    if (is_file(picture.string() + ending)) return picture.string() + ending;  // picture.png.txt
  }
  return {};
}

std::string mask_path(const fs::path& picture, const Subset& subset) {
  std::vector<fs::path> places;
  if (!subset.mask_folder.empty())
    for (const char* ending : {".png", ".jpg", ".jpeg"})
      places.push_back(fs::path(subset.mask_folder) / (picture.stem().string() + ending));
  fs::path beside = picture;
  places.push_back(beside.replace_extension(".mask.png"));
  const auto found = std::find_if(places.begin(), places.end(), is_file);
  return found == places.end() ? std::string() : found->string();
}

bool has_transparent_pixels(const atelier::image::Image& picture) {
  const atelier::image::Image alpha = atelier::image::alpha_of(picture);
  return std::any_of(alpha.data.begin(), alpha.data.end(), [](std::uint8_t a) { return a < 255; });
}

class Scanner {
 public:
  Scanner(const std::vector<SubsetGroup>& groups, const ScanOptions& options, DataReport& report)
      : groups_(groups), options_(options), report_(report) {}

  std::vector<PictureEntry> run() {
    std::vector<std::vector<std::string>> files;
    for (const SubsetGroup& group : groups_)
      for (const Subset& subset : group.subsets) {
        files.push_back(picture_files(subset.folder));
        report_.found += std::ssize(files.back());
      }
    base::Progress progress("reading pictures", static_cast<std::uint64_t>(report_.found), "files");
    std::uint64_t done = 0;
    auto names = files.begin();
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      sizes_ = bucket_sizes(groups_[g].buckets);
      for (std::size_t s = 0; s < groups_[g].subsets.size(); ++s, ++names)
        for (const std::string& path : *names) {
          base::throw_if_stopped();
          take(path, g, s);
          progress.update(++done);
        }
    }
    find_duplicates();
    warn_of_left_out();
    return std::move(entries_);
  }

 private:
  void take(const std::string& path, std::size_t group, std::size_t subset) {
    try {
      PictureEntry entry = read(path, groups_[group].subsets[subset], groups_[group].buckets);
      entry.group = group;
      entry.subset = subset;
      note(entry, groups_[group].subsets[subset]);
      entries_.push_back(std::move(entry));
    } catch (const base::Stopped&) {
      throw;
    } catch (const Error& error) {
      if (options_.strict) throw Error(ExitCode::data, error.what(), error.hint());
      add(Problem::unreadable, path, error.what());
    }
  }

  PictureEntry read(const std::string& path, const Subset& subset, const BucketOptions& buckets) const {
    PictureEntry entry;
    entry.path = path;
    const std::string bytes = io::read_file(path, kMaxFileBytes);
    const auto picture = atelier::image::decode_picture(bytes, path);
    entry.sha256 = base::sha256_hex(bytes);
    entry.size = {picture.info.width, picture.info.height};
    entry.has_alpha = has_transparent_pixels(picture.image);
    entry.fit = fit_to_bucket(entry.size, buckets, sizes_);
    if (entry.fit.bucket.width == 0 || entry.fit.bucket.height == 0)
      throw Error(ExitCode::data, fmt::format("{}: {}x{} is smaller than a bucket, and is not to be enlarged", path,
                                              entry.size.width, entry.size.height));
    const std::string text = subset.caption_files ? caption_path(path, subset) : std::string();
    entry.caption = text.empty() ? subset.class_tokens : read_caption(text);
    if (options_.masks) read_mask(entry, subset);
    return entry;
  }

  static void read_mask(PictureEntry& entry, const Subset& subset) {
    entry.mask_path = mask_path(entry.path, subset);
    if (entry.mask_path.empty()) return;
    const std::string bytes = io::read_file(entry.mask_path, kMaxFileBytes);
    const auto mask = atelier::image::decode_picture(bytes, entry.mask_path);
    const double mask_aspect = static_cast<double>(mask.info.width) / mask.info.height;
    const double aspect = static_cast<double>(entry.size.width) / entry.size.height;
    if (std::abs(mask_aspect / aspect - 1) > 0.02)
      throw Error(ExitCode::data,
                  fmt::format("{}: {}x{} has other proportions than its picture, {}x{}", entry.mask_path,
                              mask.info.width, mask.info.height, entry.size.width, entry.size.height));
    entry.mask_sha256 = base::sha256_hex(bytes);
  }

  void note(const PictureEntry& entry, const Subset& subset) {
    const double enlarged = static_cast<double>(entry.fit.resized.width) / entry.size.width;
    if (enlarged > kMuchEnlarged)
      add(Problem::tiny, entry.path,
          fmt::format("{}x{} is enlarged {:.1f} times to fill {}x{}", entry.size.width, entry.size.height, enlarged,
                      entry.fit.bucket.width, entry.fit.bucket.height));
    if (entry.caption.empty()) add(Problem::no_caption, entry.path, "has no caption");
    if (!subset.captions.wildcards && has_wildcard(entry.caption))
      add(Problem::wildcards_unused, entry.path, "has a {a|b} in its caption, and wildcards are off");
    if (entry.has_alpha && !options_.masks)
      add(Problem::transparent, entry.path, "has transparent pixels, whose hidden colours are learnt");
    if (options_.tokenizer) note_length(entry);
  }

  void note_length(const PictureEntry& entry) {
    const std::string line = entry.caption.substr(0, entry.caption.find('\n'));
    const auto tokens = std::ssize(options_.tokenizer->encode(line));
    const std::int64_t room = options_.tokenizer->max_length() - 2;
    if (tokens > room)
      add(Problem::caption_cut, entry.path,
          fmt::format("has {} tokens in its caption, of which {} are read", tokens, room));
  }

  void find_duplicates() {
    std::map<std::string, const PictureEntry*> first;
    for (const PictureEntry& entry : entries_) {
      const auto [place, is_new] = first.emplace(entry.sha256, &entry);
      if (!is_new) add(Problem::duplicate, entry.path, fmt::format("is the same file as {}", place->second->path));
    }
  }

  void warn_of_left_out() const {
    const std::int64_t left_out = report_.count(Problem::unreadable);
    if (left_out == 0) return;
    const auto first = std::find_if(report_.findings.begin(), report_.findings.end(),
                                    [](const Finding& f) { return f.problem == Problem::unreadable; });
    base::log_warning(fmt::format("{} of {} pictures cannot be used and are left out; the first: {}", left_out,
                                  report_.found, first->message));
  }

  void add(Problem problem, const std::string& path, const std::string& message) {
    report_.findings.push_back({problem, path, message});
  }

  const std::vector<SubsetGroup>& groups_;
  const ScanOptions& options_;
  DataReport& report_;
  std::vector<Size> sizes_;  // buckets of the group at hand
  std::vector<PictureEntry> entries_;
};

}  // namespace

std::vector<PictureEntry> scan_pictures(const std::vector<SubsetGroup>& groups, const ScanOptions& options,
                                        DataReport& report) {
  return Scanner(groups, options, report).run();
}

}  // namespace atelier::train::image
