#include "cli/image_job.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/stopwatch.h"
#include "image/colour.h"
#include "image/mask.h"
#include "image/read.h"
#include "image/resize.h"
#include "image/shapes.h"
#include "nn/packed_weight.h"
#include "pipelines/latent_resize.h"
#include "pipelines/pixels.h"
#include "text/utf8.h"
#include "text/weighted_prompt.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using pipelines::Conditioning;
using pipelines::StrengthSchedule;

constexpr std::int64_t kMaxSide = 1 << 15;
static_assert(kSmallestUpscaleTile >= pipelines::Upscaler::kSmallestTile);

double number_in(std::string_view text, const std::string& whole) {
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size() || !std::isfinite(value) || value < 0 || value > 1)
    throw Error(ExitCode::usage,
                fmt::format("--strength-schedule {}: \"{}\" is not a number from 0 to 1", whole, text));
  return value;
}

/// "0:1,0.5:0.6,1:0.2"
StrengthSchedule parse_schedule(const std::string& text) {
  StrengthSchedule schedule;
  for (std::size_t at = 0; !text.empty() && at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    std::string_view point = std::string_view(text).substr(at, comma - at);
    while (point.starts_with(' ')) point.remove_prefix(1);
    const std::size_t colon = point.find(':');
    if (colon == std::string_view::npos)
      throw Error(ExitCode::usage, fmt::format("--strength-schedule {}: \"{}\" is not FRACTION:WEIGHT", text, point));
    schedule.emplace_back(number_in(point.substr(0, colon), text), number_in(point.substr(colon + 1), text));
    const std::size_t n = schedule.size();
    if (n > 1 && schedule[n - 1].first <= schedule[n - 2].first)
      throw Error(ExitCode::usage, fmt::format("--strength-schedule {}: its fractions do not ascend", text));
    at = comma + 1;
  }
  return schedule;
}

void check_text(const std::string& text, const char* flag) {
  if (!text::is_utf8(text)) throw Error(ExitCode::data, fmt::format("{} is not valid UTF-8", flag));
}

/// As in A1111, tags count in the prompt only.
std::string without_tags(const std::string& negative) {
  std::vector<text::LoraTag> tags;
  std::string text = text::take_lora_tags(negative, tags);
  if (!tags.empty())
    base::log_warning(fmt::format("<lora:{}> in the negative prompt has no effect; its place is the prompt",
                                  base::printable(tags[0].name)));
  return text;
}

/// The folder's own rounding of a given picture's size.
std::int64_t round_down(std::int64_t value, std::int64_t multiple) {
  return std::max(multiple, value / multiple * multiple);
}

pipelines::MaskedContent masked_content(const std::string& name) {
  using pipelines::MaskedContent;
  return name == "fill"      ? MaskedContent::fill
         : name == "noise"   ? MaskedContent::noise
         : name == "nothing" ? MaskedContent::nothing
                             : MaskedContent::original;
}

/// Evaluations of a run of this strength.
std::uint64_t evaluations_of(const schedulers::Scheduler& scheduler, double strength, const char* flag) {
  const std::size_t start = scheduler.start_index(strength);
  if (start >= scheduler.evaluations())
    throw Error(ExitCode::usage,
                fmt::format("{} {}: of {} steps none is left to make", flag, strength, scheduler.steps()));
  return scheduler.evaluations() - start;
}

/// The filter of --hires-upscaler latent-FILTER; nothing where pixels are enlarged.
std::optional<std::string_view> latent_filter(const ImageOptions& options) {
  const std::string_view name = options.hires_upscaler;
  if (options.hires <= 1 || !name.starts_with("latent")) return std::nullopt;
  return name == "latent" ? "" : name.substr(std::string_view("latent-").size());
}

/// RGB as RGBA with an alpha channel of the same size.
image::Image with_alpha(const image::Image& rgb, const image::Image& alpha) {
  image::Image result(rgb.width, rgb.height, 4);
  for (std::size_t i = 0; i < alpha.data.size(); ++i) {
    std::copy_n(&rgb.data[3 * i], 3, &result.data[4 * i]);
    result.data[4 * i + 3] = alpha.data[i];
  }
  return result;
}

/// The given picture's alpha channel, opaque where the mask is.
image::Image painted_alpha(image::Image alpha, const image::Mask& mask) {
  for (std::size_t i = 0; i < alpha.data.size(); ++i) alpha.data[i] = std::max(alpha.data[i], mask.data[i]);
  return alpha;
}

pipelines::Weighting weighting(const std::string& name) {
  using pipelines::Weighting;
  return name == "comfy" ? Weighting::comfy : name == "none" ? Weighting::none : Weighting::a1111;
}

}  // namespace

