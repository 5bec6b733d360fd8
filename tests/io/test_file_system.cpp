#include "io/file_system.h"

#include <csignal>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/mapped_file.h"
#include "io/safetensors.h"
#include "io/safetensors_file.h"
#include "support/errors.h"
#include "support/instrumented_file_system.h"
#include "support/scratch.h"

using namespace atelier::io;
using namespace atelier::test;
using atelier::base::Error;
using atelier::base::ExitCode;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> entries(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  return names;
}

unsigned mode_of(const std::string& path) {
  struct stat info {};
  REQUIRE(stat(path.c_str(), &info) == 0);
  return info.st_mode & 07777u;
}

// A file of 72 tensors, each of them one write.
void write_checkpoint(const std::string& path, char fill) {
  const std::string data(300, fill);
  std::vector<TensorBytes> tensors;
  for (int i = 0; i < 72; ++i) tensors.push_back({{"tensor " + std::to_string(i), DType::U8, {300}}, as_bytes(data)});
  write_safetensors(path, tensors, {{"fill", std::string(1, fill)}});
}

bool exists(const std::string& path) { return fs::exists(fs::symlink_status(path)); }

}  // namespace

TEST_CASE("write_atomically: an operation that fails leaves the old bytes and no litter") {
  for (const bool existing : {false, true}) {
    const Scratch scratch;
    const std::string path = scratch.file("model.safetensors");
    int moments = 0;
    for (int k = 0; k == 0 || k < moments; ++k) {
      CAPTURE(existing);
      CAPTURE(k);
      fs::remove(path);
      if (existing) put_file(path, "old bytes");
      InstrumentedFileSystem::Kind failing{};
      InstrumentedFileSystem faulty([&](int moment, InstrumentedFileSystem::Kind kind) {
        using Kind = InstrumentedFileSystem::Kind;
        if (moment == k) {
          failing = kind;
          throw Error(kind == Kind::create ? ExitCode::cannot_create : ExitCode::io, "injected");
        }
      });
      {
        const ScopedFileSystem scope(faulty);
        const bool creating = k == 0;
        const std::string message =
            error_of(creating ? ExitCode::cannot_create : ExitCode::io, [&] { write_checkpoint(path, 'n'); });
        CHECK(message == "injected");
      }
      using Kind = InstrumentedFileSystem::Kind;
      const std::string now = exists(path) ? get_file(path) : "";
      const bool after_rename = failing == Kind::sync_folder || (failing == Kind::rename && now.size() > 9);
      if (after_rename) {
        CHECK(parse_safetensors(as_bytes(now), "x").tensors.size() == 72);
      } else {
        CHECK(now == (existing ? "old bytes" : ""));
      }
      CHECK(entries(scratch.path()).size() == (existing || after_rename ? 1 : 0));
      if (moments == 0) {
        InstrumentedFileSystem counting([](int, InstrumentedFileSystem::Kind) {});
        const ScopedFileSystem scope(counting);
        write_checkpoint(scratch.file("count"), 'n');
        moments = counting.moments() + (existing ? 2 : 0);
        fs::remove(scratch.file("count"));
      }
    }
    CHECK(moments > 220);
  }
}

TEST_CASE("write_atomically: the data is on the disk before the name leads to it") {
  using Kind = InstrumentedFileSystem::Kind;
  const Scratch scratch;
  std::vector<Kind> steps;
  InstrumentedFileSystem recording([&](int, Kind kind) {
    if (steps.empty() || steps.back() != kind) steps.push_back(kind);
  });
  const ScopedFileSystem scope(recording);
  write_atomically(scratch.file("x"), "new");
  CHECK((steps == std::vector{Kind::create, Kind::write, Kind::sync, Kind::close, Kind::rename, Kind::sync_folder}));
  steps.clear();
  write_atomically(scratch.file("x"), "newer");  // its permissions before its first byte
  CHECK((steps ==
         std::vector{Kind::create, Kind::mode, Kind::write, Kind::sync, Kind::close, Kind::rename, Kind::sync_folder}));
}

