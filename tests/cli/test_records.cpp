// Order, files and resumption of a batch's records (cli/records.h).
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <csignal>
#include <filesystem>

#include "base/json.h"
#include "base/stop.h"
#include "cli/records.h"
#include "support/process.h"

using namespace atelier::test;
using atelier::base::Error;
using atelier::base::ExitCode;
using atelier::base::Json;
namespace base = atelier::base;
namespace cli = atelier::cli;
namespace io = atelier::io;

namespace {

Json rec(const Json& id, int index = 0, int value = 0) { return {{"id", id}, {"index", index}, {"v", value}}; }

std::string lines(const std::vector<Json>& records) {
  std::string text;
  for (const Json& r : records) text += r.dump() + "\n";
  return text;
}

Result batch(std::vector<std::string> args, Process rest = {}) {
  rest.program = tool("cli-test-tool");
  rest.args = std::move(args);
  rest.args.push_back("--quiet");
  return run(rest);
}

std::string jobs_of(int n, const std::string& more = "") {
  std::string text;
  for (int i = 0; i < n; ++i)
    text += "{\"id\":\"j" + std::to_string(i) + "\",\"prompt\":\"p" + std::to_string(i) + "\"" + more + "}\n";
  return text;
}

// Fails the k-th operation on the disk.
class FailingFiles : public io::FileSystem {
 public:
  explicit FailingFiles(int k) : left_(k) {}
  bool failed() const { return left_ < 0; }

  std::unique_ptr<io::OutputFile> create(const std::string& path) override {
    return step(ExitCode::cannot_create), wrap(real_.create(path));
  }
  std::unique_ptr<io::OutputFile> append(const std::string& path) override {
    return step(ExitCode::cannot_create), wrap(real_.append(path));
  }
  void set_mode(const std::string& path, unsigned mode) override {
    step(ExitCode::cannot_create), real_.set_mode(path, mode);
  }
  void rename(const std::string& from, const std::string& to) override { step(ExitCode::io), real_.rename(from, to); }
  void remove(const std::string& path) noexcept override { real_.remove(path); }
  void sync_folder(const std::string& path) override { step(ExitCode::io), real_.sync_folder(path); }
  void create_folders(const std::string& path) override { real_.create_folders(path); }

 private:
  struct File : io::OutputFile {
    File(FailingFiles& o, std::unique_ptr<io::OutputFile> f) : owner(o), file(std::move(f)) {}
    void write(const void* data, std::size_t size) override { owner.step(ExitCode::io), file->write(data, size); }
    void sync() override { owner.step(ExitCode::io), file->sync(); }
    void close() override { owner.step(ExitCode::io), file->close(); }
    FailingFiles& owner;
    std::unique_ptr<io::OutputFile> file;
  };

  void step(ExitCode code) {
    if (left_-- <= 0) throw Error(code, "no space left on device");
  }
  std::unique_ptr<io::OutputFile> wrap(std::unique_ptr<io::OutputFile> file) {
    return std::make_unique<File>(*this, std::move(file));
  }

  io::FileSystem& real_ = io::file_system();
  int left_;
};

}  // namespace

TEST_CASE("records come in input order, whatever order they are finished in") {
  TempFolder folder;
  cli::Output output;
  cli::RecordWriter writer(output, folder.file("out.jsonl"), false);
  std::vector<std::uint64_t> places;
  for (int i = 0; i < 5; ++i) places.push_back(writer.reserve());
  writer.put(places[3], {rec("d")});
  writer.put(places[1], {rec("b", 0), rec("b", 1)});
  CHECK(folder.read("out.jsonl.partial").empty());
  writer.put(places[0], {rec("a")});
  CHECK(folder.read("out.jsonl.partial") == lines({rec("a"), rec("b", 0), rec("b", 1)}));
  writer.fail(places[4], "e", {ExitCode::data, "bad", "good"});
  writer.put(places[2], {rec("c")});
  CHECK(folder.entries() == std::vector<std::string>{"out.jsonl.partial"});
  CHECK(writer.finish() == 3);
  CHECK(folder.entries() == std::vector<std::string>{"out.jsonl"});
  CHECK(folder.read("out.jsonl") == lines({rec("a"),
                                           rec("b", 0),
                                           rec("b", 1),
                                           rec("c"),
                                           rec("d"),
                                           {{"id", "e"}, {"error", "bad (good)"}, {"code", 65}}}));
}

TEST_CASE("a batch with jobs unanswered does not end well") {
  TempFolder folder;
  cli::Output output;
  cli::RecordWriter writer(output, folder.file("out.jsonl"), false);
  writer.reserve();
  CHECK_THROWS_AS(writer.finish(), std::logic_error);
}

