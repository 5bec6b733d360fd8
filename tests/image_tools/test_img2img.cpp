// sd-img2img as its users see it: strengths, sizes, pictures of every kind, bad ones.
#include <filesystem>

#include "image/image.h"
#include "image/read.h"
#include "image/write.h"
#include "image_tools/models.h"

#include "support/doctest_last.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

std::string given(const std::string& name) { return std::string(ATELIER_TEST_DATA) + "/image/" + name; }

Result img2img(const std::vector<std::string>& more) {
  std::vector<std::string> args = {"-p", "a cat in the sea", "--steps", "4", "-s", "3", "--quiet"};
  args.insert(args.end(), more.begin(), more.end());
  return image_tool("sd-img2img", "sd15", args);
}

}  // namespace

TEST_CASE("the strength schedule: 1 throughout changes nothing, 0 gives the given picture back") {
  const TempFolder folder;
  const std::string init = picture_data("init.png");
  const auto made = [&](const std::string& name, std::vector<std::string> more) {
    more.insert(more.end(), {"--init", init, "-o", folder.file(name)});
    CHECK(img2img(more).code == 0);
    return folder.file(name);
  };
  const std::string plain = made("plain.png", {"--strength", "1"});
  CHECK(distance_of_files(plain, made("one.png", {"--strength", "1", "--strength-schedule", "0:1,1:1"})).largest == 0);
  const std::string none = made("none.png", {"--strength", "1", "--strength-schedule", "0:0"});
  // Nothing of the model's own is left: whatever the prompt, it is the picture through the autoencoder.
  CHECK(
      distance_of_files(none, made("other.png", {"--strength", "1", "--strength-schedule", "0:0", "-p", "an old man"}))
          .largest == 0);
  const std::string falling = made("f.png", {"--strength", "1", "--strength-schedule", "0:1, 0.5:0.6, 1:0.2"});
  const double far = distance_of_files(plain, none).mean;
  CHECK(distance_of_files(falling, none).mean < far);
  CHECK(distance_of_files(falling, none).mean > 0);
  for (const char* bad : {"0", "0:2", "0.5:1,0.2:1", "a:1", "0:1,"})
    CHECK(img2img({"--init", init, "--strength-schedule", bad}).code == 64);
}

TEST_CASE("sizes: the given picture's, rounded down, or any other by the resize mode") {
  const TempFolder folder;
  image::Image odd(45, 30, 3, 90);
  folder.write("odd.png", image::encode_png(odd));
  const auto size_of = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--init", folder.file("odd.png"), "-o", folder.file("a.png")});
    const Result result = img2img(more);
    CAPTURE(result.err);
    CHECK(result.code == 0);
    const auto info = image::read_info(folder.file("a.png"));
    return std::pair{info.width, info.height};
  };
  CHECK(size_of({}) == std::pair{40, 24});
  CHECK(size_of({"-W", "64"}) == std::pair{64, 24});
  for (const char* mode : {"stretch", "crop", "pad"})
    CHECK(size_of({"-W", "32", "-H", "48", "--resize-mode", mode}) == std::pair{32, 48});
  CHECK(img2img({"--init", folder.file("odd.png"), "-W", "33"}).code == 64);
}

TEST_CASE("--plan counts with the given picture's size") {
  const TempFolder folder;
  const auto activations = [&](int side) {
    const std::string path = folder.write("p.png", image::encode_png(image::Image(side, side, 3)));
    return json_lines(img2img({"--init", path, "--plan"}).out)[0]["bytes"]["activations"].get<std::int64_t>();
  };
  CHECK(activations(512) > 10 * activations(128));
}

