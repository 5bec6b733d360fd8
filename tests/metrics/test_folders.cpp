// Figures of whole folders, what becomes of files that cannot be used, and the cache of features.
#include <algorithm>
#include <filesystem>
#include <set>
#include <stdexcept>

#include <ATen/ops/stack.h>

#include "base/log.h"
#include "image/read.h"
#include "metrics/folders.h"
#include "metrics/goldens.h"
#include "metrics/metrics.h"
#include "support/doctest_last.h"
#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::metrics;
using test::picture_folder;
namespace fs = std::filesystem;

const Inception& inception() {
  static const Inception network = seeded_inception();
  return network;
}

constexpr auto kVariant = InceptionVariant::pytorch_fid;

/// Warnings of small sets are no part of these tests.
struct Quiet {
  Quiet() { base::set_log_level(base::LogLevel::quiet); }
  ~Quiet() { base::set_log_level(base::LogLevel::normal); }
};

}  // namespace

TEST_CASE("pictures are listed by name; other kinds and empty files with the reason; captions are left alone") {
  const test::Scratch scratch;
  for (const char* name : {"b.PNG", "a.jpeg", "c.webp", "d.txt", "e"}) test::put_file(scratch.file(name), "x");
  test::put_file(scratch.file("f.jpg"), "");
  fs::create_directory(scratch.path() / "g.png");
  const PictureSet set = list_pictures(scratch.path().native());
  CHECK(set.files == std::vector<std::string>{scratch.file("a.jpeg"), scratch.file("b.PNG")});
  REQUIRE(set.unreadable.size() == 2);
  CHECK(set.unreadable[0] == Unreadable{scratch.file("c.webp"), "webp pictures are not read; PNG and JPEG are"});
  CHECK(set.unreadable[1] == Unreadable{scratch.file("f.jpg"), "is empty"});
  const auto missing = [&](const std::string& path) {
    return test::error_of(base::ExitCode::no_input, [&] { list_pictures(path); });
  };
  CHECK(test::contains(missing(scratch.file("nowhere")), "no such folder"));
  CHECK(test::contains(missing(scratch.file("d.txt")), "is no folder"));
}

TEST_CASE("batches come in order and whole; damaged files are named; errors of either side arrive") {
  const test::Scratch scratch;
  const auto set = [&] { return list_pictures(picture_folder(scratch, "p", "p", 9, 8, 6)); }();
  test::put_file(set.files[4], "no picture");
  std::vector<std::size_t> order;
  std::vector<std::size_t> sizes;
  const auto unreadable = read_batches(set.files, 3, to_byte_tensor, [&](const PictureBatch& batch) {
    sizes.push_back(batch.pictures.size());
    order.insert(order.end(), batch.indices.begin(), batch.indices.end());
    CHECK(batch.pictures.front().sizes() == at::IntArrayRef({6, 8, 3}));
  });
  CHECK(order == std::vector<std::size_t>{0, 1, 2, 3, 5, 6, 7, 8});
  CHECK(sizes == std::vector<std::size_t>{3, 3, 2});
  REQUIRE(unreadable.size() == 1);
  CHECK(unreadable[0] == Unreadable{set.files[4], "is neither a PNG nor a JPEG picture"});
  const auto prepare = [](const image::Image&) -> at::Tensor { throw std::runtime_error("prepare"); };
  CHECK_THROWS_WITH(read_batches(set.files, 3, prepare, [](const PictureBatch&) {}), "prepare");
  CHECK_THROWS_WITH(
      read_batches(set.files, 3, to_byte_tensor, [](const PictureBatch&) { throw std::runtime_error("take"); }),
      "take");
}

