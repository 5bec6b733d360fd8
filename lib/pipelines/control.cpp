#include "pipelines/control.h"

#include <filesystem>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include "base/error.h"
#include "models/controlnet/file.h"
#include "nn/packed_weight.h"
#include "pipelines/weight_files.h"

namespace atelier::pipelines {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;
using base::Json;
using models::controlnet::Residuals;

ImageFamily family_of(const models::unet::Config& config) {
  return config.has_addition() ? ImageFamily::sdxl : config.linear_projection ? ImageFamily::sd2 : ImageFamily::sd1;
}

void check_fit(const ControlNetFiles& control, const ImageModelFiles& model) {
  const auto& config = control.config;
  const std::string reason = mismatch(config, model.unet_config);
  const ImageFamily family = family_of(config.encoder);
  if (!reason.empty() && family != model.family)
    throw Error(ExitCode::data, fmt::format("{}: a ControlNet for {}, the model is {}", control.path,
                                            family_name(family), family_name(model.family)));
  if (!reason.empty())
    throw Error(ExitCode::data,
                fmt::format("{}: the ControlNet does not go with this model: {}", control.path, reason));
  if (config.encoder.in_channels != 4)
    throw Error(ExitCode::data, fmt::format("{}: a ControlNet for latents of {} channels is not supported",
                                            control.path, config.encoder.in_channels));
  if (config.downscale() != model.downscale())
    throw Error(ExitCode::data, fmt::format("{}: the ControlNet makes 1 latent of {} pixels, the model of {}",
                                            control.path, config.downscale(), model.downscale()));
}

Json read_config(const std::string& path) {
  Json json = base::read_json_file(path);
  if (!json.is_object()) throw Error(ExitCode::data, fmt::format("{}: expected a JSON object", path));
  return json;
}

void read_folder(ControlNetFiles& files) {
  files.config_path = files.path + "/config.json";
  if (!exists(files.config_path))
    throw Error(ExitCode::no_input, fmt::format("{}: no such file", files.config_path),
                "a ControlNet is a folder in diffusers layout, or a single file");
  files.config = models::controlnet::parse_config(read_config(files.config_path), files.config_path);
  files.weights = open_weights_folder(files.path, "diffusion_pytorch_model");
}

void read_file(ControlNetFiles& files) {
  files.weights = open_weights_file(files.path);
  const std::string beside = (fs::path(files.path).parent_path() / "config.json").string();
  if (files.weights->has("controlnet_cond_embedding.conv_in.weight") && exists(beside)) {
    const Json json = read_config(beside);
    if (json.value("_class_name", Json()) == "ControlNetModel") {
      files.config_path = beside;
      files.config = models::controlnet::parse_config(json, beside);
      return;
    }
  }
  auto file = models::controlnet::open_file(files.weights);
  files.config = models::controlnet::parse_config(file.config, files.path);
  files.weights = std::move(file.weights);
}

/// The positive rows of pairs.
models::unet::Input positive_rows(const models::unet::Input& in) {
  const auto second = [](const at::Tensor& t) { return t.defined() ? t.unflatten(0, {-1, 2}).select(1, 1) : t; };
  models::unet::Input half;
  half.sample = second(in.sample);
  half.timestep = in.timestep;
  half.context = second(in.context);
  half.time_ids = second(in.time_ids);
  half.text_embeds = second(in.text_embeds);
  half.rows_together = in.rows_together / 2;
  return half;
}

/// Nothing for the negative row of each pair.
at::Tensor behind_zeros(const at::Tensor& rows) { return at::stack({at::zeros_like(rows), rows}, 1).flatten(0, 1); }

}  // namespace

ControlNetFiles ControlNetFiles::open(const std::string& path, const ImageModelFiles& model) {
  if (!exists(path)) throw Error(ExitCode::no_input, fmt::format("{}: no such file or folder", path));
  ControlNetFiles files;
  files.path = path;
  if (is_folder(path))
    read_folder(files);
  else
    read_file(files);
  check_fit(files, model);
  return files;
}

std::vector<ControlNets::Network> ControlNets::use(const std::vector<std::string>& paths) {
  const at::NoGradGuard no_grad;
  std::map<std::string, Network> wanted;
  for (const std::string& path : paths)
    if (const auto place = loaded_.find(path); place != loaded_.end()) wanted.insert(*place);
  loaded_ = std::move(wanted);  // the others make room first
  std::vector<Network> networks;
  for (const std::string& path : paths) {
    Network& network = loaded_[path];
    if (!network) {
      const auto files = ControlNetFiles::open(path, model_);
      auto loading = std::make_shared<models::controlnet::ControlNet>(files.config);
      nn::load_parameters(*loading, *files.weights, nn::NameMap(), model_.dtype, model_.device);
      nn::pack_when_used(*loading);
      network = std::move(loading);
    }
    networks.push_back(network);
  }
  return networks;
}

ControlSteering::ControlSteering(const std::vector<ControlInput>& inputs) {
  for (const ControlInput& input : inputs)
    entries_.push_back(
        {input, input.network->embed(input.picture.to(input.network->device(), input.network->dtype()))});
}

void ControlSteering::steer(models::unet::Input& in, GuidanceRows rows, std::size_t index, std::size_t total) const {
  in.down_residuals.clear();
  in.mid_residual = at::Tensor();
  const double n = static_cast<double>(total), begin = static_cast<double>(index) / n,
               end = static_cast<double>(index + 1) / n;
  Residuals sum;
  for (const auto& [input, embedding] : entries_) {
    const bool positive_only = input.network->config().global_pool;
    if (begin < input.start || end > input.end || input.scale == 0) continue;
    if (positive_only && rows == GuidanceRows::negative) continue;
    const bool halved = positive_only && rows == GuidanceRows::pairs;
    Residuals one = input.network->forward(halved ? positive_rows(in) : in, embedding, input.scale);
    one.down.push_back(std::move(one.mid));
    for (std::size_t i = 0; i < one.down.size(); ++i) {
      at::Tensor residual = halved ? behind_zeros(one.down[i]) : std::move(one.down[i]);
      if (sum.down.size() <= i)
        sum.down.push_back(std::move(residual));
      else
        sum.down[i] = sum.down[i] + residual;  // an averaged one has 1 x 1 pixels
    }
  }
  if (sum.down.empty()) return;
  in.mid_residual = std::move(sum.down.back());
  sum.down.pop_back();
  in.down_residuals = std::move(sum.down);
}

}  // namespace atelier::pipelines
