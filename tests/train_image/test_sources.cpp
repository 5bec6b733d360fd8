// Where pictures come from: folders, kohya's folder names, kohya's TOML.
#include "train/image/sources.h"

#include "pictures.h"
#include "support/doctest_last.h"
#include "support/errors.h"

using namespace atelier;
using namespace atelier::train::image;
using base::ExitCode;
using test::contains;
using test::error_of;

namespace {

std::vector<SubsetGroup> parsed(const std::string& toml) { return parse_sources(toml, "set.toml", {}); }

std::string refused(const std::string& toml) {
  return error_of(ExitCode::data, [&] { parsed(toml); });
}

std::string hint_of(const std::string& toml) {
  try {
    parsed(toml);
  } catch (const base::Error& error) {
    return error.hint();
  }
  return "(no error)";
}

const std::string minimal = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'x'\n";

}  // namespace

TEST_CASE("a folder of pictures, or of folders with repeats in their names") {
  const test::PictureFolder flat, named, empty;
  flat.add("b.PNG.png", 1);
  flat.put("c.JPG", "");
  flat.put("d.webp", "");
  flat.put("notes.txt", "");
  flat.put("b.mask.png", "");
  flat.add("10_x/a.png", 1);  // a folder with repeats beside pictures: only that one counts
  CHECK(picture_files(flat.root()).size() == 3);
  auto groups = open_sources(flat.root(), {});
  REQUIRE(groups.at(0).subsets.size() == 1);
  CHECK(groups[0].subsets[0].repeats == 10);

  named.add("10_sks dog/a.png", 1);
  named.add("2_b_c/a.png", 1);
  named.add("other/a.png", 1);
  named.put("5_empty/readme.md", "");
  groups = open_sources(named.root(), test::small_squares(3));
  REQUIRE(groups.size() == 1);
  CHECK(groups[0].batch_size == 3);
  REQUIRE(groups[0].subsets.size() == 2);
  CHECK(groups[0].subsets[0].class_tokens == "sks dog");
  CHECK(groups[0].subsets[1].class_tokens == "b_c");
  CHECK(groups[0].subsets[1].repeats == 2);

  CHECK(contains(error_of(ExitCode::data, [&] { open_sources(empty.root(), {}); }), "no pictures"));
  CHECK(contains(error_of(ExitCode::no_input, [&] { open_sources(empty.file("none"), {}); }), "no such file"));
  empty.put("list.csv", "");
  CHECK(contains(error_of(ExitCode::data, [&] { open_sources(empty.file("list.csv"), {}); }), "neither a folder"));
}

TEST_CASE("kohya's TOML: what stands further in wins") {
  const auto groups = parsed(R"(
# a comment
[general]
shuffle_caption = true
caption_extension = ".caption"
keep_tokens = 1
enable_bucket = true
color_aug = false   # asks for nothing

[[datasets]]
resolution = [768, 512]
batch_size = 4

  [[datasets.subsets]]
  image_dir = 'a'
  num_repeats = 3
  keep_tokens = 2

  [[datasets.subsets]]
  image_dir = 'b'
  is_reg = true
  class_tokens = 'dog'
  shuffle_caption = false

[[datasets]]
resolution = 256
enable_bucket = false
  [[datasets.subsets]]
  image_dir = 'c'
  conditioning_data_dir = 'masks'
  caption_dropout_rate = 0.1
  flip_aug = true
)");
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].buckets.resolution == Size{768, 512});
  CHECK(groups[0].buckets.enabled);
  CHECK(groups[0].batch_size == 4);
  REQUIRE(groups[0].subsets.size() == 2);
  const Subset &a = groups[0].subsets[0], &b = groups[0].subsets[1], &c = groups[1].subsets.at(0);
  CHECK(a.folder == "a");
  CHECK(a.repeats == 3);
  CHECK(a.captions.keep_tokens == 2);
  CHECK(a.captions.shuffle);
  CHECK(a.caption_extension == ".caption");
  CHECK(b.is_class);
  CHECK(b.class_tokens == "dog");
  CHECK(b.repeats == 1);
  CHECK(b.captions.keep_tokens == 1);
  CHECK(!b.captions.shuffle);
  CHECK(groups[1].buckets.resolution == Size{256, 256});
  CHECK(!groups[1].buckets.enabled);
  CHECK(groups[1].batch_size == 1);
  CHECK(c.mask_folder == "masks");
  CHECK(c.captions.dropout == 0.1);
  CHECK(c.flip);
}

TEST_CASE("TOML that is refused: the key is named, and the nearest known one") {
  CHECK(contains(refused("[general]\nshuffle_captoin = true\n" + minimal),
                 "set.toml: [general]: unknown key \"shuffle_captoin\""));
  CHECK(hint_of("[general]\nshuffle_captoin = true\n" + minimal) == "did you mean \"shuffle_caption\"?");
  CHECK(contains(refused(minimal + "num_repeat = 2"), "[[datasets]] 1: subset 1: unknown key \"num_repeat\""));
  CHECK(contains(refused("[general]\nimage_dir = 'x'\n" + minimal), "\"image_dir\" does not stand here"));
  CHECK(contains(refused(minimal + "resolution = 512"), "\"resolution\" does not stand here"));
  CHECK(contains(refused(minimal + "color_aug = true"), "\"color_aug\" is not supported"));
  CHECK(contains(refused("[genral]\na = 1\n" + minimal), "unknown key \"genral\""));
  CHECK(contains(refused(minimal + "num_repeats = 0"), "\"num_repeats\" is 0, expected 1 to 1000000"));
  CHECK(contains(refused(minimal + "num_repeats = 'many'"), "\"num_repeats\""));
  CHECK(contains(refused(minimal + "flip_aug = 1"), "\"flip_aug\""));
  CHECK(contains(refused("[[datasets]]\nresolution = [512]\n[[datasets.subsets]]\nimage_dir='x'"),
                 "expected a side or [width, height]"));
  CHECK(contains(refused("[[datasets]]\n[[datasets.subsets]]\n"), "\"image_dir\" is missing"));
  CHECK(contains(refused("[general]\n"), "[[datasets]] is missing"));
  CHECK(contains(refused("[[datasets]]\n"), "[[subsets]] is missing"));
  CHECK(contains(refused("[datasets]\n"), "not written as [[datasets]]"));
  CHECK(contains(refused("[[datasets]\n"), "line 1"));
}

TEST_CASE("a TOML file's folders are sought where the tool runs, or else beside the file") {
  const test::PictureFolder folder;
  folder.add("pictures/a.png", 1);
  folder.put("set.toml", "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'pictures'\n");
  const auto groups = open_sources(folder.file("set.toml"), test::small_squares());
  CHECK(groups.at(0).subsets.at(0).folder == folder.file("pictures"));
  folder.put("bad.toml", "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'nowhere'\n");
  CHECK(contains(error_of(ExitCode::no_input, [&] { open_sources(folder.file("bad.toml"), {}); }), "nowhere"));
  folder.put("odd.toml", "[[datasets]]\nresolution = 500\n[[datasets.subsets]]\nimage_dir = 'pictures'\n");
  CHECK(contains(error_of(ExitCode::usage, [&] { open_sources(folder.file("odd.toml"), {}); }), "multiple of 8"));
}
