#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/image_job.h"
#include "cli/image_options.h"
#include "metrics/energy.h"
#include "metrics/memory.h"
#include "pipelines/image_adapters.h"
#include "pipelines/image_model.h"

namespace atelier::cli {

/// What making a batch of one prompt took.
struct Measurement {
  std::vector<MadePicture> pictures;
  schedulers::SamplerChoice sampler;                     ///< as it was built
  double text_s = 0, vae_s = 0, total_s = 0;             ///< encoding the prompts; decoding the latents; everything
  std::vector<double> steps_s;                           ///< each evaluation of the UNet with its sampler's work
  std::uint64_t allocator_bytes = 0, process_bytes = 0;  ///< peaks (metrics/memory.h)
  std::optional<double> joules;                          ///< of the machine meanwhile; nothing where it does not tell
};

/// A picture model that pictures are made with while its stages are timed. Only one at a time may be loaded.
class MeasuredModel {
 public:
  explicit MeasuredModel(pipelines::ImageModelFiles files);

  void load();
  bool loaded() const { return model_ != nullptr; }
  double load_seconds() const { return model_->load_seconds; }
  const pipelines::ImageModelFiles& files() const { return files_; }

  /// Puts these LoRA files into the weights, in place of earlier ones. Errors as pipelines::ImageLoras.
  const std::vector<pipelines::LoraReport>& use_loras(const std::vector<pipelines::LoraRequest>& loras);

  /// Makes `options.count` pictures at once, the first from options' seed; what options' `loras` name must be in use. Error(condition)
  /// where a picture holds NaN.
  Measurement make(const ImageOptions& options);

 private:
  pipelines::ImageModelFiles files_;
  metrics::MemoryMeter memory_;  // before the model: its tensors count
  metrics::EnergyMeter energy_;
  std::shared_ptr<const pipelines::ImageModel> model_;
  std::unique_ptr<pipelines::ImageLoras> loras_;
};

/// Hash of everything that decides what a model makes: names and contents of its weights, configurations and tokenizer.
std::string model_sha256(const pipelines::ImageModelFiles& files);

/// {"cpu","cores","memory_bytes","kernel","libtorch","instructions"}, and where there is one "gpu" and "driver".
base::Json machine_record();

/// Threads that LibTorch computes with.
int threads_in_use();

}  // namespace atelier::cli