ImageJob::ImageJob(const pipelines::ImageModelFiles& files, ImageOptions options, ImageTask task)
    : options_(std::move(options)), task_(task), multiple_(files.downscale()) {
  check_text(options_.prompt.value_or(""), "the prompt");
  check_text(options_.negative.value_or(""), "the negative prompt");
  text_ = prompt_loras(options_);
  choice_ = schedulers::parse_sampler(options_.sampler, options_.schedule);
  sampler_ = schedulers::resolve(files.scheduler_json, files.scheduler_path, choice_);
  // Builds it once for its errors: a sampler that this model cannot take, too many steps, too little strength.
  const auto scheduler = schedulers::make_scheduler(files.scheduler_json, files.scheduler_path, choice_);
  scheduler->set_timesteps(options_.steps);
  first_evaluations_ = task_ == ImageTask::txt2img ? scheduler->evaluations()
                                                   : evaluations_of(*scheduler, options_.strength, "--strength");
  if (options_.hires > 1) second_evaluations_ = evaluations_of(*scheduler, options_.hires_strength, "--hires-strength");
  if (task_ == ImageTask::txt2img)
    settle_size(files.native_size(), files.native_size());
  else
    read_init(files);
  read_controls(files);
  read_upscaler();
}

void ImageJob::read_controls(const pipelines::ImageModelFiles& files) {
  controls_ = control_requests(options_);
  for (const ControlRequest& control : controls_) {
    pipelines::ControlNetFiles::open(control.network, files);  // for its errors
    control_pictures_.push_back(image::read_image(control.picture));
  }
}

void ImageJob::read_upscaler() {
  if (options_.upscale.empty()) return;
  const auto config = pipelines::UpscalerFiles::open(options_.upscale).file.config;
  upscale_ = config.scale();
  std::int64_t width = frame_ ? frame_->finished_width() : options_.width;
  std::int64_t height = frame_ ? frame_->finished_height() : options_.height;
  if (options_.hires > 1) width = enlarged(width), height = enlarged(height);
  image::check_size(width * upscale_, height * upscale_, "--upscale");
  upscale_tiles_ = static_cast<std::uint64_t>(pipelines::Upscaler::tiles(config, width, height, options_.upscale_tile));
}

base::Json ImageJob::describe_networks() const {
  base::Json all = describe_controls(controls_);
  if (!options_.upscale.empty()) all.push_back({{"path", options_.upscale}, {"kind", "upscaler"}, {"scale", upscale_}});
  return all;
}

std::uint64_t ImageJob::evaluations(std::int64_t batch_size) const {
  const std::int64_t batches = (options_.count + batch_size - 1) / batch_size;
  return static_cast<std::uint64_t>(batches) * first_evaluations_ +
         static_cast<std::uint64_t>(options_.count) * (second_evaluations_ + upscale_tiles_);
}

void ImageJob::settle_size(std::int64_t width, std::int64_t height) {
  if (options_.width == 0) options_.width = width;
  if (options_.height == 0) options_.height = height;
  for (const auto& [name, value] : {std::pair{"width", options_.width}, std::pair{"height", options_.height}})
    if (value % multiple_ != 0 || value > kMaxSide)
      throw Error(
          ExitCode::usage,
          fmt::format("--{} {}: it must be a multiple of {}, at most {}", name, value, multiple_, kMaxSide),
          fmt::format("the nearest is {}", std::min(kMaxSide, (value + multiple_ / 2) / multiple_ * multiple_)));
  image::check_size(options_.width, options_.height, "--width and --height");
}

void ImageJob::read_init(const pipelines::ImageModelFiles& files) {
  if (options_.init.empty()) throw Error(ExitCode::usage, "no picture: --init is missing");
  const image::Image given = image::read_image(options_.init);
  if (task_ == ImageTask::inpaint) {
    const bool whole = !options_.only_masked;
    const auto other = [](std::int64_t asked, int own) { return asked != 0 && asked != own; };
    const bool resized = other(options_.width, given.width) || other(options_.height, given.height);
    if (whole && !resized) {  // worked on at its own size; the edge is repeated up to a multiple
      options_.width = given.width;
      options_.height = given.height;
    } else {
      settle_size(whole ? round_down(given.width, multiple_) : files.native_size(),
                  whole ? round_down(given.height, multiple_) : files.native_size());
    }
    read_mask(given);
    return;
  }
  settle_size(round_down(given.width, multiple_), round_down(given.height, multiple_));
  init_ = image::fit(image::to_rgb(given), static_cast<int>(options_.width), static_cast<int>(options_.height),
                     *image::parse_resize_mode(options_.resize_mode));
  pipelines::PictureInput input;
  input.picture = pipelines::to_tensor(init_);
  input.strength = options_.strength;
  input.strength_schedule = parse_schedule(options_.strength_schedule);
  input_ = std::move(input);
}

