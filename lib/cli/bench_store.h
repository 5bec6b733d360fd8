#pragma once

#include <optional>
#include <set>
#include <string>

#include "base/json.h"
#include "image/image.h"
#include "image/metadata.h"

namespace atelier::cli {

/// What a comparison has made so far, in its output folder: pictures and their records, and figures, each in a file whose name is
/// the hash of what it was made from. Whatever stops a run, what is there is whole, and the same command does not make it again.
///
///     pictures/KEY.png     made from model, settings, prompt and seed
///     jobs/KEY.json        its record, written after the picture
///     figures/KEY.json     a figure, of weights, pictures and reference
class BenchStore {
 public:
  /// Makes the folders. `fresh`: what is there counts as not made. Error(cannot_create).
  BenchStore(std::string folder, bool fresh);

  /// Hash of a description: of its text, with the keys in their order.
  static std::string key(const base::Json& description);

  /// The record of a picture that is there, whole and unchanged; else nothing.
  std::optional<base::Json> job(const std::string& key) const;
  /// Writes the picture, then its record with "picture" and "sha256" added; gives the record.
  base::Json put_job(const std::string& key, const image::Image& picture, const image::Metadata& text,
                     base::Json record);

  std::optional<base::Json> figure(const std::string& key) const;
  void put_figure(const std::string& key, const base::Json& record);

  /// Where a record's picture lies (the record says it relative to the folder).
  std::string picture_path(const base::Json& record) const;
  const std::string& folder() const { return folder_; }

 private:
  std::optional<base::Json> read(const std::string& path) const;
  std::string folder_;
  bool fresh_;
  std::set<std::string> made_;  ///< keys of this run's jobs: rows may share a picture
};

}  // namespace atelier::cli
