#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "image/write.h"
#include "support/scratch.h"
#include "train/image/dataset.h"

namespace atelier::test {

/// A picture whose every pixel tells its number: three channels, `number` in the first.
inline image::Image numbered(int width, int height, int number) {
  image::Image picture(width, height, 3);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      picture.at(x, y)[0] = static_cast<std::uint8_t>(number);
      picture.at(x, y)[1] = static_cast<std::uint8_t>(x);
      picture.at(x, y)[2] = static_cast<std::uint8_t>(y);
    }
  return picture;
}

/// A folder of pictures and captions.
class PictureFolder {
 public:
  std::string root() const { return scratch_.path().string(); }
  std::string file(const std::string& name) const { return scratch_.file(name); }

  void picture(const std::string& name, const image::Image& picture) const {
    std::filesystem::create_directories(std::filesystem::path(file(name)).parent_path());
    image::write_image(file(name), picture);
  }
  /// The picture of that number, with a caption beside it unless that is empty.
  void add(const std::string& name, int number, const std::string& caption = "", int width = 16,
           int height = 16) const {
    picture(name, numbered(width, height, number));
    if (!caption.empty()) put(std::filesystem::path(name).replace_extension(".txt").string(), caption);
  }
  void put(const std::string& name, const std::string& bytes) const {
    std::filesystem::create_directories(std::filesystem::path(file(name)).parent_path());
    put_file(file(name), bytes);
  }

 private:
  Scratch scratch_;
};

/// Squares of 16 pixels, `batch_size` at once.
inline train::image::SourceDefaults small_squares(std::int64_t batch_size = 1) {
  train::image::SourceDefaults defaults;
  defaults.buckets.resolution = {16, 16};
  defaults.buckets.step = 8;
  defaults.buckets.min_side = 8;
  defaults.buckets.max_side = 64;
  defaults.batch_size = batch_size;
  return defaults;
}

/// The numbers of a batch's pictures.
inline std::vector<int> numbers_of(const train::image::ImageBatch& batch) {
  std::vector<int> numbers;
  for (std::int64_t i = 0; i < batch.pixels.size(0); ++i)
    numbers.push_back(static_cast<int>((batch.pixels[i][0][0][0].item<float>() + 1) * 127.5 + 0.5));
  return numbers;
}

}  // namespace atelier::test
