#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "io/safetensors_file.h"
#include "io/weight_source.h"
#include "support/errors.h"
#include "support/scratch.h"

using namespace atelier::io;
using namespace atelier::test;
using atelier::base::ExitCode;
using atelier::base::Json;
namespace fs = std::filesystem;

namespace {

const std::string kHash(64, 'a');

// The names of the files in some folders that were opened since the watch began.
class OpenWatch {
 public:
  explicit OpenWatch(const std::vector<fs::path>& folders) : fd_(inotify_init1(IN_NONBLOCK)) {
    REQUIRE(fd_ >= 0);
    for (const fs::path& folder : folders) {
      if (fs::is_directory(folder)) REQUIRE(inotify_add_watch(fd_, folder.c_str(), IN_OPEN | IN_ACCESS) >= 0);
    }
  }
  ~OpenWatch() { close(fd_); }

  std::vector<std::string> opened() const {
    std::vector<std::string> names;
    alignas(inotify_event) char block[1 << 14];
    for (ssize_t got; (got = read(fd_, block, sizeof block)) > 0;) {
      for (const char* at = block; at < block + got;) {
        const auto* event = reinterpret_cast<const inotify_event*>(at);
        const std::string name = event->len > 0 ? event->name : "";
        if (!(event->mask & IN_ISDIR) && !name.ends_with("index.json")) names.push_back(name);
        at += sizeof(inotify_event) + event->len;
      }
    }
    return names;
  }

 private:
  int fd_;
};

std::string one_tensor() { return safetensors_file(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4); }

void write_index(const fs::path& folder, const std::string& shard) {
  Json index;
  index["weight_map"]["t"] = shard;
  put_file(folder / "model.safetensors.index.json", index.dump());
}

// root/model is the folder that is opened; root/outside holds a valid file that no shard name may reach.
struct Layout {
  Scratch scratch;
  fs::path folder = scratch.path() / "model", outside = scratch.path() / "outside", inner = folder / "inner";

  Layout() {
    for (const fs::path& path : {folder, outside, inner}) fs::create_directory(path);
    for (const fs::path& path : {folder / "good.safetensors", outside / "secret.safetensors", outside / kHash,
                                 inner / "deep.safetensors", folder / ".hidden.safetensors", folder / "weights.bin"}) {
      put_file(path, one_tensor());
    }
  }

  std::string attempt(const std::string& shard, ExitCode code = ExitCode::data) {
    write_index(folder, shard);
    const OpenWatch watch({folder, outside, inner, scratch.path(), scratch.path() / "blobs"});
    const std::string message = error_of(code, [&] { WeightSource::open(folder); });
    CHECK(watch.opened().empty());
    return message;
  }
};

// A hub cache: models--x/blobs/HASH and models--x/snapshots/REV/[sub/]NAME -> ../../blobs/HASH.
struct HubCache {
  Scratch scratch;
  fs::path root = scratch.path() / "models--x", blobs = root / "blobs", snapshot = root / "snapshots" / "0123abc";

  HubCache() {
    fs::create_directories(blobs);
    fs::create_directories(snapshot / "unet");
    put_file(blobs / kHash, one_tensor());
    put_file(blobs / "readme", one_tensor());
  }

  std::string attempt(const fs::path& folder, const std::string& link) {
    fs::remove(folder / "shard.safetensors");
    fs::create_symlink(link, folder / "shard.safetensors");
    write_index(folder, "shard.safetensors");
    return error_of(ExitCode::data, [&] { WeightSource::open(folder); });
  }
};

}  // namespace

TEST_CASE("shards: the watch sees a file that is opened") {
  Layout layout;
  write_index(layout.folder, "good.safetensors");
  const OpenWatch watch({layout.folder});
  CHECK(WeightSource::open(layout.folder)->has("t"));
  CHECK(watch.opened() == std::vector<std::string>{"good.safetensors"});
}

