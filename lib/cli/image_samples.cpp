#include "cli/image_samples.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/stop.h"
#include "image/write.h"
#include "io/file_system.h"
#include "pipelines/diffusion.h"
#include "text/utf8.h"
#include "train/precision.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;

constexpr std::size_t kLargestFile = 64u << 20;
constexpr std::int64_t kMostSide = 1 << 13, kMostSteps = 1000;

std::string trimmed(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(" \t\r"), end = text.find_last_not_of(" \t\r");
  return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

template <class Number>
Number number(const std::string& text, char letter, Number low, Number high, const std::string& where) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < low || value > high)
    throw Error(ExitCode::data,
                fmt::format("{}: --{} {} is not a number from {} to {}", where, letter, base::in_quotes(text), low, high));
  return value;
}

std::int64_t side(const std::string& text, char letter, std::int64_t multiple, const std::string& where) {
  const auto value = number<std::int64_t>(text, letter, multiple, kMostSide, where);
  if (value % multiple == 0) return value;
  throw Error(ExitCode::data, fmt::format("{}: --{} {} is no multiple of {}", where, letter, value, multiple));
}

void apply(SamplePrompt& prompt, char letter, const std::string& value, std::int64_t multiple,
           const std::string& where) {
  switch (letter) {
    case 'n': prompt.negative = value; return;
    case 'w': prompt.width = side(value, letter, multiple, where); return;
    case 'h': prompt.height = side(value, letter, multiple, where); return;
    case 'd': prompt.seed = number<std::uint64_t>(value, letter, 0, UINT64_MAX, where); return;
    case 's': prompt.steps = number<std::int64_t>(value, letter, 1, kMostSteps, where); return;
    case 'l': prompt.cfg_scale = number<double>(value, letter, 0, 1000, where); return;
    default:
      throw Error(ExitCode::data, fmt::format("{}: --{} is not known; known are --n --w --h --d --s --l", where, letter));
  }
}

}  // namespace

SamplePrompt parse_sample_prompt(const std::string& line, std::int64_t multiple, const std::string& where) {
  if (!text::is_utf8(line)) throw Error(ExitCode::data, where + ": not valid UTF-8");
  // The options begin at each " --X " of one letter; what stands before the first is the prompt.
  const auto begins = [&](std::size_t i) {
    return line.compare(i, 3, " --") == 0 && i + 3 < line.size() && line[i + 3] >= 'a' && line[i + 3] <= 'z' &&
           (i + 4 == line.size() || line[i + 4] == ' ');
  };
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < line.size(); ++i)
    if (begins(i)) places.push_back(i);
  SamplePrompt prompt;
  prompt.prompt = trimmed(line.substr(0, places.empty() ? line.size() : places.front()));
  places.push_back(line.size());
  for (std::size_t i = 0; i + 1 < places.size(); ++i) {
    const std::string part = line.substr(places[i], places[i + 1] - places[i]);
    apply(prompt, part[3], trimmed(part.substr(4)), multiple, where);
  }
  return prompt;
}

ImageSampleWriter::ImageSampleWriter(const std::string& path, std::shared_ptr<const pipelines::ImageModel> model,
                                     Options options)
    : model_(std::move(model)), options_(std::move(options)) {
  const std::string all = io::read_file(path, kLargestFile);
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < all.size();) {
    const std::size_t end = std::min(all.find('\n', begin), all.size());
    const std::string line = trimmed(all.substr(begin, end - begin));
    begin = end + 1;
    ++number;
    if (line.empty() || line.starts_with('#')) continue;
    prompts_.push_back(
        parse_sample_prompt(line, model_->vae->downscale(), fmt::format("{}: line {}", path, number)));
  }
  if (prompts_.empty()) throw Error(ExitCode::data, path + ": no prompts");
}

void ImageSampleWriter::write(std::int64_t step) const {
  const at::NoGradGuard no_grad;
  const train::WithoutAutocast plain(model_->device());
  io::file_system().create_folders(options_.folder);
  for (std::size_t i = 0; i < prompts_.size(); ++i) {
    base::throw_if_stopped();
    draw(prompts_[i], i, step);
  }
}

void ImageSampleWriter::draw(const SamplePrompt& prompt, std::size_t place, std::int64_t step) const {
  pipelines::PromptEncodingOptions encoding;
  encoding.clip_skip = options_.clip_skip;
  if (options_.embedding) encoding.embeddings = {options_.embedding()};
  std::vector<std::string> warnings;  // of brackets: said once is enough, and sd-txt2img says it
  pipelines::DiffusionRequest request;
  request.positive = pipelines::encode_prompt(*model_, prompt.prompt, encoding, warnings);
  if (pipelines::uses_guidance(*model_, prompt.cfg_scale))
    request.negative = !prompt.negative && model_->zero_empty_negative
                           ? pipelines::zero_conditioning(request.positive)
                           : pipelines::encode_prompt(*model_, prompt.negative.value_or(""), encoding, warnings);
  request.cfg_scale = prompt.cfg_scale;
  request.width = prompt.width > 0 ? prompt.width : options_.width;
  request.height = prompt.height > 0 ? prompt.height : options_.height;
  request.steps = prompt.steps;
  request.sampler = options_.sampler;
  request.seeds = {prompt.seed.value_or(options_.seed + place)};
  const auto result = pipelines::diffuse(*model_, request);
  const std::string path = fmt::format("{}/step-{}-{}.png", options_.folder, step, place);
  if (!result.finite.front()) return base::log_warning(fmt::format("{} holds NaN and is not written", path));
  image::write_image(path, result.pictures.front());
}

}  // namespace atelier::cli
