#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace atelier::io {

/// A file being written. Every method throws base::Error: cannot_create where it cannot be opened, io where a write,
/// sync or close fails.
class OutputFile {
 public:
  virtual ~OutputFile() = default;
  virtual void write(const void* data, std::size_t size) = 0;
  void write(std::string_view text) { write(text.data(), text.size()); }
  virtual void sync() = 0;
  virtual void close() = 0;
};

/// The operations that change the disk, replaceable in tests so that faults can be injected at each of them.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  /// Creates (exclusively) or, with `append`, opens for appending. New files get mode 0666 less the umask.
  virtual std::unique_ptr<OutputFile> create(const std::string& path) = 0;
  virtual std::unique_ptr<OutputFile> append(const std::string& path) = 0;
  /// Permission bits of a file.
  virtual void set_mode(const std::string& path, unsigned mode) = 0;
  virtual void rename(const std::string& from, const std::string& to) = 0;
  virtual void remove(const std::string& path) noexcept = 0;
  virtual void sync_folder(const std::string& path) = 0;
  virtual void create_folders(const std::string& path) = 0;
};

/// The real one, or the one set by ScopedFileSystem.
FileSystem& file_system();

class ScopedFileSystem {
 public:
  explicit ScopedFileSystem(FileSystem& replacement);
  ~ScopedFileSystem();
  ScopedFileSystem(const ScopedFileSystem&) = delete;
  ScopedFileSystem& operator=(const ScopedFileSystem&) = delete;

 private:
  FileSystem* previous_;
};

/// Writes a file whole or not at all: temporary sibling, `fill`, fsync, rename over `path`, fsync of the folder. On any
/// failure before the rename the temporary is removed and the old file stays as it was; where only the fsync of the folder
/// fails, the new file is in place whole, and the error names the folder. An existing file's permissions are kept; a
/// symbolic link is followed, so that the link stays. Device files (/dev/stdout, /dev/full) and pipes are written to
/// directly.
void write_atomically(const std::string& path, const std::function<void(OutputFile&)>& fill);
void write_atomically(const std::string& path, std::string_view bytes);

/// Whole file as a string; Error(no_input) where missing or unreadable, Error(data) above `max_bytes`.
std::string read_file(const std::string& path, std::size_t max_bytes);

}  // namespace atelier::io