TEST_CASE("shards: names that are no plain file names are refused and nothing is opened") {
  Layout layout;
  using namespace std::string_literals;
  const std::string secret = (layout.outside / "secret.safetensors").native();
  const std::vector<std::pair<std::string, const char*>> tricks{
      {"../outside/secret.safetensors", "is a path"},
      {"./good.safetensors", "is a path"},
      {"inner/deep.safetensors", "is a path"},
      {"inner/../good.safetensors", "is a path"},
      {"good.safetensors/", "is a path"},
      {"inner//deep.safetensors", "is a path"},
      {secret, "is a path"},
      {"/etc/passwd", "is a path"},
      {"//etc/passwd", "is a path"},
      {"file:///etc/passwd", "is a path"},
      {"..\\outside\\secret.safetensors", "is a path"},
      {"C:\\secret.safetensors", "is a path"},
      {"..", "starts with a dot"},
      {".", "starts with a dot"},
      {".hidden.safetensors", "starts with a dot"},
      {".safetensors", "starts with a dot"},
      {"..safetensors", "starts with a dot"},
      {"", "is not a file name"},
      {std::string(256, 'x') + ".safetensors", "is not a file name"},
      {"good.safetensors\0.safetensors"s, "control character"},
      {"good.safetensors\0"s, "control character"},
      {"good\n.safetensors", "control character"},
      {"\x1b[2Jgood.safetensors", "control character"},
      {"weights.bin", "does not end in .safetensors"},
      {"inner", "does not end in .safetensors"},
      {"good.safetensors ", "does not end in .safetensors"},
      {"good.SAFETENSORS", "does not end in .safetensors"},
  };
  for (const auto& [shard, why] : tricks) {
    const std::string message = layout.attempt(shard);
    CAPTURE(message);
    CHECK(contains(message, why));
    CHECK(message.find_first_of("\n\x1b") == std::string::npos);
  }
  CHECK(tricks.size() >= 20);
}

TEST_CASE("shards: one bad name among good ones is enough, wherever it stands") {
  Layout layout;
  for (const bool bad_first : {false, true}) {
    Json index;
    index["weight_map"]["t"] = bad_first ? "../outside/secret.safetensors" : "good.safetensors";
    index["weight_map"]["u"] = bad_first ? "good.safetensors" : "../outside/secret.safetensors";
    put_file(layout.folder / "model.safetensors.index.json", index.dump());
    const OpenWatch watch({layout.folder, layout.outside});
    CHECK(contains(error_of(ExitCode::data, [&] { WeightSource::open(layout.folder); }), "is a path"));
    CHECK(watch.opened().empty());
  }
}

TEST_CASE("shards: symbolic links that leave the folder are refused and nothing is opened") {
  Layout layout;
  const fs::path link = layout.folder / "link.safetensors";
  const auto attempt = [&](const fs::path& target, ExitCode code = ExitCode::data) {
    fs::remove(link);
    fs::create_symlink(target, link);
    return layout.attempt("link.safetensors", code);
  };
  fs::create_directory(layout.scratch.path() / "blobs");
  put_file(layout.scratch.path() / "blobs" / kHash, one_tensor());
  fs::create_symlink("/etc", layout.folder / "etc");
  fs::create_symlink("../outside", layout.folder / "out");
  fs::create_symlink("../outside/secret.safetensors", layout.folder / "hop.safetensors");
  for (const fs::path& target :
       std::vector<fs::path>{"../outside/secret.safetensors", layout.outside / "secret.safetensors", "/etc/passwd",
                             "etc/passwd", "out/secret.safetensors", "hop.safetensors", "inner/deep.safetensors",
                             "inner/../../outside/secret.safetensors", "../blobs/" + kHash,
                             "../model/../blobs/" + kHash, "../outside/" + kHash, "/proc/self/environ", "/dev/zero"}) {
    CAPTURE(target);
    CHECK(contains(attempt(target), "is a symbolic link that leaves the folder"));
  }
  CHECK(contains(attempt("nowhere", ExitCode::no_input), "is a broken link"));
  CHECK(contains(attempt("link.safetensors", ExitCode::no_input), "is a broken link"));
}

TEST_CASE("shards: a link inside the folder is fine; a missing shard, a folder and a pipe are not") {
  Layout layout;
  fs::create_symlink("good.safetensors", layout.folder / "alias.safetensors");
  write_index(layout.folder, "alias.safetensors");
  CHECK(WeightSource::open(layout.folder)->has("t"));
  const auto missing = [&](const std::string& name) { return layout.attempt(name, ExitCode::no_input); };
  CHECK(contains(missing("none.safetensors"), "the shard \"none.safetensors\" is missing"));
  fs::create_directory(layout.folder / "dir.safetensors");
  CHECK(contains(missing("dir.safetensors"), "is a folder"));
  REQUIRE(mkfifo((layout.folder / "pipe.safetensors").c_str(), 0600) == 0);
  write_index(layout.folder, "pipe.safetensors");
  CHECK(contains(error_of(ExitCode::no_input, [&] { WeightSource::open(layout.folder); }), "is not a regular file"));
}

