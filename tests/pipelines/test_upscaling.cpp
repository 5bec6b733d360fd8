// Enlarging by tiles beside enlarging at once.
#include "pipelines/upscaling.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include "io/safetensors.h"
#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/scratch.h"
#include "support/seeded.h"

namespace {

using namespace atelier;
using pipelines::Upscaler;

/// A tiny network's file. Biases and gains are such that pictures stay well inside 0 to 1.
std::string write_network(const test::Scratch& scratch, const models::rrdb::Config& config) {
  const models::rrdb::RrdbNet net(config);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& entry : net.named_parameters()) {
    const at::Tensor& value = entry.value();
    const double fan = static_cast<double>(value.numel()) / static_cast<double>(value.size(0));
    tensors[entry.key()] = value.dim() == 1 ? test::seeded(entry.key(), value.sizes(), 0.05, 0.1)
                                            : test::seeded(entry.key(), value.sizes(), 0.8 / std::sqrt(fan), 0.5 / fan);
  }
  std::vector<io::TensorBytes> list;
  for (const auto& [name, tensor] : tensors)
    list.push_back({{.name = name, .dtype = io::DType::F32, .shape = tensor.sizes().vec()},
                    {static_cast<const std::byte*>(tensor.data_ptr()), tensor.nbytes()}});
  io::write_safetensors(scratch.file("net.safetensors"), list, {});
  return scratch.file("net.safetensors");
}

image::Image noise(int width, int height) {
  image::Image picture(width, height, 3);
  std::uint32_t state = 1;
  for (auto& value : picture.data) value = static_cast<std::uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
  return picture;
}

/// Largest difference, and how many values differ at all.
std::pair<int, std::size_t> apart(const image::Image& a, const image::Image& b) {
  REQUIRE(a.same_size(b));
  std::pair<int, std::size_t> result{0, 0};
  for (std::size_t i = 0; i < a.data.size(); ++i) {
    const int d = std::abs(int{a.data[i]} - int{b.data[i]});
    result.first = std::max(result.first, d);
    result.second += d > 0 ? 1 : 0;
  }
  return result;
}

constexpr std::int64_t kWhole = 4096;

}  // namespace

TEST_CASE("tiles give the picture that the whole gives") {
  for (const std::int64_t fold : {1, 2}) {
    CAPTURE(fold);
    const test::Scratch scratch;
    const models::rrdb::Config config{.unshuffle = fold, .features = 4, .growth = 2, .blocks = 1};
    const auto net = Upscaler::load(pipelines::UpscalerFiles::open(write_network(scratch, config)), at::kCPU);
    const auto picture = noise(211, 165);
    const auto whole = net->enlarge(picture, kWhole);
    CHECK(whole.finite);
    CHECK(whole.picture.width == 211 * 4 / fold);
    const auto [low, high] = std::minmax_element(whole.picture.data.begin(), whole.picture.data.end());
    CHECK(*high > *low + 20);  // there is something to see
    for (const std::int64_t tile : {Upscaler::kSmallestTile, std::int64_t{101}, std::int64_t{128}}) {
      CAPTURE(tile);
      std::int64_t tiles = 0;
      const auto tiled = net->enlarge(picture, tile, [&] { ++tiles; });
      CHECK(tiles == Upscaler::tiles(config, 211, 165, tile));
      CHECK(tiles > 1);
      const auto [largest, count] = apart(whole.picture, tiled.picture);
      // Sums of another order may round the other way; folded, a pixel depends a little on what the margin does not hold.
      CHECK(largest <= 1);
      CHECK(count < whole.picture.data.size() / 1000);
    }
  }
}

TEST_CASE("pictures smaller than a tile, of one pixel, and too large ones") {
  const test::Scratch scratch;
  const models::rrdb::Config config{.unshuffle = 2, .features = 4, .growth = 2, .blocks = 1};
  const auto net = Upscaler::load(pipelines::UpscalerFiles::open(write_network(scratch, config)), at::kCPU);
  CHECK(net->enlarge(noise(1, 1), 96).picture.width == 2);
  CHECK(net->enlarge(noise(97, 3), 96).picture.height == 6);
  CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { net->enlarge(image::Image(6000, 6000, 3), 96); }),
                       "12000x12000"));
  CHECK(test::contains(
      test::error_of(base::ExitCode::no_input, [&] { pipelines::UpscalerFiles::open(scratch.file("none")); }), "none"));
  CHECK(test::contains(
      test::error_of(base::ExitCode::no_input, [&] { pipelines::UpscalerFiles::open(scratch.path().string()); }),
      "folder"));
}