TEST_CASE("write_atomically: SIGKILL at every point of the write path leaves the old or the new file, bit for bit") {
  const Scratch scratch;
  const std::string path = scratch.file("model.safetensors");
  write_checkpoint(path, 'n');
  const std::string new_bytes = get_file(path);
  write_checkpoint(path, 'o');
  const std::string old_bytes = get_file(path);
  int killed = 0, kept_old = 0, got_new = 0;
  for (bool done = false; !done; ++killed) {
    put_file(path, old_bytes);
    const pid_t child = fork();
    if (child == 0) {
      InstrumentedFileSystem deadly([&](int moment, InstrumentedFileSystem::Kind) {
        if (moment == killed) raise(SIGKILL);
      });
      const ScopedFileSystem scope(deadly);
      write_checkpoint(path, 'n');
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    done = WIFEXITED(status);
    const std::string now = get_file(path);
    kept_old += now == old_bytes;
    got_new += now == new_bytes;
    CHECK((now == old_bytes || now == new_bytes));
  }
  CHECK(killed > 220);
  CHECK(kept_old > 200);
  CHECK(got_new >= 4);          // after the rename, around the folder's sync, at the end
  write_checkpoint(path, 'n');  // what the dead left behind is in nobody's way
  CHECK(get_file(path) == new_bytes);
}

TEST_CASE("write_atomically: SIGKILL at random moments") {
  const Scratch scratch;
  const std::string path = scratch.file("model.safetensors");
  std::map<std::string, char> versions;
  for (const char fill : {'a', 'b'}) {
    write_checkpoint(path, fill);
    versions[get_file(path)] = fill;
  }
  std::mt19937 random(7);
  for (int round = 0; round < 40; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      for (char fill = 'a';; fill = fill == 'a' ? 'b' : 'a') write_checkpoint(path, fill);
    }
    usleep(500 + random() % 8000);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    CHECK(versions.contains(get_file(path)));
  }
}

TEST_CASE("write_atomically: permissions") {
  const Scratch scratch;
  const std::string path = scratch.file("x");
  const mode_t before = umask(027);
  write_atomically(path, "1");
  CHECK(mode_of(path) == 0640);
  for (const mode_t mode : {0600, 0444, 0755, 0666}) {
    chmod(path.c_str(), mode);
    write_atomically(path, "2");
    CHECK(mode_of(path) == mode);
  }
  umask(before);
}

TEST_CASE("write_atomically: symbolic links are followed") {
  const Scratch scratch;
  fs::create_directory(scratch.path() / "sub");
  put_file(scratch.file("sub/real"), "old");
  fs::create_symlink("sub/real", scratch.file("link"));
  fs::create_symlink(scratch.file("link"), scratch.file("outer"));
  write_atomically(scratch.file("outer"), "new");
  CHECK(fs::is_symlink(scratch.file("link")));
  CHECK(fs::is_symlink(scratch.file("outer")));
  CHECK(get_file(scratch.file("sub/real")) == "new");
  fs::create_symlink("sub/later", scratch.file("dangling"));
  write_atomically(scratch.file("dangling"), "made");
  CHECK(get_file(scratch.file("sub/later")) == "made");
  fs::create_symlink("loop", scratch.file("loop"));
  CHECK(contains(error_of(ExitCode::cannot_create, [&] { write_atomically(scratch.file("loop"), "x"); }),
                 "too many symbolic"));
  CHECK(entries(scratch.path() / "sub").size() == 2);
}

TEST_CASE("write_atomically: what cannot be created is exit 73") {
  const Scratch scratch;
  const auto attempt = [](const std::string& path) {
    return error_of(ExitCode::cannot_create, [&] { write_atomically(path, "x"); });
  };
  CHECK(contains(attempt(scratch.path()), "is a folder"));
  CHECK(attempt(scratch.file("none/x")) == scratch.file("none/x") + ": cannot create: No such file or directory");
  CHECK(contains(attempt(""), "is not a file name"));
  CHECK(contains(attempt(scratch.file("sub/")), "is not a file name"));
  put_file(scratch.file("file"), "");
  CHECK(contains(attempt(scratch.file("file/x")), "Not a directory"));
  CHECK(contains(attempt(scratch.file(std::string(256, 'x'))), "File name too long"));
  CHECK(contains(attempt("/proc/none"), "cannot create"));
  const std::string longest = scratch.file(std::string(255, 'y'));
  write_atomically(longest, "x");
  CHECK(get_file(longest) == "x");
}

TEST_CASE("write_atomically: a full disk is exit 74, also behind a link") {
  const Scratch scratch;
  CHECK(error_of(ExitCode::io, [] { write_atomically("/dev/full", "x"); }) ==
        "/dev/full: cannot write: No space left on device");
  fs::create_symlink("/dev/full", scratch.file("link"));
  CHECK(contains(error_of(ExitCode::io, [&] { write_atomically(scratch.file("link"), "x"); }), "No space left"));
  CHECK(fs::is_character_file("/dev/full"));
  write_atomically("/dev/null", "x");
  CHECK(fs::is_character_file("/dev/null"));
}