TEST_CASE("shards: the links of a Hugging Face hub cache are followed, and only those") {
  HubCache cache;
  CHECK(cache.attempt(cache.snapshot, "../../blobs/" + kHash) == "(no error)");
  CHECK(cache.attempt(cache.snapshot / "unet", "../../../blobs/" + kHash) == "(no error)");
  put_file(cache.blobs / std::string(40, '7'), one_tensor());
  CHECK(cache.attempt(cache.snapshot, "../../blobs/" + std::string(40, '7')) == "(no error)");
  const fs::path through = cache.scratch.path() / "through";  // the folder itself reached by a link
  fs::create_directory_symlink(cache.snapshot, through);
  CHECK(WeightSource::open(through)->has("t"));

  fs::create_directories(cache.root / "elsewhere");
  put_file(cache.root / "elsewhere" / kHash, one_tensor());
  put_file(cache.root / kHash, one_tensor());
  put_file(cache.scratch.path() / "blobs", "");
  fs::create_symlink("../elsewhere/" + kHash, cache.blobs / std::string(64, 'b'));
  fs::create_directories(cache.scratch.path() / "blobs2");
  for (const std::string& link : std::vector<std::string>{
           "../../blobs/readme",                                                        // no hash
           "../../elsewhere/" + kHash,                                                  // another folder
           "../../blobs/../" + kHash,                                                   // climbs out of blobs
           "../../blobs/../elsewhere/" + kHash, "../../blobs/" + std::string(64, 'b'),  // a blob that is a link itself
           "../.././blobs/" + kHash,                                                    // not as the cache writes it
           "../../blobs//" + kHash,
           (cache.blobs / kHash).native(),  // absolute
           "../0123abc/../../blobs/" + kHash}) {
    CAPTURE(link);
    CHECK(contains(cache.attempt(cache.snapshot, link), "is a symbolic link that leaves the folder"));
  }
  fs::create_directories(cache.root / "other" / "0123abc");  // the same shape, but not below snapshots/
  CHECK(contains(cache.attempt(cache.root / "other" / "0123abc", "../../blobs/" + kHash), "leaves the folder"));
  fs::rename(cache.blobs, cache.root / "real");  // blobs is a link to another folder
  fs::create_directory_symlink("real", cache.blobs);
  CHECK(contains(cache.attempt(cache.snapshot, "../../blobs/" + kHash), "leaves the folder"));
}

TEST_CASE("shards: a hostile index is refused") {
  Layout layout;
  const auto attempt = [&](const std::string& text) {
    put_file(layout.folder / "model.safetensors.index.json", text);
    const OpenWatch watch({layout.folder, layout.outside});
    const std::string message = error_of(ExitCode::data, [&] { WeightSource::open(layout.folder); });
    CHECK(watch.opened().empty());
    return message;
  };
  for (const char* text :
       {"[]", "null", "1", "{}", R"({"weight_map":null})", R"({"weight_map":[]})", R"({"weight_map":{}})",
        R"({"weight_map":"good.safetensors"})", R"({"metadata":{"weight_map":{"t":"good.safetensors"}}})"}) {
    CAPTURE(text);
    CHECK(contains(attempt(text), "expected an object with a \"weight_map\""));
  }
  CHECK(contains(attempt(R"({"weight_map":{"t":1}})"), "the file of tensor \"t\" is not a string"));
  CHECK(contains(attempt(R"({"weight_map":{"t":["good.safetensors"]}})"), "is not a string"));
  CHECK(contains(attempt(R"({"weight_map":{"t":null}})"), "is not a string"));
  CHECK(contains(attempt(""), "malformed JSON"));
  CHECK(contains(attempt(std::string(512'000, '[')), "nested more than"));
  CHECK(
      contains(attempt(R"({"weight_map":{"t":"good.safetensors","t":"good.safetensors"}})"), "key \"t\" stands twice"));
  CHECK(contains(attempt(R"({"weight_map":{"t":"good.safetensors"},"weight_map":{}})"),
                 "key \"weight_map\" stands twice"));

  put_file(layout.folder / "model.safetensors.index.json",
           R"({"weight_map":{"t":"good.safetensors","x":"good.safetensors"}})");
  CHECK(contains(error_of(ExitCode::data, [&] { WeightSource::open(layout.folder); }),
                 "tensor \"x\", which the index places"));
  put_file(layout.folder / "bad.safetensors", one_tensor() + "x");
  write_index(layout.folder, "bad.safetensors");
  CHECK(contains(error_of(ExitCode::data, [&] { WeightSource::open(layout.folder); }),
                 "bad.safetensors: the tensors end at"));
}
