// Captions: kohya's rules, and files that are not UTF-8.
#include <map>
#include <set>

#include "train/draws.h"
#include "train/image/captions.h"

#include "pictures.h"
#include "support/doctest_last.h"
#include "support/errors.h"

using namespace atelier;
using namespace atelier::train::image;
using base::ExitCode;
using test::contains;
using test::error_of;

namespace {

/// What `times` draws give, by how often.
std::map<std::string, int> draws(const std::string& caption, const CaptionOptions& options, int times = 400,
                                 std::int64_t epoch = 0) {
  std::map<std::string, int> found;
  base::Generator generator = train::generator_of(1, 0, 0);
  for (int i = 0; i < times; ++i) ++found[vary_caption(caption, options, epoch, generator)];
  return found;
}

std::string only(const std::string& caption, const CaptionOptions& options) {
  const auto found = draws(caption, options, 20);
  CHECK(found.size() == 1);
  return found.begin()->first;
}

std::string written(const std::string& bytes) {
  const test::PictureFolder folder;
  folder.put("a.txt", bytes);
  return read_caption(folder.file("a.txt"));
}

}  // namespace

TEST_CASE("a caption without options is its first line, with prefix and suffix around it") {
  CHECK(only("a red {x|y} ball,, big\nsecond", {}) == "a red {x|y} ball,, big");
  CHECK(only("ball", {.prefix = "sks", .suffix = "photo"}) == "sks ball photo");
  CHECK(only("", {}).empty());
}

TEST_CASE("shuffled tags: all of them in every order, but for those that are kept") {
  const auto all = draws("a, b ,c", {.shuffle = true});
  CHECK(all.size() == 6);
  for (const auto& [caption, times] : all) CHECK(times > 30);
  const auto kept = draws("x, y, a, b", {.shuffle = true, .keep_tokens = 2});
  CHECK(kept.size() == 2);
  CHECK(kept.contains("x, y, a, b"));
  CHECK(kept.contains("x, y, b, a"));
  const auto marked = draws("x ||| a, b ||| end", {.shuffle = true, .keep_tokens = 9, .keep_separator = "|||"});
  CHECK(marked.size() == 2);
  CHECK(marked.contains("x, b, a, end"));
  CHECK(only("x ||| a, b", {.keep_separator = "|||"}) == "x, a, b");
  CHECK(only("a;;b, c", {.secondary_separator = ";;"}) == "a,b, c");
  CHECK(draws("a;b", {.shuffle = true, .separator = ";"}).size() == 2);
}

TEST_CASE("dropout: the share of captions, of tags, and whole epochs") {
  const auto dropped = draws("a, b", {.dropout = 0.25}, 2000);
  CHECK(dropped.size() == 2);
  CHECK(dropped.at("") > 420);
  CHECK(dropped.at("") < 580);
  const auto tags = draws("keep, a", {.tag_dropout = 0.5, .keep_tokens = 1}, 2000);
  CHECK(tags.at("keep") > 900);
  CHECK(tags.at("keep") < 1100);
  CHECK(tags.at("keep") + tags.at("keep, a") == 2000);
  CHECK(draws("a", {.dropout_every_epochs = 3}, 1, 1).contains("a"));
  CHECK(draws("a", {.dropout_every_epochs = 3}, 1, 2).contains(""));
}

TEST_CASE("wildcards: one of the choices, one of the lines, doubled brackets as they are") {
  const CaptionOptions options{.wildcards = true};
  const auto found = draws("a {red|blue} {x}ball {{big|small}}", options);
  CHECK(found.size() == 2);
  CHECK(found.contains("a red xball {big|small}"));
  CHECK(found.contains("a blue xball {big|small}"));
  CHECK(draws("one\ntwo\nthree", options).size() == 3);
  CHECK(only("open { and } {} }", options) == "open  and  {} }");
  CHECK(has_wildcard("a {b|c}"));
  CHECK(!has_wildcard("a {{b|c}} {d}"));
}

TEST_CASE("the same generator gives the same captions; options that are off draw nothing") {
  base::Generator one = train::generator_of(4, 2, 1), two = train::generator_of(4, 2, 1);
  const CaptionOptions options{.dropout = 0.1, .wildcards = true, .shuffle = true, .tag_dropout = 0.2};
  for (int i = 0; i < 50; ++i)
    CHECK(vary_caption("a, {b|c}, d, e", options, i, one) == vary_caption("a, {b|c}, d, e", options, i, two));
  base::Generator untouched = train::generator_of(4, 2, 1), used = untouched;
  vary_caption("a, b", {}, 0, used);
  CHECK(used == untouched);
}

TEST_CASE("caption files: marks and blank lines go, other encodings are named") {
  CHECK(written("\xEF\xBB\xBF  a dog \r\n\r\n  second \n") == "a dog\nsecond");
  CHECK(written("").empty());
  CHECK(written(" \n\t\n").empty());
  CHECK(contains(error_of(ExitCode::data,
                          [] {
                            written(
                                std::string("\xFF\xFE"
                                            "a\0",
                                            4));
                          }),
                 "is UTF-16, captions are UTF-8"));
  CHECK(contains(error_of(ExitCode::data, [] { written("a caf\xE9"); }), "not valid UTF-8"));
  CHECK(contains(error_of(ExitCode::data, [] { written(std::string((1 << 20) + 1, 'a')); }), "a.txt"));
}