TEST_CASE("FID and KID of folders: the value, how many, an interval, and the files that were left out") {
  const Quiet quiet;
  const test::Scratch scratch;
  const std::string real = picture_folder(scratch, "real", "real", 4, 48, 48),
                    fake = picture_folder(scratch, "fake", "fake", 4, 48, 48);
  test::put_file(scratch.file("fake/broken.png"), "x");
  const auto a = features_of(real, inception(), kVariant),
             b = features_of(fake, inception(), kVariant, {.batch_size = 3});
  const auto& golden = test::metrics_golden("selftest").at("pytorch-fid");
  const Figure distance = fid(a, b);
  CHECK(test::close(distance.value, golden.at("fid").at("pytorch_fid").get<double>(), 1e-3));
  CHECK(distance.metric == "fid");
  CHECK(distance.variant == "pytorch-fid");
  CHECK(distance.n_real == 4);
  CHECK(distance.n_fake == 4);
  REQUIRE(distance.unreadable.size() == 1);
  CHECK(distance.unreadable[0].first == scratch.file("fake/broken.png"));
  REQUIRE(distance.interval);
  CHECK(distance.interval->first < distance.value);
  CHECK(distance.value < distance.interval->second);
  const Figure kernel = kid(a, b, {}, {.subsets = 10, .subset_size = 3});
  CHECK(test::close(kernel.value, golden.at("kid").at("mean").get<double>(), 1e-3));
  CHECK(test::close(kernel.deviation.value(), golden.at("kid").at("deviation").get<double>(), 1e-3));
  CHECK(kid(a, b).interval.has_value());  // subsets of 4
  CHECK(std::abs(fid(a, a).value) < 1e-3);
  auto other = b;
  other.weights_sha256 = "other";
  CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { fid(a, other); }), "cannot be compared"));
}

TEST_CASE("folders of one picture, or of none that can be read, are too few; sizes may be mixed") {
  const Quiet quiet;
  const test::Scratch scratch;
  const std::string one = picture_folder(scratch, "one", "x", 1, 32, 32);
  CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { features_of(one, inception(), kVariant); }),
                       "1 pictures"));
  test::put_file(scratch.file("one/0.png"), "x");
  CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { features_of(one, inception(), kVariant); }),
                       "0 pictures"));
  image::write_image(scratch.file("one/a.png"), seeded_picture("a", 20, 30));
  image::write_image(scratch.file("one/b.png"), seeded_picture("b", 33, 21));
  const auto mixed = features_of(one, inception(), kVariant);
  CHECK(mixed.statistics.count == 2);
  const auto alone = inception().features({Inception::prepare(seeded_picture("b", 33, 21), kVariant)}, kVariant);
  CHECK(test::difference(mixed.features.narrow(0, 1, 1), alone) < 1e-4);
}

TEST_CASE("features are kept, and found again by what they were made of") {
  const Quiet quiet;
  const test::Scratch scratch;
  const std::string folder = picture_folder(scratch, "p", "p", 3, 32, 32), cache = scratch.file("cache/below");
  test::put_file(scratch.file("p/c.gif"), "GIF8");
  const auto first = features_of(folder, inception(), kVariant, {}, cache);
  const auto files = [&] {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(cache)) names.insert(entry.path().native());
    return names;
  };
  REQUIRE(files().size() == 1);
  const std::string file = *files().begin();
  const auto again = features_of(folder, inception(), kVariant, {}, cache),
             read = features_of(file, inception(), kVariant);
  for (const auto& result : {again, read}) {
    CHECK(test::difference(result.features, first.features) == 0);
    CHECK(test::difference(result.statistics.covariance, first.statistics.covariance) == 0);
    CHECK(result.statistics.count == 3);
    CHECK(result.unreadable == first.unreadable);
  }
  SUBCASE("another picture, another key") {
    image::write_image(scratch.file("p/0.png"), seeded_picture("q", 32, 32));
    CHECK(test::difference(features_of(folder, inception(), kVariant, {}, cache).features, first.features) > 1e-3);
    CHECK(files().size() == 2);
  }
  SUBCASE("other weights, another variant, a damaged file") {
    const auto error = [&](const std::string& sha, InceptionVariant variant) {
      return test::error_of(base::ExitCode::data, [&] { load_features(file, sha, variant); });
    };
    CHECK(test::contains(error("others", kVariant), "weights_sha256"));
    CHECK(test::contains(error("seeded", InceptionVariant::clean_fid), "variant"));
    test::put_file(file, test::get_file(file).substr(0, 1000));
    CHECK(error("seeded", kVariant) != "(no error)");
    CHECK(test::difference(features_of(folder, inception(), kVariant, {}, cache).features, first.features) == 0);
    CHECK(load_features(file, "seeded", kVariant).statistics.count == 3);  // it was written anew
  }
  SUBCASE("statistics alone are enough for FID and not for KID") {
    auto bare = first;
    bare.features = at::Tensor();
    save_features(scratch.file("bare.safetensors"), bare);
    const auto loaded = features_of(scratch.file("bare.safetensors"), inception(), kVariant);
    const Figure figure = fid(loaded, first);
    CHECK(std::abs(figure.value) < 1e-3);
    CHECK(figure.interval.has_value());
    CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { kid(loaded, first); }), "only their statistics"));
  }
  SUBCASE("a cache that cannot be written costs nothing but the time") {
    test::put_file(scratch.file("wall"), "x");
    CHECK(test::difference(features_of(folder, inception(), kVariant, {}, scratch.file("wall/cache")).features,
                           first.features) == 0);
  }
}

