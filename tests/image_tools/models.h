#pragma once

#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/json.h"
#include "support/process.h"

namespace atelier::test {

/// The tiny random models of scripts/fixtures/image_pipelines.py as folders in diffusers layout; weights follow from names, so
/// only configurations and diffusers' pictures are files. Folders live until the process ends.
const std::string& tiny_model(const std::string& name);  ///< sd15, sd2v, sdxl, inpaint; taesd, an autoencoder alone
/// A folder with lora-sd15.safetensors and lora-sdxl.safetensors, as scripts/fixtures/_image_loras.py makes them.
const std::string& tiny_loras();

/// The tiny ControlNets of scripts/fixtures/control.py as folders: sd15, other, pooled; for SDXL sdxl, small.
const std::string& tiny_control(const std::string& name);

/// What diffusers was asked, and for which model.
const base::Json& picture_cases();
std::string picture_data(const std::string& file);

/// How far a picture file is from diffusers' picture: the largest difference of any channel, and the mean.
struct Distance {
  double largest = 256, mean = 256;
};
/// `masked`: diffusers' picture inside mask.png, the given picture (init.png) outside.
Distance distance(const std::string& path, const std::string& golden, bool masked = false);
/// The same of a tensor of bytes.
Distance distance(const std::string& path, const at::Tensor& golden, bool masked = false);
Distance distance_of_files(const std::string& a, const std::string& b);

/// Writes named tensors as a safetensors file.
void write_tensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors);

/// A tool on one of these models; `args` come after --model.
Result image_tool(const std::string& tool, const std::string& model, const std::vector<std::string>& args,
                  const std::string& input = {});
std::vector<base::Json> json_lines(const std::string& text);
/// The one record of a tool that succeeded.
base::Json one_record(const Result& result);

}  // namespace atelier::test
