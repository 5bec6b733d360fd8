// Buckets as kohya's scripts make them; goldens from scripts/fixtures/train_image.py.
#include "train/image/buckets.h"

#include "base/json.h"

#include "support/doctest_last.h"
#include "support/errors.h"

using namespace atelier;
using namespace atelier::train::image;
using base::ExitCode;
using base::Json;
using test::contains;
using test::error_of;

namespace {

BucketOptions options_of(const Json& o) {
  return {.resolution = {o["width"], o["height"]},
          .enabled = true,
          .step = o["step"],
          .min_side = o["min"],
          .max_side = o["max"],
          .no_upscale = o["no_upscale"]};
}

Size size_at(const Json& list, std::size_t place) { return {list[place].get<int>(), list[place + 1].get<int>()}; }

}  // namespace

TEST_CASE("buckets, and which one a picture gets into, are kohya's") {
  const Json goldens = base::read_json_file(std::string(ATELIER_TEST_DATA) + "/train_image/buckets.json");
  REQUIRE(goldens.size() == 5);
  for (const Json& one : goldens) {
    const BucketOptions options = options_of(one["options"]);
    CAPTURE(one["options"].dump());
    const auto sizes = bucket_sizes(options);
    REQUIRE(sizes.size() == one["sizes"].size());
    for (std::size_t i = 0; i < sizes.size(); ++i) CHECK(sizes[i] == size_at(one["sizes"][i], 0));
    CHECK(one["fits"].size() > 30);
    for (const Json& golden : one["fits"]) {
      CAPTURE(golden.dump());
      const BucketFit fit = fit_to_bucket(size_at(golden, 0), options, sizes);
      CHECK(fit.bucket == size_at(golden, 2));
      CHECK(fit.resized == size_at(golden, 4));
      CHECK(fit.resized.width >= fit.bucket.width);
      CHECK(fit.resized.height >= fit.bucket.height);
    }
  }
}

TEST_CASE("without buckets everything is brought to the resolution") {
  const BucketOptions options{.resolution = {64, 32}};
  REQUIRE(bucket_sizes(options).size() == 1);
  CHECK(bucket_sizes(options)[0] == Size{64, 32});
  const BucketFit fit = fit_to_bucket({100, 100}, options, bucket_sizes(options));
  CHECK(fit.bucket == Size{64, 32});
  CHECK(fit.resized == Size{64, 64});
}

TEST_CASE("sizes that cannot be trained on are refused") {
  const auto error = [](const BucketOptions& options) {
    return error_of(ExitCode::usage, [&] { check_buckets(options); });
  };
  CHECK(contains(error({.resolution = {500, 512}}), "width 500 is not a multiple of 8"));
  CHECK(contains(error({.resolution = {512, 0}}), "height 0"));
  CHECK(contains(error({.enabled = true, .step = 12}), "step 12"));
  CHECK(contains(error({.enabled = true, .min_side = 512, .max_side = 256}), "is above the largest"));
  CHECK(contains(error({.resolution = {32, 32}, .enabled = true, .step = 64, .min_side = 8}),
                 "more than the resolution"));
  CHECK(error({.step = 12}) == "(no error)");
}
