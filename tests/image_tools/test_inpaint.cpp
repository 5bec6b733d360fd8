// sd-inpaint as its users see it: what the mask does not reach comes back bit for bit, whatever else is asked for.
#include <cmath>
#include <filesystem>

#include "image/image.h"
#include "image/mask.h"
#include "image/read.h"
#include "image/write.h"
#include "image_tools/models.h"

#include "support/doctest_last.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

/// 45x39: no side is a multiple of 8.
image::Image photograph() {
  image::Image picture(45, 39, 3);
  for (int y = 0; y < picture.height; ++y)
    for (int x = 0; x < picture.width; ++x)
      for (int c = 0; c < 3; ++c)
        picture.at(x, y)[c] = static_cast<std::uint8_t>((x * (5 + c) + y * 3 + (x * y * (c + 1)) % 23) % 256);
  return picture;
}

struct Counts {
  int changed = 0, changed_outside = 0;
};

/// Pixels that differ from the original: anywhere, and farther than `feather` from the box [x0, x1) x [y0, y1).
Counts changes(const image::Image& original, const image::Image& result, int x0, int y0, int x1, int y1,
               double feather) {
  Counts counts;
  REQUIRE(original.same_size(result));
  for (int y = 0; y < original.height; ++y) {
    for (int x = 0; x < original.width; ++x) {
      if (std::equal(original.at(x, y), original.at(x, y) + 3, result.at(x, y))) continue;
      ++counts.changed;
      const double dx = std::max({0, x0 - x, x - (x1 - 1)}), dy = std::max({0, y0 - y, y - (y1 - 1)});
      if (std::hypot(dx, dy) > feather) ++counts.changed_outside;
    }
  }
  return counts;
}

class Inpainting {
 public:
  Inpainting() { folder_.write("init.png", image::encode_png(picture_)); }

  Result run(std::vector<std::string> more, const std::string& model = "sd15") const {
    std::vector<std::string> args = {
        "--init", folder_.file("init.png"), "-p", "a cat in the sea", "--steps", "3", "-s", "3", "--quiet",
        "-o",     folder_.file("out.png")};
    args.insert(args.end(), more.begin(), more.end());
    return image_tool("sd-inpaint", model, args);
  }

  image::Image made(const std::vector<std::string>& more, const std::string& model = "sd15") const {
    const Result result = run(more, model);
    CAPTURE(result.err);
    REQUIRE(result.code == 0);
    return image::read_image(folder_.file("out.png"));
  }

  const image::Image& picture() const { return picture_; }
  const TempFolder& folder() const { return folder_; }

 private:
  image::Image picture_ = photograph();
  TempFolder folder_;
};

const std::vector<std::string> kBox = {"--mask-shape", "rect:12,10,16,12"};

std::vector<std::string> with_box(std::vector<std::string> more) {
  more.insert(more.end(), kBox.begin(), kBox.end());
  return more;
}

}  // namespace

TEST_CASE("pixels outside mask plus feather are bit-identical, whatever is asked for") {
  const Inpainting tool;
  std::vector<std::vector<std::string>> all = {{},
                                               {"--feather", "0"},
                                               {"--feather", "9"},
                                               {"--strength", "0.7"},
                                               {"--only-masked", "-W", "32", "-H", "32"},
                                               {"--only-masked", "--padding", "3", "-W", "40", "-H", "24"},
                                               {"--soft-inpaint", "--feather", "6"},
                                               {"--soft-inpaint", "--only-masked", "-W", "32", "-H", "32"}};
  for (const char* content : {"fill", "noise", "nothing"})
    for (const char* strength : {"1", "0.7"}) all.push_back({"--masked-content", content, "--strength", strength});
  for (const char* blend : {"multiply", "screen", "overlay", "soft-light", "luminosity", "poisson"})
    all.push_back({"--blend", blend});
  for (const auto& flags : all) {
    std::string shown;
    double feather = 4;
    for (std::size_t i = 0; i < flags.size(); ++i) {
      shown += flags[i] + " ";
      if (flags[i] == "--feather") feather = std::stod(flags[i + 1]);
    }
    CAPTURE(shown);
    const Counts counts = changes(tool.picture(), tool.made(with_box(flags)), 12, 10, 28, 22, feather);
    CHECK(counts.changed > 20);
    CHECK(counts.changed_outside == 0);
  }
  for (const char* model : {"inpaint", "sdxl"}) {
    const Counts counts = changes(tool.picture(), tool.made(kBox, model), 12, 10, 28, 22, 4);
    CHECK(counts.changed > 20);
    CHECK(counts.changed_outside == 0);
  }
}

