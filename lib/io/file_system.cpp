#include "io/file_system.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/seed.h"

namespace atelier::io {
namespace {

using base::Error;
using base::ExitCode;

[[noreturn]] void fail(ExitCode code, const std::string& path, const char* what) {
  const int number = errno;
  throw Error(code, fmt::format("{}: {}: {}", path, what, std::generic_category().message(number)));
}

// Pipes, terminals and some network file systems have no fsync; that is no failure to write.
bool cannot_sync(int number) { return number == EINVAL || number == ENOTSUP || number == EROFS; }

class PosixFile final : public OutputFile {
 public:
  PosixFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  ~PosixFile() override {
    if (fd_ >= 0) ::close(fd_);
  }

  void write(const void* data, std::size_t size) override {
    const char* bytes = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t put = ::write(fd_, bytes, std::min(size, std::size_t{1} << 30));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) fail(ExitCode::io, path_, "cannot write");
      bytes += put;
      size -= static_cast<std::size_t>(put);
    }
  }

  void sync() override {
    if (::fsync(fd_) != 0 && !cannot_sync(errno)) fail(ExitCode::io, path_, "cannot sync");
  }

  void close() override {
    if (fd_ >= 0 && ::close(std::exchange(fd_, -1)) != 0) fail(ExitCode::io, path_, "cannot close");
  }

 private:
  std::string path_;
  int fd_;
};

class PosixFileSystem final : public FileSystem {
 public:
  std::unique_ptr<OutputFile> create(const std::string& path) override { return open(path, O_CREAT | O_EXCL); }
  std::unique_ptr<OutputFile> append(const std::string& path) override { return open(path, O_CREAT | O_APPEND); }

  void set_mode(const std::string& path, unsigned mode) override {
    if (::chmod(path.c_str(), mode) != 0) fail(ExitCode::cannot_create, path, "cannot set its permissions");
  }

  void rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) fail(ExitCode::io, to, "cannot put the file in place");
  }

  void remove(const std::string& path) noexcept override { ::unlink(path.c_str()); }

  void sync_folder(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
      if (errno == EACCES) return;  // a folder that may be written but not read
      fail(ExitCode::io, path, "cannot open the folder");
    }
    const bool synced = ::fsync(fd) == 0 || cannot_sync(errno);
    const int number = errno;
    ::close(fd);
    errno = number;
    if (!synced) fail(ExitCode::io, path, "cannot sync the folder");
  }

  void create_folders(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error)
      throw Error(ExitCode::cannot_create, fmt::format("{}: cannot create the folder: {}", path, error.message()));
    if (!std::filesystem::is_directory(path, error)) {
      throw Error(ExitCode::cannot_create, fmt::format("{}: is not a folder", path));
    }
  }

 private:
  static std::unique_ptr<OutputFile> open(const std::string& path, int flags) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0666);
    if (fd < 0) fail(ExitCode::cannot_create, path, "cannot create");
    return std::make_unique<PosixFile>(path, fd);
  }
};

PosixFileSystem& posix_file_system() {
  static PosixFileSystem instance;
  return instance;
}

FileSystem*& current() {
  static FileSystem* instance = &posix_file_system();
  return instance;
}

struct Target {
  std::filesystem::path path;
  bool direct = false;  // a device or a pipe: nothing to replace
  bool exists = false;
  unsigned mode = 0;  // permissions of the file that is there
};

// /dev/stdout leads here. The descriptor may belong to a regular file, but that is open already and must stay.
bool names_descriptor(const std::string& name) {
  return name.starts_with("/dev/fd/") || (name.starts_with("/proc/") && name.find("/fd/") != std::string::npos);
}

