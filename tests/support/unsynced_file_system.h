#pragma once

#include <memory>
#include <string>
#include <utility>

#include "io/file_system.h"

namespace atelier::test {

/// The file system that stands when it is made, but that fsync is not waited for: a test that saves a thousand times
/// would wait minutes for the disk, and what a process that dies leaves behind does not depend on it.
class UnsyncedFileSystem final : public io::FileSystem {
 public:
  std::unique_ptr<io::OutputFile> create(const std::string& path) override {
    return std::make_unique<File>(real_.create(path));
  }
  std::unique_ptr<io::OutputFile> append(const std::string& path) override {
    return std::make_unique<File>(real_.append(path));
  }
  void set_mode(const std::string& path, unsigned mode) override { real_.set_mode(path, mode); }
  void rename(const std::string& from, const std::string& to) override { real_.rename(from, to); }
  void remove(const std::string& path) noexcept override { real_.remove(path); }
  void sync_folder(const std::string&) override {}
  void create_folders(const std::string& path) override { real_.create_folders(path); }

 private:
  class File final : public io::OutputFile {
   public:
    explicit File(std::unique_ptr<io::OutputFile> real) : real_(std::move(real)) {}
    void write(const void* data, std::size_t size) override { real_->write(data, size); }
    void sync() override {}
    void close() override { real_->close(); }

   private:
    std::unique_ptr<io::OutputFile> real_;
  };

  io::FileSystem& real_ = io::file_system();
};

}  // namespace atelier::test
