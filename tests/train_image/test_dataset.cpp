// Datasets of pictures: order, class pictures, crops, masks, and pictures that cannot be used.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <fmt/format.h>

#include "io/tensor_file.h"

#include "pictures.h"
#include "support/doctest_last.h"
#include "support/errors.h"

using namespace atelier;
using namespace atelier::train::image;
using base::ExitCode;
using test::contains;
using test::error_of;
using test::numbers_of;
using test::PictureFolder;
using test::small_squares;

namespace {

ImageDataset opened(const PictureFolder& folder, const SourceDefaults& defaults = small_squares(),
                    ImageDatasetOptions options = {}) {
  return ImageDataset(open_sources(folder.root(), defaults), std::move(options));
}

std::vector<std::vector<int>> epoch_of(ImageDataset& data, std::int64_t epoch) {
  std::vector<std::vector<int>> batches;
  for (std::int64_t i = 0; i < data.batches(); ++i) batches.push_back(numbers_of(*data.batch(epoch, i)));
  return batches;
}

std::multiset<int> flat(const std::vector<std::vector<int>>& batches) {
  std::multiset<int> all;
  for (const auto& batch : batches) all.insert(batch.begin(), batch.end());
  return all;
}

void fill(const PictureFolder& folder, int count) {
  for (int i = 0; i < count; ++i) folder.add(fmt::format("{:02}.png", i), 10 + i, fmt::format("picture {}", i));
}

bool same(const ImageBatch& a, const ImageBatch& b) {
  return a.captions == b.captions && a.keys == b.keys && at::equal(a.pixels, b.pixels) && at::equal(a.sizes, b.sizes);
}

}  // namespace

TEST_CASE("every epoch has every picture as often as it is to come up, in an order that seed and epoch decide") {
  const PictureFolder folder;
  for (int i = 0; i < 5; ++i) folder.add(fmt::format("3_a/{}.png", i), i, "x");
  for (int i = 0; i < 4; ++i) folder.add(fmt::format("1_b/{}.png", i), 100 + i, "y");
  ImageDataset data = opened(folder, small_squares(4), {.seed = 3}),
               again = opened(folder, small_squares(4), {.seed = 3});
  CHECK(data.report().found == 9);
  CHECK(data.report().draws == 19);
  CHECK(data.batches() == 5);
  const auto first = epoch_of(data, 0), second = epoch_of(data, 1);
  CHECK(flat(first).size() == 19);
  CHECK(flat(first).count(2) == 3);
  CHECK(flat(first).count(102) == 1);
  CHECK(flat(first) == flat(second));
  CHECK(first != second);
  CHECK(epoch_of(again, 1) == second);  // without having been through the first
  CHECK(epoch_of(data, 0) == first);
  ImageDataset other = opened(folder, small_squares(4), {.seed = 4});
  CHECK(epoch_of(other, 0) != first);
  CHECK(other.sha256() == data.sha256());
}

TEST_CASE("a dataset goes on at its position, bit for bit; an epoch's last step is filled up") {
  const PictureFolder folder;
  for (int i = 0; i < 7; ++i) folder.add(fmt::format("{}.png", i), i, "a, b, c, d", 24, 16);
  SourceDefaults defaults = small_squares(2);
  defaults.subset.flip = defaults.subset.random_crop = true;
  defaults.subset.captions = {.dropout = 0.2, .shuffle = true};
  const ImageDatasetOptions options{.seed = 5, .accumulation = 3};
  ImageDataset whole = opened(folder, defaults, options);
  CHECK(whole.batches() == 4);
  CHECK(whole.steps_per_epoch() == 2);
  std::vector<std::unique_ptr<ImageBatch>> all;
  std::vector<base::Json> positions;
  for (int i = 0; i < 14; ++i) {
    positions.push_back(whole.position());
    all.push_back(whole.next());
  }
  CHECK(all[4]->weight == 0);
  CHECK(!all[5]->pixels.defined());
  CHECK(all[6]->weight > 0);
  for (std::size_t k = 0; k < positions.size(); ++k) {
    ImageDataset resumed = opened(folder, defaults, options);
    resumed.seek(positions[k]);
    for (std::size_t i = k; i < std::min<std::size_t>(k + 3, all.size()); ++i) {
      const auto batch = resumed.next();
      CHECK(batch->weight == all[i]->weight);
      if (batch->weight > 0) CHECK(same(*batch, *all[i]));
    }
  }
  ImageDataset resumed = opened(folder, defaults, options);
  CHECK(contains(error_of(ExitCode::data, [&] { resumed.seek({{"epoch", 0}, {"micro_batch", 6}}); }), "micro_batch"));
  CHECK(contains(error_of(ExitCode::data, [&] { resumed.seek(3); }), "not an object"));
}

