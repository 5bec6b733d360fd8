#include "base/sha256.h"

#include <array>
#include <cerrno>
#include <memory>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "base/error.h"
#include "base/stop.h"

namespace atelier::base {
namespace {

class Digest {
 public:
  Digest() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    check(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }

  void update(const void* data, std::size_t size) { check(EVP_DigestUpdate(context_.get(), data, size) == 1); }

  std::string hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes;
    unsigned int size = 0;
    check(EVP_DigestFinal_ex(context_.get(), bytes.data(), &size) == 1);
    std::string text;
    for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", bytes[i]);
    return text;
  }

 private:
  static void check(bool ok) {
    if (!ok) throw Error(ExitCode::internal, "SHA-256 is not available in this build of OpenSSL");
  }

  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

[[noreturn]] void fail(ExitCode code, const std::string& path) {
  throw Error(code, fmt::format("{}: {}", path, std::generic_category().message(errno)));
}

}  // namespace

std::string sha256_hex(std::string_view bytes) {
  Digest digest;
  digest.update(bytes.data(), bytes.size());
  return digest.hex();
}

std::string sha256_file(const std::string& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) fail(ExitCode::no_input, path);
  Digest digest;
  std::vector<char> block(1 << 20);
  while (true) {
    throw_if_stopped();
    const ssize_t got = ::read(file.fd, block.data(), block.size());
    if (got == 0) return digest.hex();
    if (got > 0) {
      digest.update(block.data(), static_cast<std::size_t>(got));
    } else if (errno != EINTR) {
      fail(errno == EISDIR ? ExitCode::no_input : ExitCode::io, path);
    }
  }
}

}  // namespace atelier::base
