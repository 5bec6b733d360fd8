#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "io/file_system.h"

namespace atelier::test {

/// Calls the hook before, in the middle of (writes only) and after the operations of the real file system, counting
/// these moments from 0: a hook that throws is a disk that fails there, one that raises SIGKILL a process that dies
/// there.
class InstrumentedFileSystem final : public io::FileSystem {
 public:
  enum class Kind { create, mode, write, sync, close, rename, sync_folder };
  using Hook = std::function<void(int moment, Kind kind)>;

  explicit InstrumentedFileSystem(Hook hook) : hook_(std::move(hook)) {}

  std::unique_ptr<io::OutputFile> create(const std::string& path) override {
    tick(Kind::create);
    auto file = std::make_unique<File>(*this, real_.create(path));
    return file;
  }
  std::unique_ptr<io::OutputFile> append(const std::string& path) override { return real_.append(path); }
  void set_mode(const std::string& path, unsigned mode) override {
    around(Kind::mode, [&] { real_.set_mode(path, mode); });
  }
  void rename(const std::string& from, const std::string& to) override {
    around(Kind::rename, [&] { real_.rename(from, to); });
  }
  void remove(const std::string& path) noexcept override { real_.remove(path); }
  void sync_folder(const std::string& path) override {
    around(Kind::sync_folder, [&] { real_.sync_folder(path); });
  }
  void create_folders(const std::string& path) override { real_.create_folders(path); }

  int moments() const { return moment_; }

 private:
  class File final : public io::OutputFile {
   public:
    File(InstrumentedFileSystem& owner, std::unique_ptr<io::OutputFile> real) : owner_(owner), real_(std::move(real)) {}
    void write(const void* data, std::size_t size) override {
      owner_.tick(Kind::write);
      real_->write(data, size / 2);
      owner_.tick(Kind::write);
      real_->write(static_cast<const char*>(data) + size / 2, size - size / 2);
      owner_.tick(Kind::write);
    }
    void sync() override {
      owner_.around(Kind::sync, [&] { real_->sync(); });
    }
    void close() override {
      owner_.around(Kind::close, [&] { real_->close(); });
    }

   private:
    InstrumentedFileSystem& owner_;
    std::unique_ptr<io::OutputFile> real_;
  };

  void tick(Kind kind) { hook_(moment_++, kind); }
  void around(Kind kind, const std::function<void()>& action) {
    tick(kind);
    action();
    tick(kind);
  }

  Hook hook_;
  io::FileSystem& real_ = io::file_system();
  int moment_ = 0;
};

}  // namespace atelier::test