TEST_CASE("LPIPS of files and of folders paired by name") {
  const test::Scratch scratch;
  const Lpips network = seeded_lpips("alex");
  const std::string a = picture_folder(scratch, "a", "diverse", 4, 48, 40),
                    b = picture_folder(scratch, "b", "b", 4, 48, 40);
  fs::rename(scratch.path() / "b/2.png", scratch.path() / "b/2.PNG");  // an ending is no part of the name
  image::write_image(scratch.file("a/3.png"), seeded_picture("wide", 60, 40));
  image::write_image(scratch.file("b/3.png"),
                     seeded_picture("wider", 60, 40));  // pairs may differ in size, not within one
  double sum = 0;
  for (const char* name : {"0.png", "1.png", "2.png", "3.png"}) {
    const std::string other = std::string(name) == "2.png" ? "2.PNG" : name;
    const Figure one = lpips(a + "/" + name, b + "/" + other, network);
    CHECK(one.n_fake == 1);
    CHECK_FALSE(one.interval);
    sum += one.value;
  }
  const Figure all = lpips(a, b, network, {.batch_size = 2});
  CHECK(all.value == doctest::Approx(sum / 4).epsilon(1e-5));
  CHECK(all.metric == "lpips");
  CHECK(all.variant == "alex");
  CHECK(all.n_fake == 4);
  REQUIRE(all.interval);
  test::put_file(scratch.file("a/1.png"), "x");
  const Figure less = lpips(a, b, network);
  CHECK(less.n_fake == 3);
  CHECK(less.unreadable.size() == 1);
  const auto refused = [&](const std::string& x, const std::string& y) {
    return test::error_of(base::ExitCode::data, [&] { lpips(x, y, network); });
  };
  image::write_image(scratch.file("b/3.png"), seeded_picture("small", 50, 40));
  CHECK(test::contains(refused(a, b), "only pictures of one size"));
  fs::remove(scratch.path() / "b/3.png");
  CHECK(test::contains(refused(a, b), "no picture that is named as"));
  CHECK(test::contains(refused(b, a), "no picture that is named as"));
  CHECK(test::error_of(base::ExitCode::no_input, [&] { lpips(a, b + "/0.png", network); }) != "(no error)");
  CHECK(test::contains(refused(scratch.file("a/1.png"), b + "/0.png"), "neither a PNG nor a JPEG"));
}

