#include "io/mapped_file.h"

#include <algorithm>
#include <cerrno>
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
  return std::shared_ptr<const MappedFile>(new MappedFile(path, data, static_cast<std::size_t>(info.st_size)));
}

void MappedFile::release(std::size_t begin, std::size_t end) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  begin = (begin + page - 1) / page * page;
  end = std::min(end, size_) / page * page;
  if (begin < end) ::madvise(static_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace atelier::io
