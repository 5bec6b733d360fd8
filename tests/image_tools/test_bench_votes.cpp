// sd-bench vote and elo: blind pages, the key beside them, ratings from answers.
#include "image_tools/bench.h"

#include <filesystem>
#include <set>

#include "image/write.h"

#include "support/doctest_last.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

/// Folders alpha, beta and gamma with pictures of the same names.
struct Folders {
  TempFolder root;
  std::vector<std::string> paths;

  explicit Folders(int pictures = 4) {
    int shade = 10;
    for (const char* name : {"alpha", "beta", "gamma"}) {
      std::filesystem::create_directories(root.path() / name);
      for (int i = 0; i < pictures; ++i, shade += 5) {
        image::Image picture(8, 6, 3, static_cast<std::uint8_t>(shade));
        image::write_image(root.file(std::string(name) + "/" + std::to_string(i) + ".png"), picture,
                           {{"parameters", "made by alpha"}});
      }
      paths.push_back(root.file(name));
    }
  }
};

/// The JSON that the page's script works on.
Json data_of(const std::string& html) {
  const std::string begin = "const data = ";
  const std::size_t at = html.find(begin) + begin.size();
  return base::parse_json(html.substr(at, html.find(";\n", at) - at), "page");
}

std::string answer(const std::string& left, const std::string& right, const std::string& choice, int pair = -1,
                   const std::string& voter = {}) {
  Json line = {{"left", left}, {"right", right}, {"choice", choice}};
  if (pair >= 0) line["page"] = "p", line["pair"] = pair;
  if (!voter.empty()) line["voter"] = voter;
  return line.dump() + "\n";
}

}  // namespace

TEST_CASE("a page asks about pairs in equal parts and gives nobody's name away") {
  const Folders f;
  const std::string html = f.root.file("vote.html");
  const Result r = bench({"vote", f.paths[0], f.paths[1], f.paths[2], "--output", html, "--pairs", "9", "--seed", "3"});
  CAPTURE(r.err);
  REQUIRE(r.code == 0);
  CHECK(r.out == html + "\n" + f.root.file("vote.key.json") + "\n");
  const std::string page = f.root.read("vote.html");
  for (const char* word : {"alpha", "beta", "gamma", "made by", f.root.path().c_str()})
    CHECK(page.find(word) == std::string::npos);
  const Json data = data_of(page), key = base::parse_json(f.root.read("vote.key.json"), "key");
  REQUIRE(data["pairs"].size() == 9);
  CHECK(data["page"] == key["page"]);
  std::map<std::string, int> seen;
  for (const Json& pair : data["pairs"]) {
    CHECK(pair["ids"][0] != pair["ids"][1]);
    for (const Json& id : pair["ids"]) ++seen[key["names"][id.get<std::string>()].get<std::string>()];
    for (const Json& place : pair["pictures"]) CHECK(place.get<std::size_t>() < data["pictures"].size());
  }
  for (const std::string& path : f.paths) CHECK(seen[path] == 6);
  // The same seed writes the same page.
  REQUIRE(bench({"vote", f.paths[0], f.paths[1], f.paths[2], "--output", f.root.file("again.html"), "--pairs", "9",
                 "--seed", "3"})
              .code == 0);
  CHECK(f.root.read("again.html") == page);
  // All there are, where more are asked for.
  REQUIRE(bench({"vote", f.paths[0], f.paths[1], "--output", html}).code == 0);
  CHECK(data_of(f.root.read("vote.html"))["pairs"].size() == 4);
}

TEST_CASE("a comparison's rows can be voted on, with their prompts above") {
  const ComparisonFolder c("a </script><b>cat\nan old man\n");
  REQUIRE(c.compare({"--models", tiny_model("sd15"), "--samplers", "euler", "ddim", "--steps", "2"}).code == 0);
  const Result r = bench({"vote", c.file("out"), "--output", c.file("vote.html"), "--json"});
  CAPTURE(r.err);
  REQUIRE(r.code == 0);
  CHECK(json_lines(r.out)[0]["pairs"] == 2);
  const std::string page = c.read("vote.html");
  CHECK(page.find("sd15") == std::string::npos);
  CHECK(count_of(page, "</script>") == 1);
  const Json data = data_of(page);
  std::set<std::string> captions{data["pairs"][0]["caption"].get<std::string>(),
                                 data["pairs"][1]["caption"].get<std::string>()};
  CHECK(captions == std::set<std::string>{"a </script><b>cat", "an old man"});
}