TEST_CASE("--resume takes what is good from both files and puts all in order") {
  TempFolder folder;
  folder.write("out.jsonl", lines({rec("a", 0, 1), {{"id", "b"}, {"error", "x"}, {"code", 65}}, rec("gone", 0, 1)}) +
                                "junk\n" + rec(3, 0, 1).dump());
  folder.write("out.jsonl.partial", lines({rec("d", 0, 2), rec("two", 0, 2)}) + "{\"id\":\"e\",\"v");
  cli::Output output;
  cli::RecordWriter writer(output, folder.file("out.jsonl"), true);
  CHECK(writer.done("a"));
  CHECK_FALSE(writer.done("b"));
  CHECK(writer.done(3));
  CHECK_FALSE(writer.done("3"));
  CHECK(writer.done("d"));
  CHECK_FALSE(writer.done("e"));
  CHECK(writer.done("two"));
  CHECK_FALSE(writer.done("two", 2));
  for (const Json& id : {Json("a"), Json("b"), Json("c"), Json("d"), Json("two"), Json(3)}) {
    const auto place = writer.reserve();
    if (id == "two")
      writer.put(place, {rec(id, 0, 9), rec(id, 1, 9)});
    else if (writer.done(id))
      writer.skip(place, id);
    else
      writer.put(place, {rec(id, 0, 9)});
  }
  CHECK(writer.finish() == 0);
  CHECK(folder.read("out.jsonl") == lines({rec("gone", 0, 1), rec("a", 0, 1), rec("b", 0, 9), rec("c", 0, 9),
                                           rec("d", 0, 2), rec("two", 0, 9), rec("two", 1, 9), rec(3, 0, 1)}));
  CHECK(folder.entries() == std::vector<std::string>{"out.jsonl"});
}

TEST_CASE("without --resume earlier files are replaced, permissions and links stay") {
  TempFolder folder;
  folder.write("real.jsonl", "old\n");
  folder.write("real.jsonl.partial", "old\n");
  chmod(folder.file("real.jsonl").c_str(), 0600);
  std::filesystem::create_symlink("real.jsonl", folder.path() / "link.jsonl");
  cli::Output output;
  cli::RecordWriter writer(output, folder.file("link.jsonl"), false);
  writer.put(writer.reserve(), {rec("a")});
  CHECK(folder.read("real.jsonl") == "old\n");
  CHECK(writer.finish() == 0);
  CHECK(folder.read("real.jsonl") == lines({rec("a")}));
  CHECK(std::filesystem::is_symlink(folder.path() / "link.jsonl"));
  struct stat facts {};
  stat(folder.file("real.jsonl").c_str(), &facts);
  CHECK((facts.st_mode & 0777) == 0600);
  CHECK(folder.entries() == std::vector<std::string>{"link.jsonl", "real.jsonl"});
}

TEST_CASE("a place that cannot be written to is told at once, and a failed start leaves nothing") {
  cli::Output output;
  for (const char* path : {"/no/such/folder/out.jsonl", "/tmp"}) {
    try {
      cli::RecordWriter writer(output, path, false);
      FAIL("was opened");
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::cannot_create);
    }
  }
  TempFolder folder;
  { cli::RecordWriter writer(output, folder.file("out.jsonl"), false); }
  CHECK(folder.entries().empty());
}

TEST_CASE("every disk operation may fail: the old file stays, and --resume goes on") {
  for (const bool resume : {false, true}) {
    bool again = true;
    for (int k = 0; again; ++k) {
      REQUIRE(k < 40);
      TempFolder folder;
      const std::string before = lines({rec("a", 0, 1), rec("b", 0, 1)});
      folder.write("out.jsonl", before);
      cli::Output output;
      FailingFiles files(k);
      try {
        const io::ScopedFileSystem scoped(files);
        cli::RecordWriter writer(output, folder.file("out.jsonl"), resume);
        if (resume) writer.skip(writer.reserve(), "a");
        writer.put(writer.reserve(), {rec("c", 0, 2)});
        writer.put(writer.reserve(), {rec("d", 0, 2)});
        writer.finish();
      } catch (const Error& error) {
        CHECK((error.code() == ExitCode::io || error.code() == ExitCode::cannot_create));
      }
      again = files.failed();
      const std::string after = folder.read("out.jsonl");
      const std::string done = resume ? lines({rec("b", 0, 1), rec("a", 0, 1), rec("c", 0, 2), rec("d", 0, 2)})
                                      : lines({rec("c", 0, 2), rec("d", 0, 2)});
      CHECK((after == before || after == done));
      if (!again) CHECK(after == done);
      for (const std::string& name : folder.entries()) CHECK((name == "out.jsonl" || name == "out.jsonl.partial"));

      cli::RecordWriter later(output, folder.file("out.jsonl"), true);
      for (const char* id : {"a", "c", "d"}) {
        const auto place = later.reserve();
        if (later.done(id))
          later.skip(place, id);
        else
          later.put(place, {rec(id, 0, id[0] == 'a' ? 1 : 2)});
      }
      CHECK(later.finish() == 0);
      const std::string end = folder.read("out.jsonl");
      CHECK(end.find(lines({rec("a", 0, 1), rec("c", 0, 2), rec("d", 0, 2)})) != std::string::npos);
    }
  }
}

