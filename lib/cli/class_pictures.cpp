#include "cli/class_pictures.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <system_error>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "image/read.h"
#include "image/write.h"
#include "io/file_system.h"
#include "pipelines/diffusion.h"
#include "train/image/sources.h"

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;
using base::Json;

bool is_file(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

std::string path_of(const ClassPictures& wanted, std::int64_t number) {
  return fmt::format("{}/class-{:05}.png", wanted.folder, number);
}

bool is_drawn(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  return name.starts_with("class-") && name.size() == std::string_view("class-00000.png").size() &&
         name.ends_with(".png");
}

/// What must be equal for pictures that are there to be of the same set.
Json description(const ClassPictures& wanted) {
  const PromptPictures& p = wanted.pictures;
  return {{"prompt", p.prompt}, {"model", wanted.model_key}, {"seed", wanted.seed},     {"width", p.width},
          {"height", p.height}, {"steps", p.steps},          {"cfg_scale", p.cfg_scale}};
}

/// What a picture that was drawn tells of its set; null where it tells nothing.
Json told_by(const std::string& path) {
  const auto metadata = image::read_metadata(path);
  const std::string* text = image::find_text(metadata, image::kAtelierKey);
  return text == nullptr ? Json() : base::parse_json(*text, path);
}

void check_drawn(const std::string& path, const ClassPictures& wanted) {
  const Json told = told_by(path), now = description(wanted);
  if (!told.is_object()) return;
  for (const auto& [key, value] : now.items()) {
    if (told.contains(key) && told[key] == value) continue;
    throw Error(ExitCode::usage,
                fmt::format("{}: was drawn with {} {}, and now it is {}", path, key,
                            told.contains(key) ? base::dump_json(told[key]) : "not told", base::dump_json(value)),
                "another --class-images folder leaves these alone");
  }
}

/// With the seed that those have which are there, unless one was given.
ClassPictures settled(ClassPictures wanted) {
  for (std::int64_t i = 0; i < wanted.number && !wanted.own_seed; ++i) {
    if (!is_file(path_of(wanted, i))) continue;
    const Json told = told_by(path_of(wanted, i));
    if (told.is_object() && told.contains("seed") && told["seed"].is_number_unsigned())
      wanted.seed = told["seed"].get<std::uint64_t>();
    break;
  }
  return wanted;
}

/// Numbers of the pictures that are to be drawn.
std::vector<std::int64_t> missing(const ClassPictures& wanted) {
  std::int64_t own = 0;
  std::error_code ignored;
  if (fs::is_directory(wanted.folder, ignored))
    for (const std::string& path : train::image::picture_files(wanted.folder)) own += is_drawn(path) ? 0 : 1;
  std::vector<std::int64_t> numbers;
  for (std::int64_t i = 0; i < wanted.number - own; ++i)
    if (!is_file(path_of(wanted, i))) numbers.push_back(i);
  return numbers;
}

}  // namespace

void draw_pictures(const pipelines::ImageModel& model, const PromptPictures& wanted,
                   const std::vector<std::uint64_t>& seeds,
                   const std::function<void(std::size_t, const image::Image&)>& done) {
  const at::NoGradGuard no_grad;
  std::vector<std::string> warnings;  // of brackets
  pipelines::DiffusionRequest request;
  request.positive = pipelines::encode_prompt(model, wanted.prompt, {}, warnings);
  if (pipelines::uses_guidance(model, wanted.cfg_scale))
    request.negative = model.zero_empty_negative ? pipelines::zero_conditioning(request.positive)
                                                 : pipelines::encode_prompt(model, "", {}, warnings);
  request.cfg_scale = wanted.cfg_scale;
  request.width = wanted.width;
  request.height = wanted.height;
  request.steps = wanted.steps;
  const auto together = static_cast<std::size_t>(wanted.batch_size);
  for (std::size_t first = 0; first < seeds.size(); first += together) {
    const std::size_t end = std::min(seeds.size(), first + together);
    request.seeds.assign(seeds.begin() + static_cast<std::ptrdiff_t>(first),
                         seeds.begin() + static_cast<std::ptrdiff_t>(end));
    const auto result = pipelines::diffuse(model, request);
    for (std::size_t i = first; i < end; ++i) {
      if (!result.finite[i - first])
        throw Error(ExitCode::condition, fmt::format("a picture of \"{}\" holds NaN", base::printable(wanted.prompt)),
                    "the weights may be damaged, or too large for the number format: try --precision fp32");
      done(i, result.pictures[i - first]);
    }
  }
}

std::int64_t complete_class_pictures(const pipelines::ImageModel& model, const ClassPictures& asked) {
  const ClassPictures wanted = settled(asked);
  const std::vector<std::int64_t> numbers = missing(wanted);
  for (std::int64_t i = 0; i < wanted.number; ++i)
    if (is_file(path_of(wanted, i))) check_drawn(path_of(wanted, i), wanted);
  if (numbers.empty()) return 0;
  base::log_info(fmt::format("drawing {} pictures of \"{}\" into {}", numbers.size(),
                             base::printable(wanted.pictures.prompt), wanted.folder));
  io::file_system().create_folders(wanted.folder);
  std::vector<std::uint64_t> seeds;
  for (const std::int64_t number : numbers) seeds.push_back(wanted.seed + static_cast<std::uint64_t>(number));
  const image::Metadata text{{std::string(image::kAtelierKey), base::dump_json(description(wanted))}};
  base::Progress progress("class pictures", seeds.size(), "pictures");
  draw_pictures(model, wanted.pictures, seeds, [&](std::size_t place, const image::Image& picture) {
    image::write_image(path_of(wanted, numbers[place]), picture, text);
    progress.update(place + 1);
  });
  return std::ssize(numbers);
}

}  // namespace atelier::cli
