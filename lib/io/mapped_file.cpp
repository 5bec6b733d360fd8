#include "io/mapped_file.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

namespace atelier::io {
namespace {

base::Error unreadable(const std::string& path, const std::string& why) {
  return base::Error(base::ExitCode::no_input, fmt::format("{}: {}", path, why));
}

/// Where the files lie that are mapped now, by their first byte.
struct Mappings {
  std::mutex mutex;
  std::map<const std::byte*, const MappedFile*> files;
};

Mappings& mappings() {
  static auto* all = new Mappings;  // never destroyed: files may be unmapped by destructors of statics
  return *all;
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  // Without O_NONBLOCK a named pipe would wait here for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw unreadable(path, std::generic_category().message(errno));
  struct stat info {};
  void* data = nullptr;
  std::string trouble;
  if (::fstat(fd, &info) != 0) {
    trouble = std::generic_category().message(errno);
  } else if (!S_ISREG(info.st_mode)) {
    trouble = S_ISDIR(info.st_mode) ? "is a folder" : "is not a regular file";
  } else if (info.st_size > 0) {
    data = ::mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) trouble = std::generic_category().message(errno);
  }
  ::close(fd);
  if (!trouble.empty()) throw unreadable(path, trouble);
  std::shared_ptr<const MappedFile> file(new MappedFile(path, data, static_cast<std::size_t>(info.st_size)));
  const std::lock_guard lock(mappings().mutex);
  if (data != nullptr) mappings().files.emplace(file->bytes().data(), file.get());
  return file;
}

void MappedFile::release(std::size_t begin, std::size_t end) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  begin = (begin + page - 1) / page * page;
  end = std::min(end, size_) / page * page;
  if (begin < end) ::madvise(static_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

void MappedFile::release_memory(const void* data, std::size_t bytes) {
  const auto* begin = static_cast<const std::byte*>(data);
  const std::lock_guard lock(mappings().mutex);
  const auto& files = mappings().files;
  auto place = files.upper_bound(begin);
  if (place == files.begin()) return;
  const MappedFile& file = *(--place)->second;
  const auto at = static_cast<std::size_t>(begin - place->first);
  if (at < file.size_) file.release(at, at + bytes);
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  const std::lock_guard lock(mappings().mutex);
  mappings().files.erase(static_cast<const std::byte*>(data_));
  ::munmap(data_, size_);
}

}  // namespace atelier::io