TEST_CASE("what the masked part begins as makes a difference, also at full strength") {
  const Inpainting tool;
  for (const char* strength : {"1", "0.7"}) {
    const auto original = tool.made(with_box({"--strength", strength}));
    for (const char* content : {"fill", "noise", "nothing"})
      CHECK(tool.made(with_box({"--strength", strength, "--masked-content", content})) != original);
  }
}

TEST_CASE("soft inpainting keeps more of the picture where the mask is grey") {
  const Inpainting tool;
  image::Image grey(45, 39, 1);
  for (int y = 8; y < 32; ++y)
    for (int x = 8; x < 36; ++x) *grey.at(x, y) = 110;
  tool.folder().write("mask.png", image::encode_png(grey));
  const auto mean_change = [&](const image::Image& result) {
    double sum = 0;
    for (std::size_t i = 0; i < result.data.size(); ++i)
      sum += std::abs(static_cast<int>(result.data[i]) - static_cast<int>(tool.picture().data[i]));
    return sum / static_cast<double>(result.data.size());
  };
  const std::vector<std::string> soft = {"--mask", tool.folder().file("mask.png"), "--soft-inpaint", "--feather", "2"};
  auto unlike = soft;
  unlike.insert(unlike.end(), {"--soft-threshold", "8"});
  const auto usual = tool.made(soft), kept = tool.made(unlike);
  CHECK(mean_change(usual) > 0);
  CHECK(mean_change(kept) < mean_change(usual));
  for (const char* flag : {"--soft-bias", "--soft-preservation", "--soft-contrast", "--soft-sharpness"}) {
    auto other = unlike;
    other.insert(other.end(), {flag, "3"});
    CAPTURE(std::string(flag));
    CHECK(tool.made(other) != kept);
  }
  unlike.insert(unlike.end(), {"--soft-mask-influence", "1"});
  CHECK(tool.made(unlike) != kept);
}

