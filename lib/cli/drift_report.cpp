#include "cli/drift_report.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "image/grid.h"
#include "image/read.h"
#include "image/write.h"
#include "io/file_system.h"

namespace atelier::cli {
namespace {

constexpr int kGap = 4;

double mean_difference(const image::Image& a, const image::Image& b) {
  if (!a.same_size(b) || a.data.size() != b.data.size()) return 255;
  double sum = 0;
  for (std::size_t i = 0; i < a.data.size(); ++i) sum += std::abs(static_cast<int>(a.data[i]) - b.data[i]);
  return sum / static_cast<double>(a.data.size());
}

}  // namespace

DriftReport::DriftReport(std::string folder, PromptPictures pictures, std::int64_t number, std::uint64_t seed)
    : folder_(std::move(folder)),
      pictures_(std::move(pictures)),
      number_(static_cast<std::size_t>(number)),
      seed_(seed) {}

std::string DriftReport::path(const char* when, std::size_t place) const {
  return fmt::format("{}/drift/{}-{}.png", folder_, when, place);
}

std::vector<std::uint64_t> DriftReport::seeds() const {
  std::vector<std::uint64_t> all;
  for (std::size_t i = 0; i < number_; ++i) all.push_back(seed_ + i);
  return all;
}

void DriftReport::before(const pipelines::ImageModel& model) const {
  io::file_system().create_folders(folder_ + "/drift");
  std::vector<std::uint64_t> missing;
  std::vector<std::size_t> places;
  std::error_code ignored;
  for (std::size_t i = 0; i < number_; ++i) {
    if (std::filesystem::exists(path("before", i), ignored)) continue;
    missing.push_back(seed_ + i);
    places.push_back(i);
  }
  draw_pictures(model, pictures_, missing, [&](std::size_t i, const image::Image& picture) {
    image::write_image(path("before", places[i]), picture);
  });
}

base::Json DriftReport::after(const pipelines::ImageModel& model) const {
  std::vector<image::Image> rows;
  for (std::size_t i = 0; i < number_; ++i) rows.push_back(image::read_image(path("before", i)));
  double difference = 0;
  draw_pictures(model, pictures_, seeds(), [&](std::size_t i, const image::Image& picture) {
    image::write_image(path("after", i), picture);
    difference += mean_difference(rows[i], picture);
    rows.push_back(picture);
  });
  const std::string sheet = folder_ + "/drift.png";
  image::write_image(sheet, image::make_grid(rows, static_cast<int>(number_), kGap));
  return {
      {"path", sheet}, {"pictures", number_}, {"mean_absolute_difference", difference / static_cast<double>(number_)}};
}

}  // namespace atelier::cli
