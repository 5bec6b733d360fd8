#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/controlnet/controlnet.h"
#include "models/unet/input.h"
#include "pipelines/image_model.h"

namespace atelier::pipelines {

/// The files and headers of one ControlNet.
struct ControlNetFiles {
  std::string path;
  models::controlnet::Config config;
  std::shared_ptr<io::WeightSource> weights;
  std::string config_path;  ///< "" where the configuration was read off the tensors

  /// `path`: a folder in diffusers layout (config.json, weights plain or of a variant like fp16), or a file: in diffusers
  /// layout (with its config.json beside it or without), or in the original one; .safetensors, or .pth and its kin through the
  /// restricted reader. Error(no_input), Error(data); a ControlNet of another family than the model's is Error(data).
  static ControlNetFiles open(const std::string& path, const ImageModelFiles& model);
};

/// The ControlNets beside a loaded model, in its dtype and on its device.
class ControlNets {
 public:
  using Network = std::shared_ptr<const models::controlnet::ControlNet>;

  explicit ControlNets(const ImageModelFiles& model) : model_(model) {}

  /// Those of these paths, in order. What the call before loaded is kept where it is wanted again, the rest is let go. Looks at
  /// the stop flag between tensors.
  std::vector<Network> use(const std::vector<std::string>& paths);

 private:
  const ImageModelFiles& model_;
  std::map<std::string, Network> loaded_;
};

/// A picture that steers a run through a ControlNet.
struct ControlInput {
  ControlNets::Network network;
  at::Tensor picture;         ///< (1, 3, height, width) RGB in [0, 1], of the run's size
  double scale = 1;           ///< of its residuals
  double start = 0, end = 1;  ///< fractions of the run between which it acts
};

/// Which rows of guidance an input has.
enum class GuidanceRows {
  positive,
  negative,
  pairs,  ///< negative and positive alternate
};

/// The ControlNets of one run, their pictures embedded. Several add up, as in diffusers' MultiControlNetModel.
class ControlSteering {
 public:
  ControlSteering() = default;
  explicit ControlSteering(const std::vector<ControlInput>& inputs);

  /// Sets the residuals of `in`, whose sample are latents alone, for evaluation `index` of `total`; one acts at evaluation i of n
  /// unless i / n < start or (i + 1) / n > end.
  void steer(models::unet::Input& in, GuidanceRows rows, std::size_t index, std::size_t total) const;

 private:
  struct Entry {
    ControlInput input;
    at::Tensor embedding;
  };
  std::vector<Entry> entries_;
};

}  // namespace atelier::pipelines