TEST_CASE("masks: files, transparency, drawings, shapes; inverted, grown, of another size") {
  const Inpainting tool;
  const auto counts = [&](std::vector<std::string> flags, int x0, int y0, int x1, int y1) {
    flags.insert(flags.end(), {"--feather", "0"});
    return changes(tool.picture(), tool.made(flags), x0, y0, x1, y1, 0);
  };
  image::Image mask(45, 39, 1);
  for (int y = 10; y < 22; ++y)
    for (int x = 12; x < 28; ++x) *mask.at(x, y) = 255;
  tool.folder().write("mask.png", image::encode_png(mask));
  const auto file = counts({"--mask", tool.folder().file("mask.png")}, 12, 10, 28, 22);
  CHECK(file.changed > 100);
  CHECK(file.changed_outside == 0);
  const auto whole = tool.made({"--mask", tool.folder().file("mask.png")});
  CHECK(tool.made(kBox) == whole);  // the same mask as a shape
  CHECK(tool.made({"--mask-shape", "rect:12,10,8,12", "--mask-shape", "rect:20,10,8,12"}) == whole);
  CHECK(tool.made({"--mask-shape", "polygon:12,10 28,10 28,22 12,22"}) == whole);
  tool.folder().write(
      "mask.svg",
      R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 45 39"><rect x="12" y="10" width="16" height="12" fill="#fff"/></svg>)");
  CHECK(tool.made({"--mask-svg", tool.folder().file("mask.svg")}) == whole);
  tool.folder().write("inverse.png", image::encode_png(image::invert(mask)));
  CHECK(tool.made({"--mask", tool.folder().file("inverse.png"), "--invert-mask"}) == whole);
  CHECK(counts(with_box({"--grow", "3"}), 9, 7, 31, 25).changed_outside == 0);
  CHECK(counts(with_box({"--grow", "3"}), 12, 10, 28, 22).changed_outside > 0);
  CHECK(counts(with_box({"--grow", "-3"}), 15, 13, 25, 19).changed_outside == 0);
  const auto outside =
      changes(tool.picture(), tool.made(with_box({"--invert-mask", "--feather", "0"})), 0, 0, 45, 39, 0);
  CHECK(outside.changed > 500);

  // Twice as large: the same place. Of other proportions: stretched, with a warning.
  image::Image large(90, 78, 1), square(40, 40, 1);
  for (int y = 20; y < 44; ++y)
    for (int x = 24; x < 56; ++x) *large.at(x, y) = 255;
  for (int y = 10; y < 30; ++y)
    for (int x = 10; x < 30; ++x) *square.at(x, y) = 255;
  tool.folder().write("large.png", image::encode_png(large));
  tool.folder().write("square.png", image::encode_png(square));
  CHECK(counts({"--mask", tool.folder().file("large.png")}, 11, 9, 29, 23).changed_outside == 0);
  const Result warned =
      image_tool("sd-inpaint", "sd15",
                 {"--init", tool.folder().file("init.png"), "--mask", tool.folder().file("square.png"), "-p", "a",
                  "--steps", "2", "-o", tool.folder().file("w.png")});
  CHECK(warned.code == 0);
  CHECK(contains(warned.err, "square.png"));

  // What is transparent in --init.
  image::Image transparent(45, 39, 4);
  for (int y = 0; y < 39; ++y)
    for (int x = 0; x < 45; ++x) {
      std::copy_n(tool.picture().at(x, y), 3, transparent.at(x, y));
      transparent.at(x, y)[3] = *mask.at(x, y) == 255 ? 0 : 255;
    }
  tool.folder().write("init.png", image::encode_png(transparent));
  CHECK(tool.made({}) == whole);
  // Beside a mask of its own transparency stays what it was, outside the mask.
  for (const int y : {2, 15}) transparent.at(3, y)[3] = 90;
  transparent.at(20, 15)[3] = 90;
  tool.folder().write("init.png", image::encode_png(transparent));
  const auto kept = tool.made(kBox);
  REQUIRE(kept.channels == 4);
  for (int y = 0; y < 39; ++y)
    for (int x = 0; x < 7; ++x) CHECK(std::equal(kept.at(x, y), kept.at(x, y) + 4, transparent.at(x, y)));
  CHECK(kept.at(20, 15)[3] == 255);
  CHECK(image::to_rgb(kept) == whole);
}

TEST_CASE("another size: the picture and its mask go together") {
  const Inpainting tool;
  for (const char* mode : {"stretch", "crop", "pad"}) {
    const auto result = tool.made(with_box({"-W", "64", "-H", "48", "--resize-mode", mode}));
    CHECK(result.width == 64);
    CHECK(result.height == 48);
  }
}

TEST_CASE("batches, jobs, --reproduce and metadata of inpainting") {
  const Inpainting tool;
  const auto& folder = tool.folder();
  for (const char* size : {"1", "2"})
    CHECK(tool.run(with_box({"--count", "2", "--batch-size", size, "--soft-inpaint", "--sampler", "euler_a", "-o",
                             folder.file(std::string("b") + size + "_%d.png")}))
              .code == 0);
  CHECK(
      tool.run(with_box({"-s", "4", "--soft-inpaint", "--sampler", "euler_a", "-o", folder.file("alone.png")})).code ==
      0);
  CHECK(folder.read("b2_1.png") == folder.read("b1_1.png"));
  CHECK(folder.read("b2_1.png") == folder.read("alone.png"));
  const Result again =
      image_tool("sd-inpaint", "sd15", {"--reproduce", folder.file("alone.png"), "-o", folder.file("again.png")});
  CAPTURE(again.err);
  CHECK(again.code == 0);
  CHECK(folder.read("again.png") == folder.read("alone.png"));

  const std::string jobs = R"({"id":1,"mask_shape":["rect:12,10,16,12"],"blend":"poisson"}
{"id":2}
{"id":3,"mask_shape":["circle:1,2"]}
)";
  const Result batch = image_tool("sd-inpaint", "sd15",
                                  {"--init", folder.file("init.png"), "-p", "a", "--steps", "2", "--jobs", "-",
                                   "--quiet", "-o", folder.file("j_%d.png")},
                                  jobs);
  CHECK(batch.code == 3);
  const auto records = json_lines(batch.out);
  REQUIRE(records.size() == 3);
  CHECK(records[0]["width"] == 45);
  CHECK(records[1]["code"] == 64);
  CHECK(records[2]["code"] == 64);
}

TEST_CASE("masks that cannot be used end with one line and the contract's code") {
  const Inpainting tool;
  const auto& folder = tool.folder();
  folder.write("empty.png", image::encode_png(image::Image(45, 39, 1)));
  folder.write("torn.png", "abc");
  folder.write("torn.svg", "<svg");
  CHECK(tool.run({}).code == 64);
  CHECK(tool.run({"--mask", folder.file("empty.png")}).code == 65);
  CHECK(tool.run({"--mask", folder.file("torn.png")}).code == 65);
  CHECK(tool.run({"--mask-svg", folder.file("torn.svg")}).code == 65);
  CHECK(tool.run({"--mask", folder.file("none.png")}).code == 66);
  CHECK(tool.run({"--mask-shape", "rect:1,2"}).code == 64);
  CHECK(tool.run(with_box({"--blend", "dodge"})).code == 64);
  CHECK(tool.run(with_box({"--masked-content", "black"})).code == 64);
  CHECK(!std::filesystem::exists(folder.file("out.png")));
}