TEST_CASE("class pictures: as many as others, beside them, all in turn from epoch to epoch") {
  const PictureFolder folder;
  for (int i = 0; i < 3; ++i) folder.add(fmt::format("own/{}.png", i), i, "a sks dog");
  for (int i = 0; i < 5; ++i) folder.add(fmt::format("class/{}.png", i), 100 + i, "a dog");
  std::vector<SubsetGroup> groups{
      {small_squares().buckets, 2, {{.folder = folder.file("own")}, {.folder = folder.file("class")}}}};
  groups[0].subsets[1].is_class = true;
  ImageDataset data(groups, {.seed = 1, .prior_weight = 0.5});
  CHECK(data.batches() == 2);
  CHECK(data.report().draws == 6);
  CHECK(data.report().class_pictures == 5);
  std::map<int, int> times;
  for (std::int64_t epoch = 0; epoch < 5; ++epoch)
    for (std::int64_t i = 0; i < data.batches(); ++i) {
      const auto batch = data.batch(epoch, i);
      const auto numbers = numbers_of(*batch);
      const auto own = std::count_if(numbers.begin(), numbers.end(), [](int n) { return n < 100; });
      CHECK(2 * own == std::ssize(numbers));
      CHECK(batch->weight == own);
      for (std::size_t k = 0; k < numbers.size(); ++k) {
        CHECK(batch->loss_weights[k] == (numbers[k] < 100 ? 1 : 0.5));
        CHECK(batch->captions[k] == (numbers[k] < 100 ? "a sks dog" : "a dog"));
        ++times[numbers[k]];
      }
    }
  for (int i = 0; i < 5; ++i) CHECK(times[100 + i] == 3);
  for (int i = 0; i < 3; ++i) CHECK(times[i] == 5);

  for (auto& subset : groups[0].subsets) subset.is_class = true;
  CHECK(contains(error_of(ExitCode::data, [&] { ImageDataset(groups, {}); }), "class pictures only"));
}

TEST_CASE("with buckets a batch has one size") {
  const PictureFolder folder;
  for (int i = 0; i < 12; ++i)
    folder.add(fmt::format("{:02}.png", i), i, "x", i % 3 == 0 ? 36 : 12, i % 3 == 1 ? 36 : 12);
  SourceDefaults defaults = small_squares(4);
  defaults.buckets.enabled = true;
  ImageDataset data = opened(folder, defaults);
  CHECK(data.report().buckets.size() == 3);
  CHECK(data.batches() == 3);
  std::set<std::vector<std::int64_t>> shapes;
  for (std::int64_t i = 0; i < 3; ++i) {
    const auto batch = data.batch(0, i);
    shapes.insert(batch->pixels.sizes().vec());
    CHECK(batch->sizes[0][4].item<std::int64_t>() == batch->pixels.size(2));
    CHECK(batch->sizes[0][5].item<std::int64_t>() == batch->pixels.size(3));
  }
  CHECK(shapes == std::set<std::vector<std::int64_t>>{{4, 3, 16, 16}, {4, 3, 8, 24}, {4, 3, 24, 8}});
}