TEST_CASE("pictures of every kind come in, the camera's orientation respected") {
  const TempFolder folder;
  for (const char* name :
       {"rgb.png", "rgba.png", "grey.png", "grey_alpha.png", "palette.png", "bilevel.png", "deep.png", "deep_grey.png",
        "interlaced.png", "animated.png", "rgb.jpg", "grey.jpg", "cmyk.jpg", "progressive.jpg", "subsampled.jpg"}) {
    CAPTURE(name);
    const Result result = img2img({"--init", given(name), "-W", "32", "-H", "24", "-o", folder.file("a.png")});
    CAPTURE(result.err);
    CHECK(result.code == 0);
  }
  // As if the picture had been turned before.
  for (int i = 1; i <= 8; ++i) {
    const std::string name = given("oriented" + std::to_string(i) + ".png");
    folder.write("turned.png", image::encode_png(image::read_image(name)));
    CHECK(img2img({"--init", name, "-W", "32", "-H", "32", "-o", folder.file("o.png")}).code == 0);
    CHECK(img2img({"--init", folder.file("turned.png"), "-W", "32", "-H", "32", "-o", folder.file("t.png")}).code == 0);
    CHECK(distance_of_files(folder.file("o.png"), folder.file("t.png")).largest == 0);
    if (i > 1) CHECK(distance_of_files(folder.file("o.png"), folder.file("first.png")).largest > 0);
    if (i == 1) std::filesystem::copy_file(folder.file("o.png"), folder.file("first.png"));
  }
  CHECK(img2img({"--init", given("rgb.jpg"), "-W", "32", "-H", "24", "-o", folder.file("a.jpg")}).code == 0);
  CHECK(image::read_info(folder.file("a.jpg")).format == image::Format::jpeg);
}

TEST_CASE("pictures that cannot be read end with one line and the contract's code") {
  const TempFolder folder;
  const std::string whole = image::encode_png(image::Image(32, 24, 3, 7));
  folder.write("empty.png", "");
  folder.write("torn.png", whole.substr(0, whole.size() / 2));
  folder.write("text.png", "not a picture");
  folder.write("gif.gif", "GIF89a\x01\x02");
  std::string huge = whole;
  huge[16] = huge[20] = '\x7f';  // the header's width and height; its checksum goes wrong with them
  folder.write("huge.png", huge);
  for (const char* name : {"empty.png", "torn.png", "text.png", "gif.gif", "huge.png"}) {
    const Result result = img2img({"--init", folder.file(name), "-o", folder.file("a.png")});
    CAPTURE(result.err);
    CHECK(result.code == 65);
    CHECK(contains(result.err, name));
    CHECK(lines_of(result.err).size() <= 2);
  }
  CHECK(img2img({"--init", given("four_inks.jpg"), "-o", folder.file("a.png")}).code == 65);
  CHECK(img2img({"--init", folder.file("none.png")}).code == 66);
  CHECK(img2img({"--init", folder.path().string()}).code == 66);
  CHECK(img2img({}).code == 64);
  CHECK(img2img({"--init", given("rgb.png"), "--strength", "0.1", "--sampler", "euler"}).code == 64);
  CHECK(img2img({"--init", given("rgb.png"), "--strength", "2"}).code == 64);
  CHECK(!std::filesystem::exists(folder.file("a.png")));
  CHECK(image_tool("sd-img2img", "inpaint", {"--init", given("rgb.png"), "-p", "a", "-W", "32", "-H", "24"}).code ==
        65);
}

TEST_CASE("colours of the given picture, batches, the prompt from a pipe, --reproduce") {
  const TempFolder folder;
  const std::string init = picture_data("init.png");
  for (const char* match : {"none", "mean", "histogram"})
    CHECK(img2img({"--init", init, "--colour-match", match, "-o", folder.file(std::string(match) + ".png")}).code == 0);
  const double apart = distance_of_files(init, folder.file("none.png")).mean;
  CHECK(distance_of_files(init, folder.file("mean.png")).mean < apart);
  CHECK(distance_of_files(init, folder.file("histogram.png")).mean < apart);

  for (const char* size : {"1", "2"})
    CHECK(img2img({"--init", init, "--count", "2", "--batch-size", size, "-o",
                   folder.file(std::string("b") + size + "_%d.png")})
              .code == 0);
  CHECK(img2img({"--init", init, "-s", "4", "-o", folder.file("alone.png")}).code == 0);
  CHECK(folder.read("b2_1.png") == folder.read("b1_1.png"));
  CHECK(folder.read("b2_1.png") == folder.read("alone.png"));

  const Result again =
      image_tool("sd-img2img", "sd15", {"--reproduce", folder.file("mean.png"), "-o", folder.file("again.png")});
  CAPTURE(again.err);
  CHECK(again.code == 0);
  CHECK(folder.read("again.png") == folder.read("mean.png"));
  CHECK(image_tool("sd-txt2img", "sd15", {"--reproduce", folder.file("mean.png")}).code == 64);
}
