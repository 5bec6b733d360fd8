#include "pipelines/stop_matcher.h"

#include <doctest/doctest.h>

#include "base/seed.h"

using atelier::pipelines::StopMatcher;

namespace {

struct Outcome {
  std::string text;
  bool matched;
  bool operator==(const Outcome&) const = default;
};

Outcome feed(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(stops);
  std::string text;
  for (const auto& piece : pieces) text += matcher.push(piece);
  if (!matcher.matched()) text += matcher.flush();
  CHECK(matcher.cut() == text.size());
  return {text, matcher.matched()};
}

}  // namespace

TEST_CASE("a stop text is found across the borders of pieces and left out") {
  CHECK(feed({"END"}, {"abc E", "N", "D def"}) == Outcome{"abc ", true});
  CHECK(feed({"END"}, {"abc E", "N", "d"}) == Outcome{"abc ENd", false});
  CHECK(feed({"\n\n"}, {"a\n", "b\n", "\nc"}) == Outcome{"a\nb", true});
  CHECK(feed({"abab"}, {"ab", "aab", "ab"}) == Outcome{"aba", true});
  CHECK(feed({}, {"abc"}) == Outcome{"abc", false});
}

TEST_CASE("the earliest of several stop texts counts") {
  CHECK(feed({"xyz", "b"}, {"abxyz"}) == Outcome{"a", true});
  CHECK(feed({"bc", "b"}, {"a", "b", "c"}) == Outcome{"a", true});
}

TEST_CASE("what can no longer be a stop text is shown at once") {
  StopMatcher matcher({"STOP"});
  CHECK(matcher.push("say S") == "say ");
  CHECK(matcher.push("T") == "");
  CHECK(matcher.push("ay") == "STay");
}

TEST_CASE("however a stream is cut, the same comes out") {
  atelier::base::Generator generator(5);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 20; ++i) text += "ab"[generator() % 2];
    const std::vector<std::string> stops = {"abba", "aab"};
    const Outcome whole = feed(stops, {text});
    std::vector<std::string> pieces;
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t n = 1 + generator() % 3;
      pieces.push_back(text.substr(i, n));
      i += n;
    }
    CHECK(feed(stops, pieces) == whole);
  }
}