void ImageJob::read_mask(const image::Image& given) {
  std::vector<image::Mask> masks;
  if (!options_.mask.empty())
    masks.push_back(image::match_mask(image::mask_from_image(image::read_image(options_.mask)), given.width,
                                      given.height, options_.mask));
  if (!options_.mask_svg.empty()) masks.push_back(image::read_svg_mask(options_.mask_svg, given.width, given.height));
  for (const std::string& shape : options_.mask_shapes)
    masks.push_back(image::rasterise_shape(shape, given.width, given.height));
  if (masks.empty()) {
    const image::Image alpha = image::alpha_of(given);
    if (alpha.empty())
      throw Error(ExitCode::usage, "no mask: --mask, --mask-svg or --mask-shape, or a transparent part in --init");
    masks.push_back(image::invert(alpha));
  } else {
    alpha_ = image::alpha_of(given);
  }
  image::Mask mask = image::unite(masks);
  if (options_.invert_mask) mask = image::invert(mask);
  mask = image::grow(mask, static_cast<int>(options_.grow));
  image::Image picture = image::to_rgb(given);
  const auto width = static_cast<int>(options_.width), height = static_cast<int>(options_.height);
  if (!options_.only_masked && (picture.width != width || picture.height != height)) {
    const auto mode = *image::parse_resize_mode(options_.resize_mode);
    mask = image::fit_mask(mask, width, height, mode);
    picture = image::fit(picture, width, height, mode);
    if (!alpha_.empty()) alpha_ = image::fit(alpha_, width, height, mode);
  }
  pipelines::InpaintOptions how;
  how.feather = static_cast<float>(options_.feather);
  how.masked_content = masked_content(options_.masked_content);
  how.only_masked = options_.only_masked;
  how.padding = static_cast<int>(options_.padding);
  how.blend = *image::parse_blend_mode(options_.blend);
  if (options_.soft_inpaint) how.soft = options_.soft;
  frame_ = std::make_unique<pipelines::InpaintFrame>(std::move(picture), std::move(mask), how, options_.width,
                                                     options_.height, multiple_);
  input_ = frame_->input(options_.strength);
}

void ImageJob::encode_prompts(const pipelines::ImageModel& model, const Embeddings& embeddings) {
  const base::Stopwatch watch;
  pipelines::PromptEncodingOptions how;
  how.weighting = weighting(options_.weighting);
  how.clip_skip = options_.clip_skip;
  how.embeddings = embeddings;
  std::vector<std::string> warnings;
  positive_ = pipelines::encode_prompt(model, text_.prompt, how, warnings);
  if (pipelines::uses_guidance(model, options_.cfg_scale)) {
    if (!options_.negative && model.zero_empty_negative)
      negative_ = pipelines::zero_conditioning(*positive_);
    else
      negative_ = pipelines::encode_prompt(model, without_tags(options_.negative.value_or("")), how, warnings);
  }
  for (const auto& encoder : model.text_encoders) nn::release_pages(*encoder.network);  // not needed until the next prompt
  for (std::size_t i = 0; i < std::min<std::size_t>(warnings.size(), 4); ++i) base::log_warning(warnings[i]);
  if (warnings.size() > 4) base::log_warning(fmt::format("{} more brackets likewise", warnings.size() - 4));
  text_seconds_ = watch.seconds();
}

pipelines::DiffusionRequest ImageJob::request(std::int64_t first, std::int64_t count) const {
  pipelines::DiffusionRequest request;
  request.positive = *positive_;
  request.negative = negative_;
  request.cfg_scale = options_.cfg_scale;
  request.width = frame_ ? frame_->width() : options_.width;
  request.height = frame_ ? frame_->height() : options_.height;
  request.steps = options_.steps;
  request.sampler = choice_;
  for (std::int64_t i = first; i < first + count; ++i)
    request.seeds.push_back(*options_.common.seed + static_cast<std::uint64_t>(i));
  request.input = input_;
  request.controls = control_inputs(request.width, request.height);
  request.tiling.enabled = options_.vae_tiling;
  return request;
}