TEST_CASE("ratings come from the answers, by name where the key is there") {
  const TempFolder folder;
  std::string lines;
  for (int i = 0; i < 20; ++i)
    lines += answer("a1", "b2", i < 15 ? "left" : "right") + answer("c3", "b2", i < 10 ? "left" : "tie");
  const std::string answers = folder.write("answers.jsonl", lines);
  const std::string key = folder.write("key.json", R"({"page":"p","names":{"a1":"old","b2":"new","c3":"other"}})");
  const Result r = bench({"elo", answers, "--key", key, "--json", "--seed", "1"});
  CAPTURE(r.err);
  REQUIRE(r.code == 0);
  CHECK(r.err.empty());
  const auto records = json_lines(r.out);
  REQUIRE(records.size() == 3);
  CHECK(records[2]["name"] == "new");
  CHECK(records[0]["metric"] == "elo");
  CHECK(records[0]["n_fake"] == 20);
  double sum = 0;
  for (const Json& record : records) {
    sum += record["value"].get<double>();
    CHECK(record["interval"][0].get<double>() < record["value"].get<double>());
    CHECK(record["interval"][1].get<double>() > record["value"].get<double>());
  }
  CHECK(sum == doctest::Approx(3000));
  CHECK(bench({"elo", answers, "--key", key, "--json", "--seed", "1"}).out == r.out);
  CHECK(bench({"elo", answers}).out.find("| b2 |") != std::string::npos);
  const Result few = bench({"elo", folder.write("few.jsonl", answer("a1", "b2", "left"))});
  CHECK(few.code == 0);
  CHECK(few.err.find("1 answers are few") != std::string::npos);
}

TEST_CASE("15 wins of 20 are 400 log10(3) points more, and who never lost has a rating with a prior alone") {
  const TempFolder folder;
  std::string lines;
  for (int i = 0; i < 20; ++i) lines += answer("x", "y", i < 15 ? "left" : "right");
  const auto plain = json_lines(bench({"elo", folder.write("a.jsonl", lines), "--prior", "0", "--json"}).out);
  REQUIRE(plain.size() == 2);
  CHECK(plain[0]["value"].get<double>() - plain[1]["value"].get<double>() == doctest::Approx(190.8485).epsilon(1e-6));
  std::string won;
  for (int i = 0; i < 10; ++i) won += answer("x", "y", "left");
  const auto kept = json_lines(bench({"elo", folder.write("b.jsonl", won), "--json"}).out);
  REQUIRE(kept.size() == 2);
  CHECK(kept[0]["value"].get<double>() > kept[1]["value"].get<double>() + 300);
  CHECK(kept[0]["value"].get<double>() < 2000);
}

TEST_CASE("who answers again has changed their mind; others have their own voice") {
  const TempFolder folder;
  const std::string answers =
      folder.write("a.jsonl", answer("x", "y", "left", 1, "Ann") + answer("x", "y", "right", 1, "Ann") +
                                  answer("x", "y", "right", 1, "Bob"));
  const auto records = json_lines(bench({"elo", answers, "--json"}).out);
  REQUIRE(records.size() == 2);
  CHECK(records[0]["name"] == "y");
  CHECK(records[0]["wins"] == 2);
  CHECK(records[0]["answers"] == 2);
}

TEST_CASE("bad votes end with the contract's codes") {
  const Folders f;
  const TempFolder folder;
  const auto refused = [&](const std::vector<std::string>& args, int code, const std::string& message) {
    const Result r = bench(args);
    CAPTURE(r.err);
    CHECK(r.code == code);
    CHECK(r.err.find(message) != std::string::npos);
  };
  const std::string out = folder.file("v.html");
  refused({"vote", f.paths[0], "--output", out}, 65, "nothing to compare");
  refused({"vote", f.paths[0], folder.file("none"), "--output", out}, 66, "none");
  refused({"vote", f.paths[0], folder.path().string(), "--output", out}, 65, "no two of the folders");
  refused({"vote", f.paths[0], f.paths[1]}, 64, "--output");
  refused({"vote", f.paths[0], f.paths[0], "--output", out}, 64, "given twice");
  refused({"vote", f.paths[0], f.paths[1], "--output", "/proc/x/v.html"}, 73, "/proc/x");
  CHECK(folder.entries().empty());
  refused({"elo", folder.file("none")}, 66, "none");
  refused({"elo", folder.write("empty", "\n")}, 65, "no answer");
  refused({"elo", folder.write("b.jsonl", answer("a", "b", "left") + "{\"left\":\"a\"\n")}, 65, "line 2");
  refused({"elo", folder.write("b.jsonl", answer("a", "b", "middle"))}, 65, "\"middle\"");
  refused({"elo", folder.write("b.jsonl", answer("a", "a", "left"))}, 65, "are the same");
  const std::string good = folder.write("good.jsonl", answer("a", "b", "left"));
  refused({"elo", good, "--key", folder.write("k.json", R"({"names":{"a":"x"}})")}, 65,
          "\"b\" of the answers is not in");
  refused({"elo", good, "--key", folder.write("k.json", "[]")}, 65, "not a key");
  refused({"elo", good, "--prior", "0"}, 65, "do not determine");
}