TEST_CASE("a batch that SIGTERM stops says 75 and goes on with --resume to the same bytes") {
  TempFolder folder;
  const std::string jobs = folder.write("jobs.jsonl", jobs_of(12));
  const std::string out = folder.file("out.jsonl");
  REQUIRE(batch({"--jobs", jobs, "-o", folder.file("whole.jsonl")}).code == 0);
  const std::string whole = folder.read("whole.jsonl");
  for (const int signal : {SIGTERM, SIGINT}) {
    const Result stopped =
        batch({"--jobs", jobs, "-o", out, "--resume", "--delay", "300"},
              {.program = "", .signal = signal, .signal_when = [&](const auto&, const auto&) {
                 return std::filesystem::exists(out + ".partial") && std::filesystem::file_size(out + ".partial") > 0;
               }});
    INFO(stopped.err);
    CHECK(stopped.code == 75);
    CHECK(stopped.err_lines().size() == 2);
    CHECK_FALSE(std::filesystem::exists(out));
    CHECK(whole.starts_with(folder.read("out.jsonl.partial")));
    CHECK(batch({"--jobs", jobs, "-o", out, "--resume"}).code == 0);
    CHECK(folder.read("out.jsonl") == whole);
    CHECK(folder.entries() == std::vector<std::string>{"jobs.jsonl", "out.jsonl", "whole.jsonl"});
    std::filesystem::remove(out);
  }
}

TEST_CASE("a batch killed at any moment goes on to the same bytes") {
  TempFolder folder;
  const std::string jobs = folder.write("jobs.jsonl", jobs_of(8, ",\"delay\":3"));
  REQUIRE(batch({"--jobs", jobs, "-o", folder.file("whole.jsonl")}).code == 0);
  for (int ms = 2; ms < 40; ms += 4) {
    batch({"--jobs", jobs, "-o", folder.file("out.jsonl"), "--resume"},
          {.program = "", .signal = SIGKILL, .signal_after = std::chrono::milliseconds(ms)});
    CHECK(batch({"--jobs", jobs, "-o", folder.file("out.jsonl"), "--resume"}).code == 0);
    CHECK(folder.read("out.jsonl") == folder.read("whole.jsonl"));
    CHECK(folder.entries() == std::vector<std::string>{"jobs.jsonl", "out.jsonl", "whole.jsonl"});
    std::filesystem::remove(folder.path() / "out.jsonl");
  }
}

TEST_CASE("--resume with >> FILE reads that file") {
  TempFolder folder;
  const std::string jobs = folder.write("jobs.jsonl", jobs_of(4));
  const Process append{.program = "", .out = Wire::file, .stdout_file = folder.file("out.jsonl")};
  REQUIRE(batch({"--jobs", jobs, "--resume"}, append).code == 0);
  const std::string whole = folder.read("out.jsonl");
  CHECK(lines_of(whole).size() == 4);
  CHECK(batch({"--jobs", jobs, "--resume"}, append).code == 0);
  CHECK(folder.read("out.jsonl") == whole);
  for (std::size_t cut = 0; cut < whole.size(); cut += 7) {  // as a full disk or a kill leaves it
    folder.write("out.jsonl", whole.substr(0, cut));
    CHECK(batch({"--jobs", jobs, "--resume"}, append).code == 0);
    REQUIRE(folder.read("out.jsonl") == whole);
  }
  folder.write("out.jsonl", whole.substr(0, whole.size() - 1));  // whole but for the newline
  CHECK(batch({"--jobs", folder.write("more.jsonl", jobs_of(5)), "--resume"}, append).code == 0);
  CHECK(lines_of(folder.read("out.jsonl")).size() == 5);
  CHECK(folder.read("out.jsonl").starts_with(whole));

  folder.write("out.jsonl", "");
  const std::string slow = folder.write("slow.jsonl", jobs_of(12, ",\"delay\":300"));
  Process stop = append;
  stop.signal = SIGTERM, stop.signal_when = [&](const auto&, const auto&) { return !folder.read("out.jsonl").empty(); };
  CHECK(batch({"--jobs", slow, "--resume"}, stop).code == 75);
  folder.write("out.jsonl", "");
  CHECK(batch({"--jobs", slow}, stop).code == 143);
}

TEST_CASE("--resume with a pipe warns, and devices are written to directly") {
  TempFolder folder;
  const std::string jobs = folder.write("jobs.jsonl", jobs_of(2));
  const Result r = run({.program = tool("cli-test-tool"), .args = {"--jobs", jobs, "--resume"}});
  CHECK(r.code == 0);
  CHECK(r.out_lines().size() == 2);
  CHECK(r.err.find("--resume finds no earlier records") != std::string::npos);
  CHECK(batch({"--jobs", jobs, "-o", "/dev/stdout"}).out_lines().size() == 2);
  CHECK(batch({"--jobs", jobs, "-o", "/dev/null"}).code == 0);
  CHECK(batch({"--jobs", jobs, "-o", "/dev/full"}).code == 74);
  CHECK(batch({"--jobs", jobs}, {.program = "", .out = Wire::full}).code == 74);
  const Result limited = batch({"--jobs", folder.write("many.jsonl", jobs_of(200)), "-o", folder.file("out.jsonl")},
                               {.program = "", .max_file = 8192});
  CHECK(limited.code == 74);
  CHECK_FALSE(std::filesystem::exists(folder.path() / "out.jsonl"));
}