// Follows symbolic links to the file that shall be replaced, which need not exist yet.
Target resolve(const std::string& path) {
  Target target{path};
  for (int hops = 0; hops < 40; ++hops) {
    const std::string& name = target.path.native();
    target.direct = names_descriptor(name);
    if (target.direct) return target;
    struct stat info {};
    if (::lstat(name.c_str(), &info) != 0) {
      if (errno != ENOENT) fail(ExitCode::cannot_create, path, "cannot create");
      return target;
    }
    if (S_ISDIR(info.st_mode)) throw Error(ExitCode::cannot_create, fmt::format("{}: is a folder", path));
    if (!S_ISLNK(info.st_mode)) {
      target.exists = S_ISREG(info.st_mode);
      target.direct = !target.exists;
      target.mode = info.st_mode & 0777u;
      return target;
    }
    std::error_code error;
    const std::filesystem::path link = std::filesystem::read_symlink(target.path, error);
    if (error) throw Error(ExitCode::cannot_create, fmt::format("{}: {}", path, error.message()));
    target.path = target.path.parent_path() / link;  // an absolute link replaces the folder
  }
  throw Error(ExitCode::cannot_create, fmt::format("{}: too many symbolic links", path));
}

// A name in the same folder that no other process picks, short enough where the final name has the longest length allowed.
std::filesystem::path temporary_sibling(const std::filesystem::path& path) {
  return path.parent_path() / fmt::format(".{}.{:x}.tmp", path.filename().native().substr(0, 100), base::draw_seed());
}

std::string folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path().native() : ".";
}

void write_directly(const std::string& path, const std::function<void(OutputFile&)>& fill) {
  const std::unique_ptr<OutputFile> file = file_system().append(path);
  fill(*file);
  file->close();
}

void discard(FileSystem& fs, std::unique_ptr<OutputFile>& file, const std::string& temporary) {
  if (!file) return;  // it was never made
  file.reset();
  fs.remove(temporary);
}

// The user knows the file by its own name, not by the temporary one.
void rethrow_naming(const std::string& path, const std::string& temporary, const Error& error) {
  const std::string_view message = error.what();
  if (!message.starts_with(temporary)) return;
  throw Error(error.code(), path + std::string(message.substr(temporary.size())), error.hint());
}

}  // namespace

FileSystem& file_system() { return *current(); }

ScopedFileSystem::ScopedFileSystem(FileSystem& replacement) : previous_(std::exchange(current(), &replacement)) {}
ScopedFileSystem::~ScopedFileSystem() { current() = previous_; }

void write_atomically(const std::string& path, const std::function<void(OutputFile&)>& fill) {
  const Target target = resolve(path);
  if (target.direct) return write_directly(path, fill);
  if (!target.path.has_filename()) throw Error(ExitCode::cannot_create, fmt::format("\"{}\" is not a file name", path));

  FileSystem& fs = file_system();
  const std::string temporary = temporary_sibling(target.path).native();
  std::unique_ptr<OutputFile> file;
  try {
    file = fs.create(temporary);
    if (target.exists) fs.set_mode(temporary, target.mode);
    fill(*file);
    file->sync();
    file->close();
    fs.rename(temporary, target.path.native());
  } catch (const Error& error) {
    discard(fs, file, temporary);
    rethrow_naming(path, temporary, error);
    throw;
  } catch (...) {
    discard(fs, file, temporary);
    throw;
  }
  fs.sync_folder(folder_of(target.path));
}

void write_atomically(const std::string& path, std::string_view bytes) {
  write_atomically(path, [&](OutputFile& file) { file.write(bytes); });
}

std::string read_file(const std::string& path, std::size_t max_bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(ExitCode::no_input, path, "cannot open");
  PosixFile closer(path, fd);
  std::string bytes;
  struct stat info {};
  if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
    bytes.reserve(std::min(static_cast<std::size_t>(info.st_size), max_bytes));
  }
  while (true) {
    char block[1 << 16];
    const ssize_t got = ::read(fd, block, sizeof block);
    if (got == 0) return bytes;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(ExitCode::no_input, path, "cannot read");
    bytes.append(block, static_cast<std::size_t>(got));
    if (bytes.size() > max_bytes) throw Error(ExitCode::data, fmt::format("{}: larger than {} bytes", path, max_bytes));
  }
}

}  // namespace atelier::io