TEST_CASE("diversity is the mean over all pairs, or over as many as are allowed") {
  const Quiet quiet;
  const test::Scratch scratch;
  const Lpips network = seeded_lpips("alex");
  const PictureSet set = list_pictures(picture_folder(scratch, "d", "diverse", 4, 48, 40));
  double sum = 0, least = INFINITY, most = 0;
  for (const auto& pair : test::metrics_golden("lpips").at("pairs")) {
    sum += pair.get<double>();
    least = std::min(least, pair.get<double>());
    most = std::max(most, pair.get<double>());
  }
  const Figure all = diversity(set, network);
  CHECK(all.value == doctest::Approx(sum / 6).epsilon(1e-4));
  CHECK(all.n_fake == 4);
  CHECK(all.n_real == 0);
  CHECK(all.interval.has_value());
  const Figure some = diversity(set, network, 2, {.bootstrap = {.seed = 1}});
  CHECK(some.value >= least - 1e-4);
  CHECK(some.value <= most + 1e-4);
  CHECK(some.value == diversity(set, network, 2, {.bootstrap = {.seed = 1}}).value);
  const auto refused = [&](const PictureSet& pictures) {
    return test::error_of(base::ExitCode::data, [&] { diversity(pictures, network); });
  };
  CHECK(test::contains(refused({{set.files[0]}, {}}), "too few"));
  image::write_image(set.files[2], seeded_picture("x", 50, 40));
  CHECK(test::contains(refused(set), "one size"));
}

TEST_CASE("scores of captioned pictures: the mean, each cosine, and what cannot be read") {
  const test::Scratch scratch;
  const auto& golden = test::metrics_golden("clip");
  std::vector<Captioned> pictures;
  std::vector<double> expected;
  for (std::size_t i = 0; i < 4; ++i) {
    const auto& size = golden.at("sizes")[i];
    const std::string file = scratch.file(std::to_string(i) + ".png");
    image::write_image(file, seeded_picture("clip." + std::to_string(i), size[0].get<int>(), size[1].get<int>()));
    const std::size_t text = 2 - i % 2;  // texts come again
    pictures.push_back({file, golden.at("texts")[text].get<std::string>()});
    expected.push_back(golden.at("cosines")[i][text].get<double>());
  }
  pictures.push_back({scratch.file("none.png"), "a dog"});
  const ClipScorer scorer = seeded_clip();
  std::vector<Unreadable> unreadable;
  const auto cosines = caption_cosines(pictures, scorer, unreadable, {.batch_size = 2});
  double sum = 0, mean = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(std::abs(cosines[i] - expected[i]) < 1e-5);
    sum += std::max(100 * expected[i], 0.0) / 4;
    mean += expected[i] / 4;
  }
  CHECK(std::isnan(cosines[4]));
  REQUIRE(unreadable.size() == 1);
  CHECK(unreadable[0].first == scratch.file("none.png"));
  const Figure figure = clip_score(pictures, scorer);
  CHECK(std::abs(figure.value - sum) < 1e-3);
  CHECK(figure.n_fake == 4);
  CHECK(figure.unreadable.size() == 1);
  REQUIRE(figure.interval);
  const Figure preferred = preference(pictures, Preference(scorer, PreferenceModel::pickscore));
  CHECK(std::abs(preferred.value - scorer.logit_scale() * mean) < 1e-3);
  CHECK(preferred.variant == "pickscore");
  const Preference reward(seeded_image_reward());
  const Figure rewarded = preference(pictures, reward, {.batch_size = 3});
  double total = 0;
  for (std::size_t i = 0; i < 4; ++i)
    total +=
        reward.scores({reward.prepare(image::to_rgb(image::read_image(pictures[i].file)))}, {pictures[i].text}).front();
  CHECK(std::abs(rewarded.value - total / 4) < 1e-4);
  CHECK(rewarded.metric == "preference");
  CHECK(rewarded.variant == "imagereward");
  CHECK(rewarded.n_fake == 4);
  CHECK(rewarded.unreadable.size() == 1);
  CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { clip_score({pictures.back()}, scorer); }),
                       "none of 1"));
}
