#pragma once

#include <string>

#include "base/json.h"
#include "io/weight_source.h"
#include "models/single_file/single_file.h"

/// Configurations of the parts, as diffusers has them for the published models, with sizes read off the tensors.
namespace atelier::models::single_file {

/// A file whose tensors' names begin with `prefix`.
struct Part {
  const io::WeightSource& file;
  std::string prefix;

  bool has(const std::string& name) const { return file.has(prefix + name); }
  /// Size of one dimension of a tensor; Error(data) where it is missing or has fewer.
  std::int64_t size(const std::string& name, std::size_t dimension) const;
  /// How many of prefix0suffix, prefix1suffix, ... there are in a row, from 0 in steps of `step`.
  std::int64_t count(const std::string& before, const std::string& after) const;
};

/// The way down and the middle of a UNet, which are also a ControlNet's.
base::Json encoder_config(const Part& part, Family family);
base::Json unet_config(const Part& part, Family family);
base::Json vae_config(const Part& part, Family family);
/// Transformers' layout of the text tower (`text_model.`).
base::Json clip_config(const Part& part);
/// OpenCLIP's. `drop_last`: SD 2 stops before the last layer.
base::Json open_clip_config(const Part& part, bool drop_last, bool projection);
base::Json scheduler_config(Family family, const std::string& prediction_type, bool zero_snr);

}  // namespace atelier::models::single_file
