// --prompt-cache across processes.
#include <filesystem>
#include <memory>

#include "tools/generate.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;
namespace fs = std::filesystem;

std::string instructions() {
  std::string text;
  for (int i = 0; i < 30; ++i) text += "Picture " + std::to_string(i) + " shows a small red circle at the top. ";
  return text;
}

std::vector<std::string> ask(const std::string& prompt, const std::string& cache) {
  return {"--system", instructions(), "-p", prompt, "--json", "--seed", "3", "-n", "16",
          "--model",  shipped,        "--threads", "1", "--prompt-cache", cache};
}

}  // namespace

TEST_CASE("a second process computes only what is new, and says the same") {
  const TempFolder folder;
  const Json missed = record(generate(ask("How many?", folder.file("c"))));
  const Json hit = record(generate(ask("How many?", folder.file("c"))));
  CHECK(missed["usage"]["cached_tokens"] == 0);
  CHECK(hit["usage"]["cached_tokens"] >= 256);
  CHECK(reply(hit) == reply(missed));
  const Json other = record(generate(ask("Write a caption.", folder.file("c"))));
  CHECK(other["usage"]["cached_tokens"] >= 256);
  CHECK(reply(other) == reply(record(generate(ask("Write a caption.", folder.file("d"))))));
}

TEST_CASE("candidates share the loaded prompt") {
  const TempFolder folder;
  auto args = ask("How many?", folder.file("c"));
  args.insert(args.end(), {"--count", "3"});
  const auto missed = records(generate(args)), hit = records(generate(args));
  REQUIRE(hit.size() == 3);
  for (int i = 0; i < 3; ++i) CHECK(reply(hit[i]) == reply(missed[i]));
}

TEST_CASE("damage and folders that cannot be written are warnings") {
  const TempFolder folder;
  const Json expected = record(generate(ask("How many?", folder.file("c"))));
  for (const auto& entry : fs::recursive_directory_iterator(folder.file("c")))
    if (entry.is_regular_file()) fs::resize_file(entry.path(), 1000);
  const Result damaged = generate(ask("How many?", folder.file("c")));
  CHECK(reply(record(damaged)) == reply(expected));
  CHECK(damaged.err.find("warning: prompt cache: a damaged entry is ignored") != std::string::npos);
  folder.write("file", "x");
  const Result unwritable = generate(ask("How many?", folder.file("file") + "/c"));
  CHECK(reply(record(unwritable)) == reply(expected));
  CHECK(unwritable.err.find("warning: prompt cache: nothing is kept") != std::string::npos);
}

TEST_CASE("several processes at once") {
  const TempFolder folder;
  const Json expected = record(generate(ask("How many?", folder.file("other"))));
  std::vector<std::unique_ptr<Session>> running;
  for (int i = 0; i < 4; ++i)
    running.push_back(std::make_unique<Session>(Process{.program = tool("gemma-generate"), .args = ask("How many?", folder.file("c"))}));
  for (auto& session : running) CHECK(reply(record(session->wait())) == reply(expected));
}
