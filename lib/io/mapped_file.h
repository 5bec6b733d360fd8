#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace atelier::io {

/// A regular file mapped read-only (MAP_PRIVATE): opening costs nothing, pages come in as they are touched, and the
/// kernel can drop them again.
class MappedFile {
 public:
  /// Error(no_input): missing, unreadable, a folder. An empty file maps to an empty span.
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  const std::string& path() const { return path_; }

  /// Drops the pages that lie wholly in [begin, end) from this process; they come in again when they are touched.
  void release(std::size_t begin, std::size_t end) const;

  /// The same for memory that lies in some mapped file; nothing happens to other memory.
  static void release_memory(const void* data, std::size_t bytes);

 private:
  MappedFile(std::string path, void* data, std::size_t size) : path_(std::move(path)), data_(data), size_(size) {}

  std::string path_;
  void* data_;
  std::size_t size_;
};

}  // namespace atelier::io