TEST_CASE("crops and flips: where a picture is cut is told, and is drawn") {
  const PictureFolder folder;
  folder.add("a.png", 7, "x", 24, 16);  // its columns are told by the second channel
  SourceDefaults defaults = small_squares();
  ImageDataset plain = opened(folder, defaults);
  const auto column = [](const ImageBatch& batch, int x) {
    return static_cast<int>((batch.pixels[0][1][0][x].item<float>() + 1) * 127.5 + 0.5);
  };
  auto batch = plain.batch(0, 0);
  CHECK(column(*batch, 0) == 4);
  CHECK(column(*batch, 15) == 19);
  const auto sizes = batch->sizes[0];
  const std::vector<std::int64_t> told{16, 24, 0, 4, 16, 16};
  for (int i = 0; i < 6; ++i) CHECK(sizes[i].item<std::int64_t>() == told[static_cast<std::size_t>(i)]);

  defaults.subset.flip = defaults.subset.random_crop = true;
  ImageDataset drawn = opened(folder, defaults);
  std::set<int> lefts, mirrored_lefts;
  for (int epoch = 0; epoch < 200; ++epoch) {
    batch = drawn.batch(epoch, 0);
    const int left = static_cast<int>(batch->sizes[0][3].item<std::int64_t>());
    const bool mirrored = column(*batch, 0) > column(*batch, 1);
    CHECK(column(*batch, 0) == (mirrored ? 23 - left : left));
    (mirrored ? mirrored_lefts : lefts).insert(left);
  }
  CHECK(lefts.size() == 9);
  CHECK(mirrored_lefts.size() == 9);
}

TEST_CASE("a picture is resized, mirrored and cut, and its mask averaged, as with Pillow") {
  const std::string data = std::string(ATELIER_TEST_DATA) + "/train_image";
  const auto goldens = io::read_tensors(data + "/cut.safetensors");
  DataReport report;
  const std::vector<SubsetGroup> groups{{{.resolution = {16, 16}}, 1, {{.folder = data}}}};
  const auto entries = scan_pictures(groups, {.masks = true}, report);
  REQUIRE(entries.size() == 1);
  CHECK(entries[0].has_alpha);
  for (const bool mirrored : {false, true}) {
    const CutPicture cut = cut_picture(entries[0], mirrored, nullptr, true, false);
    const std::string prefix = mirrored ? "mirrored." : "";
    const auto pixels = (to_pixels(cut.picture) - goldens.at(prefix + "pixels")).abs().max().item<float>();
    CHECK(pixels < 1.01f * 2 / 255);
    const auto mask = (to_latent_mask(cut.mask, {16, 16}, 8) - goldens.at(prefix + "mask")).abs().max().item<float>();
    CHECK(mask < 0.005f);
    CHECK(cut.left == 4);
  }
}

TEST_CASE("masks: a file beside the picture or in a folder, else what is opaque, else everything") {
  const PictureFolder folder;
  const auto half = [](int channels) {
    image::Image mask(16, 16, channels, 255);
    for (int y = 0; y < 16; ++y)
      for (int x = 0; x < 8; ++x) mask.at(x, y)[channels - 1] = 0;
    return mask;
  };
  folder.add("p/a.png", 1, "beside");
  folder.picture("p/a.mask.png", half(1));
  folder.add("p/b.png", 2, "folder");
  folder.picture("m/b.png", half(1));
  folder.add("p/c.png", 3, "none");
  folder.picture("p/d.png", half(4));
  folder.put("p/d.txt", "opaque part");
  const std::vector<SubsetGroup> groups{
      {small_squares().buckets, 4, {{.folder = folder.file("p"), .mask_folder = folder.file("m")}}}};
  ImageDataset data(groups, {.masked_loss = true});
  const auto batch = data.batch(0, 0);
  REQUIRE(batch->mask.sizes().vec() == std::vector<std::int64_t>{4, 1, 2, 2});
  for (std::size_t i = 0; i < 4; ++i) {
    CAPTURE(batch->captions[i]);
    const auto mask = batch->mask[static_cast<std::int64_t>(i)][0];
    CHECK(mask[0][1].item<float>() == 1);
    CHECK(mask[1][0].item<float>() == (batch->captions[i] == "none" ? 1 : 0));
  }
  ImageDataset unmasked(groups, {});
  CHECK(!unmasked.batch(0, 0)->mask.defined());
  CHECK(unmasked.sha256() != data.sha256());
  CHECK(unmasked.report().count(Problem::transparent) == 1);
}