TEST_CASE("write_atomically: a file size limit met in the middle leaves the old file") {
  const Scratch scratch;
  const std::string path = scratch.file("x");
  put_file(path, "old");
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 20, 1 << 20};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_atomically(path, std::string(2 << 20, 'n'));
    } catch (const Error& error) {
      _exit(std::string(error.what()) == path + ": cannot write: File too large" ? static_cast<int>(error.code()) : 1);
    }
    _exit(2);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WEXITSTATUS(status) == 74);
  CHECK(get_file(path) == "old");
  CHECK(entries(scratch.path()).size() == 1);
}

TEST_CASE("write_atomically: pipes and open descriptors are written to directly") {
  const Scratch scratch;
  const std::string fifo = scratch.file("fifo");
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  std::string got;
  std::thread reader([&] { got = get_file(fifo); });
  write_atomically(fifo, "through the pipe");
  reader.join();
  CHECK(got == "through the pipe");
  CHECK(fs::is_fifo(fifo));

  put_file(scratch.file("out"), "before ");
  const int fd = open(scratch.file("out").c_str(), O_WRONLY);
  write_atomically("/dev/fd/" + std::to_string(fd), "after");  // as a shell's `tool -o /dev/stdout >> out`
  write_atomically("/proc/self/fd/" + std::to_string(fd), "!");
  fs::create_symlink("/proc/self/fd/" + std::to_string(fd), scratch.file("stdout"));  // what /dev/stdout is
  write_atomically(scratch.file("stdout"), "!");
  close(fd);
  CHECK(get_file(scratch.file("out")) == "before after!!");
  CHECK(entries(scratch.path()).size() == 3);
}

TEST_CASE("file system: append, folders, read_file") {
  const Scratch scratch;
  file_system().create_folders(scratch.file("a/b/c"));
  file_system().create_folders(scratch.file("a/b/c"));
  CHECK(fs::is_directory(scratch.file("a/b/c")));
  put_file(scratch.file("f"), "x");
  CHECK(contains(error_of(ExitCode::cannot_create, [&] { file_system().create_folders(scratch.file("f/g")); }), "f/g"));
  CHECK(contains(error_of(ExitCode::cannot_create, [&] { file_system().create_folders(scratch.file("f")); }), "f: "));
  for (int i = 0; i < 2; ++i) {
    const auto file = file_system().append(scratch.file("f"));
    file->write("yz");
    file->sync();
    file->close();
    file->close();
  }
  CHECK(read_file(scratch.file("f"), 5) == "xyzyz");
  CHECK(contains(error_of(ExitCode::data, [&] { read_file(scratch.file("f"), 4); }), "larger than 4 bytes"));
  CHECK(contains(error_of(ExitCode::no_input, [&] { read_file(scratch.file("g"), 4); }), "No such file"));
  CHECK(contains(error_of(ExitCode::no_input, [&] { read_file(scratch.path(), 4); }), "Is a directory"));
  CHECK(contains(error_of(ExitCode::data, [] { read_file("/dev/zero", 1000); }), "larger than 1000 bytes"));
  CHECK(contains(error_of(ExitCode::cannot_create, [&] { file_system().create(scratch.file("f")); }), "File exists"));
}

TEST_CASE("MappedFile") {
  const Scratch scratch;
  put_file(scratch.file("f"), "abc");
  CHECK(MappedFile::open(scratch.file("f"))->bytes().size() == 3);
  CHECK(MappedFile::open(scratch.file("f"))->bytes()[2] == std::byte{'c'});
  put_file(scratch.file("empty"), "");
  CHECK(MappedFile::open(scratch.file("empty"))->bytes().empty());
  const auto refused = [](const std::string& path) {
    return error_of(ExitCode::no_input, [&] { MappedFile::open(path); });
  };
  CHECK(contains(refused(scratch.file("none")), "none: No such file"));
  CHECK(contains(refused(scratch.path()), "is a folder"));
  REQUIRE(mkfifo(scratch.file("fifo").c_str(), 0600) == 0);
  CHECK(contains(refused(scratch.file("fifo")), "is not a regular file"));
  CHECK(contains(refused("/dev/zero"), "is not a regular file"));
}