std::vector<MadePicture> ImageJob::make(const pipelines::ImageModel& model, const Embeddings& embeddings,
                                        std::int64_t first, std::int64_t count,
                                        const std::function<void(const pipelines::StepReport&)>& on_step,
                                        const std::function<void(const std::string&, const at::Tensor&)>& dump) {
  if (!positive_) encode_prompts(model, embeddings);
  pipelines::DiffusionRequest run = request(first, count);
  run.on_step = on_step;
  run.dump = dump;
  run.decode = !latent_filter(options_);
  if (dump) {
    dump("prompt_embeds", positive_->context);
    if (positive_->pooled.defined()) dump("pooled_prompt_embeds", positive_->pooled);
    if (negative_) dump("negative_prompt_embeds", negative_->context);
    if (negative_ && negative_->pooled.defined()) dump("negative_pooled_prompt_embeds", negative_->pooled);
  }
  auto result = pipelines::diffuse(model, run);
  std::vector<MadePicture> pictures(run.seeds.size());
  for (std::size_t k = 0; k < pictures.size(); ++k) {
    MadePicture& made = pictures[k];
    made.seed = run.seeds[k];
    if (run.decode) made.picture = std::move(result.pictures[k]);
    made.finite = result.finite[k];
    if (!result.soft_masks.empty()) made.soft_mask = std::move(result.soft_masks[k]);
    made.text_seconds = text_seconds_;
    made.encode_seconds = result.encode_seconds;
    made.denoise_seconds = result.denoise_seconds;
    made.decode_seconds = result.decode_seconds;
    made.evaluations = result.evaluations;
  }
  if (options_.hires > 1) second_pass(model, run, result.latents, pictures);
  for (MadePicture& made : pictures) {
    if (frame_) made.picture = frame_->finish(made.picture, made.soft_mask);
    if (!alpha_.empty()) made.picture = with_alpha(made.picture, painted_alpha(alpha_, frame_->feathered()));
    if (!init_.empty())
      made.picture = image::match_colours(made.picture, init_, *image::parse_colour_match(options_.colour_match));
    if (networks_.upscaler) enlarge(made, on_step);
  }
  return pictures;
}

std::vector<pipelines::ControlInput> ImageJob::control_inputs(std::int64_t width, std::int64_t height) const {
  std::vector<pipelines::ControlInput> inputs;
  const auto mode = *image::parse_resize_mode(options_.resize_mode);
  for (std::size_t i = 0; i < controls_.size(); ++i) {
    const ControlRequest& control = controls_[i];
    // Whatever is done to the given picture is done to those that belong to it.
    const image::Image picture = frame_ ? frame_->worked_part(control_pictures_[i], mode) : control_pictures_[i];
    const image::Image prepared = prepare_control(picture, control, static_cast<int>(width), static_cast<int>(height),
                                                  frame_ ? image::ResizeMode::stretch : mode);
    inputs.push_back(
        {networks_.controls.at(i), pipelines::to_unit_tensor(prepared), control.scale, control.start, control.end});
  }
  return inputs;
}

void ImageJob::enlarge(MadePicture& made, const std::function<void(const pipelines::StepReport&)>& on_step) const {
  const base::Stopwatch watch;
  const image::Image alpha = image::alpha_of(made.picture);
  auto result = networks_.upscaler->enlarge(image::to_rgb(made.picture), options_.upscale_tile, [&] {
    if (on_step) on_step({});
  });
  made.picture = alpha.empty() ? std::move(result.picture)
                               : with_alpha(result.picture, image::resize(alpha, result.picture.width, result.picture.height));
  made.finite = made.finite && result.finite;
  made.upscale_seconds = watch.seconds();
}

/// A side of the second pass.
std::int64_t ImageJob::enlarged(std::int64_t side) const {
  const double times = static_cast<double>(side) * options_.hires / static_cast<double>(multiple_);
  return static_cast<std::int64_t>(std::llround(times)) * multiple_;
}

/// Every picture enlarged and gone over again, each by itself.
void ImageJob::second_pass(const pipelines::ImageModel& model, const pipelines::DiffusionRequest& first,
                           const at::Tensor& latents, std::vector<MadePicture>& pictures) const {
  const auto filter = latent_filter(options_);
  for (std::size_t k = 0; k < pictures.size(); ++k) {
    MadePicture& made = pictures[k];
    pipelines::DiffusionRequest again = first;
    again.width = enlarged(first.width);
    again.height = enlarged(first.height);
    again.seeds = {made.seed};
    again.controls = control_inputs(again.width, again.height);
    again.decode = true;
    again.dump = nullptr;
    if (first.dump && k == 0)
      again.dump = [&first](const std::string& name, const at::Tensor& t) { first.dump("hires." + name, t); };
    pipelines::PictureInput input;
    if (filter)
      input.latents = pipelines::resize_latents(latents.narrow(0, static_cast<std::int64_t>(k), 1),
                                                again.height / multiple_, again.width / multiple_, *filter);
    else
      input.picture = pipelines::to_tensor(image::resize(made.picture, static_cast<int>(again.width),
                                                         static_cast<int>(again.height),
                                                         *image::parse_filter(options_.hires_upscaler)));
    input.strength = options_.hires_strength;
    again.input = std::move(input);
    auto result = pipelines::diffuse(model, again);
    made.picture = std::move(result.pictures[0]);
    made.finite = made.finite && result.finite[0];
    made.encode_seconds += result.encode_seconds;
    made.denoise_seconds += result.denoise_seconds;
    made.decode_seconds += result.decode_seconds;
    made.evaluations += result.evaluations;
  }
}

}  // namespace atelier::cli
