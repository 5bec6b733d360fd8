// Reports and ballots in a real browser, where there is one: Debian's chromium, or another of its family.
#include "image_tools/bench.h"

#include <cstdlib>
#include <filesystem>
#include <set>

#include "image/read.h"
#include "image/write.h"

#include "support/doctest_last.h"

namespace {

using namespace atelier;
using namespace atelier::test;
namespace fs = std::filesystem;

/// Its path, or "" where there is none. ATELIER_BROWSER names another.
std::string browser() {
  if (const char* named = std::getenv("ATELIER_BROWSER"); named != nullptr && *named != '\0') return named;
  for (const char* folder : {"/usr/bin/", "/usr/local/bin/", "/opt/google/chrome/"})
    for (const char* name : {"chromium", "chromium-browser", "google-chrome", "chrome"})
      if (fs::exists(std::string(folder) + name)) return std::string(folder) + name;
  return {};
}

/// Opens a page as a user would, but for the window. As root chromium wants no sandbox, and these are our own pages.
Result open_page(const TempFolder& profile, const std::string& path, const std::vector<std::string>& how) {
  Process process{.program = browser(),
                  .args = {"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                           "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
                           "--enable-logging=stderr", "--user-data-dir=" + profile.file("profile")}};
  process.args.insert(process.args.end(), how.begin(), how.end());
  process.args.push_back("file://" + path);
  process.timeout = std::chrono::minutes(4);
  return run(process);
}

/// Whether there is a browser; says once that there is none.
bool can_browse() {
  if (!browser().empty()) return true;
  MESSAGE("skipped: no chromium here (apt-get install chromium, or ATELIER_BROWSER=...)");
  return false;
}

/// What a page's policy forbids is said on the console.
bool nothing_refused(const std::string& log) {
  return log.find("Refused to") == std::string::npos && log.find("violates") == std::string::npos &&
         log.find("Uncaught") == std::string::npos;
}

std::size_t different_colours(const image::Image& picture) {
  std::set<std::uint32_t> colours;
  for (std::size_t i = 0; i < picture.pixels(); ++i) {
    const auto* p = &picture.data[i * static_cast<std::size_t>(picture.channels)];
    colours.insert(static_cast<std::uint32_t>(p[0]) << 16 | static_cast<std::uint32_t>(p[1]) << 8 | p[2]);
  }
  return colours.size();
}

}  // namespace

TEST_CASE("a browser shows the report: tables, charts, pictures, and nothing is refused") {
  if (!can_browse()) return;
  const ComparisonFolder c;
  REQUIRE(c.compare({"--models", tiny_model("sd15"), "--samplers", "euler", "ddim", "--steps", "2", "3"}).code == 0);
  const TempFolder profile;
  const Result dom = open_page(profile, c.file("out/report.html"), {"--dump-dom"});
  CAPTURE(dom.err);
  REQUIRE(dom.code == 0);
  CHECK(dom.out.find("Comparison of picture models</h1>") != std::string::npos);
  CHECK(count_of(dom.out, "<img") == 12);
  CHECK(count_of(dom.out, "<svg") == 2);
  CHECK(nothing_refused(dom.err));
  const std::string shot = c.file("shot.png");
  const Result drawn =
      open_page(profile, c.file("out/report.html"), {"--window-size=1200,2400", "--screenshot=" + shot});
  REQUIRE(drawn.code == 0);
  CHECK(nothing_refused(drawn.err));
  const image::Image picture = image::read_image(shot);
  CHECK(picture.width == 1200);
  CHECK(different_colours(picture) > 500);  // noise of random models, which text and charts alone do not have
}

TEST_CASE("the ballot's script runs in a browser") {
  if (!can_browse()) return;
  const TempFolder folder, profile;
  for (const char* name : {"a", "b"}) {
    fs::create_directories(folder.path() / name);
    image::write_image(folder.file(std::string(name) + "/1.png"), image::Image(8, 8, 3, name[0] == 'a' ? 50 : 200));
  }
  REQUIRE(bench({"vote", folder.file("a"), folder.file("b"), "--output", folder.file("v.html")}).code == 0);
  const Result dom = open_page(profile, folder.file("v.html"), {"--dump-dom"});
  CAPTURE(dom.err);
  REQUIRE(dom.code == 0);
  CHECK(nothing_refused(dom.err));
  CHECK(dom.out.find("pair 1 of 1, 0 answered") != std::string::npos);
  CHECK(count_of(dom.out, "src=\"data:image/png;base64,") == 2);
}