TEST_CASE("pictures that cannot be used are left out with a count, or are an error") {
  const PictureFolder folder;
  fill(folder, 3);
  folder.put("cut.png", test::get_file(folder.file("00.png")).substr(0, 60));
  folder.put("text.jpg", "no picture");
  folder.put("movie.webp", "RIFF0000WEBPVP8 ");
  folder.add("latin.png", 9);
  folder.put("latin.txt", "caf\xE9");
  folder.put("empty.png", "");
  ImageDataset data = opened(folder);
  CHECK(data.report().found == 8);
  CHECK(data.report().kept == 3);
  CHECK(data.report().count(Problem::unreadable) == 5);
  const std::string told = data.report().json().dump();
  for (const char* part :
       {"is a WebP picture", "latin.txt: is not valid UTF-8", "neither a PNG nor a JPEG", "empty.png: is empty"})
    CHECK(contains(told, part));
  CHECK(contains(error_of(ExitCode::data, [&] { opened(folder, small_squares(), {.strict = true}); }), "cut.png"));
  const PictureFolder hopeless;
  hopeless.put("a.png", "x");
  CHECK(contains(error_of(ExitCode::data, [&] { opened(hopeless); }), "no picture can be used"));
}

TEST_CASE("what is remarkable is found") {
  const PictureFolder folder;
  folder.add("a.png", 1, "a dog");
  folder.put("b.png", test::get_file(folder.file("a.png")));
  folder.put("b.txt", "{a|b}");
  folder.add("c.png", 2, "", 8, 8);
  std::string longest;
  for (int i = 0; i < 76; ++i) longest += "dog ";
  folder.add("d.png", 3, longest);
  ImageDataset data = opened(folder, small_squares(), {.tokenizer = text::ClipTokenizer::builtin(false)});
  const DataReport& report = data.report();
  CHECK(report.kept == 4);
  for (const Problem problem :
       {Problem::duplicate, Problem::wildcards_unused, Problem::tiny, Problem::no_caption, Problem::caption_cut})
    CHECK(report.count(problem) == 1);
  CHECK(report.findings.size() == 5);
  CHECK(report.json()["problems"]["tiny"] == 1);
  CHECK(contains(report.json().dump(), "has 76 tokens in its caption, of which 75 are read"));
  const auto sheet = contact_sheet(data);
  CHECK(sheet.width == 4 * 16 + 3 * 4);
  CHECK(sheet.height == 16);
}

TEST_CASE("one picture is enough, and a picture that has changed is noticed") {
  const PictureFolder folder;
  folder.add("a.png", 1, "x");
  ImageDataset data = opened(folder, small_squares(4));
  CHECK(data.batches() == 1);
  CHECK(data.batch(7, 0)->captions == std::vector<std::string>{"x"});
  folder.add("a.png", 2, "x");
  CHECK(contains(error_of(ExitCode::data, [&] { data.batch(0, 0); }), "has changed"));
}

TEST_CASE("another picture, caption or option is another dataset; another place is not") {
  const PictureFolder one, two;
  fill(one, 3);
  fill(two, 3);
  const std::string sha256 = opened(one).sha256();
  CHECK(opened(two).sha256() == sha256);
  two.put("01.txt", "other");
  CHECK(opened(two).sha256() != sha256);
  two.put("01.txt", "picture 1");
  CHECK(opened(two).sha256() == sha256);
  two.add("02.png", 77, "picture 2");
  CHECK(opened(two).sha256() != sha256);
  SourceDefaults defaults = small_squares();
  defaults.subset.flip = true;
  CHECK(opened(one, defaults).sha256() != sha256);
  CHECK(opened(one, small_squares(2)).sha256() != sha256);
}

TEST_CASE("captions that can be listed, and tags as they are counted") {
  const PictureFolder folder;
  folder.add("2_x/a.png", 1, "red, ball");
  folder.add("2_x/b.png", 2, "ball");
  folder.add("1_y/c.png", 3);
  SourceDefaults defaults = small_squares();
  ImageDataset data = opened(folder, defaults);
  CHECK(!data.captions_vary());
  CHECK(data.captions() == std::vector<std::string>{"ball", "red, ball", "y"});
  CHECK(data.tag_frequency().dump() == R"({"1_y":{"y":1},"2_x":{"ball":2,"red":1}})");
  defaults.subset.captions.dropout = 0.1;
  CHECK(opened(folder, defaults).captions().front().empty());
  defaults.subset.captions.shuffle = true;
  CHECK(opened(folder, defaults).captions_vary());
}
