// Caches on disk: shared, resumed, damaged, and what they hold being what would be computed.
#include <filesystem>

#include <ATen/TensorOperators.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include "pictures.h"
#include "support/doctest_last.h"
#include "support/errors.h"
#include "train/image/tensor_cache.h"

using namespace atelier;
using namespace atelier::train::image;
using base::ExitCode;
using test::contains;
using test::error_of;
using test::PictureFolder;
using test::small_squares;

namespace {

/// Stands for an autoencoder: means of 8x8 pixels, and how often it was asked.
struct Encoder {
  int calls = 0;
  at::Tensor operator()(const at::Tensor& pixels) {
    ++calls;
    const at::Tensor mean = at::avg_pool2d(pixels, {8, 8});  // (1, 3, h, w)
    return at::cat({mean, mean.slice(1, 0, 1), mean * 2, mean.slice(1, 0, 1)}, 1);
  }
};

ImageDataset opened(const PictureFolder& folder, bool flip, ImageDatasetOptions options = {}) {
  SourceDefaults defaults = small_squares(2);
  defaults.subset.flip = flip;
  return ImageDataset(open_sources(folder.root(), defaults), std::move(options));
}

std::size_t files_in(const std::string& folder) {
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    files += entry.is_regular_file() ? 1 : 0;
  return files;
}

}  // namespace

TEST_CASE("an entry is computed once, and anew where its file is damaged") {
  const test::Scratch scratch;
  const TensorCache cache(scratch.file("cache"), "things", {{"model", "a"}});
  int computed = 0;
  const auto compute = [&] {
    ++computed;
    return train::TensorMap{{"x", at::full({2, 3}, 1.5)}};
  };
  CHECK(!cache.load("k"));
  CHECK(at::equal(cache.get("k", compute).at("x"), at::full({2, 3}, 1.5)));
  CHECK(at::equal(cache.get("k", compute).at("x"), at::full({2, 3}, 1.5)));
  CHECK(computed == 1);
  CHECK(TensorCache(scratch.file("cache"), "things", {{"model", "a"}}).has("k"));
  CHECK(!TensorCache(scratch.file("cache"), "things", {{"model", "b"}}).has("k"));
  CHECK(!TensorCache(scratch.file("cache"), "others", {{"model", "a"}}).has("k"));
  const std::string path = cache.folder() + "/k.safetensors";
  test::put_file(path, test::get_file(path).substr(0, 20));
  CHECK(!cache.load("k"));
  cache.get("k", compute);
  CHECK(computed == 2);
  CHECK(cache.load("k"));
  test::put_file(scratch.file("file"), "");
  const TensorCache nowhere(scratch.file("file"), "things", {});
  CHECK(error_of(ExitCode::cannot_create, [&] { nowhere.store("k", compute()); }) != "(no error)");
}

TEST_CASE("cached latents are those of the pictures; what is there is not computed again") {
  const PictureFolder folder;
  for (int i = 0; i < 3; ++i) folder.add(std::to_string(i) + ".png", 40 + i, "x", 24, 16);
  const test::Scratch scratch;
  const auto cache = std::make_shared<TensorCache>(scratch.file("c"), "latents", base::Json{{"vae", 1}});
  Encoder encoder, second;
  ImageDataset plain = opened(folder, true), cached = opened(folder, true), again = opened(folder, true);
  cached.cache_latents(cache, std::ref(encoder));
  CHECK(encoder.calls == 6);  // each as it is and mirrored
  CHECK(files_in(scratch.path()) == 6);
  for (std::int64_t epoch = 0; epoch < 4; ++epoch)
    for (std::int64_t i = 0; i < cached.batches(); ++i) {
      const auto a = plain.batch(epoch, i), b = cached.batch(epoch, i);
      CHECK(!b->pixels.defined());
      REQUIRE(b->moments.size(1) == 8);
      for (std::int64_t k = 0; k < b->moments.size(0); ++k)
        CHECK(at::equal(b->moments[k], second(a->pixels.slice(0, k, k + 1))[0]));
      CHECK(at::equal(a->sizes, b->sizes));
      CHECK(a->captions == b->captions);
    }
  CHECK(encoder.calls == 6);
  again.cache_latents(cache, std::ref(encoder));
  CHECK(encoder.calls == 6);
  std::filesystem::remove(std::filesystem::directory_iterator(cache->folder())->path());
  again.cache_latents(cache, std::ref(encoder));
  CHECK(encoder.calls == 7);
}

TEST_CASE("another size, picture or mask is another entry") {
  const PictureFolder folder;
  folder.add("a.png", 1, "x");
  const test::Scratch scratch;
  const auto cache = std::make_shared<TensorCache>(scratch.file("c"), "latents", base::Json{});
  Encoder encoder;
  ImageDataset small = opened(folder, false), masked = opened(folder, false, {.masked_loss = true});
  small.cache_latents(cache, std::ref(encoder));
  masked.cache_latents(cache, std::ref(encoder));
  CHECK(encoder.calls == 2);
  CHECK(at::equal(masked.batch(0, 0)->mask, at::ones({1, 1, 2, 2})));
  folder.picture("a.mask.png", image::Image(16, 16, 1, 0));
  ImageDataset other = opened(folder, false, {.masked_loss = true});
  other.cache_latents(cache, std::ref(encoder));
  CHECK(encoder.calls == 3);
  CHECK(other.batch(0, 0)->mask.max().item<float>() == 0);
  SourceDefaults larger = small_squares();
  larger.buckets.resolution = {32, 32};
  ImageDataset big(open_sources(folder.root(), larger), {});
  big.cache_latents(cache, std::ref(encoder));
  CHECK(encoder.calls == 4);
}

TEST_CASE("what cannot be cached") {
  const PictureFolder folder;
  folder.add("a.png", 1, "x");
  const test::Scratch scratch;
  const auto cache = std::make_shared<TensorCache>(scratch.file("c"), "latents", base::Json{});
  SourceDefaults defaults = small_squares();
  defaults.subset.random_crop = true;
  ImageDataset data(open_sources(folder.root(), defaults), {});
  CHECK(contains(error_of(ExitCode::usage, [&] { data.cache_latents(cache, Encoder()); }), "random crops"));
  ImageDataset other = opened(folder, false);
  const auto broken = [](const at::Tensor&) { return at::full({1, 8, 2, 2}, NAN); };
  CHECK(contains(error_of(ExitCode::condition, [&] { other.cache_latents(cache, broken); }),
                 "a.png: the autoencoder makes NaN"));
  CHECK(!std::filesystem::exists(scratch.file("c")));
}
