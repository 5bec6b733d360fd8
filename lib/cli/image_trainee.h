#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/image_train_options.h"
#include "cli/plan.h"
#include "models/adapters/image_lora.h"
#include "pipelines/image_model.h"
#include "train/image/conditions.h"
#include "train/parameters.h"
#include "train/precision.h"

namespace atelier::cli {

/// Headers of the model to be trained, noted for --manifest, its weights' format chosen: --dtype, or with "auto" the precision's
/// (adapters, textual inversion) or fp32 (full). Error(usage), Error(unavailable) for a precision that cannot be had; Error(data)
/// for a family that cannot be trained.
struct ImageTraineeFiles {
  pipelines::ImageModelFiles files;
  train::Precision precision = train::Precision::fp32;

  bool is_xl() const { return files.unet_config.has_addition(); }
};
ImageTraineeFiles open_image_trainee(const ImageTrainOptions& options);

/// A model with what is trained of it.
struct ImageTrainee {
  std::shared_ptr<const pipelines::ImageModel> model;
  std::optional<models::adapters::ImageLora> lora;   ///< LoRA and DoRA
  std::optional<train::image::TrainedToken> token;   ///< textual inversion
  std::vector<train::Parameter> parameters;

  std::int64_t trained() const;  ///< numbers
  void set_training(bool training) const;
  std::vector<train::image::TextTower> towers() const;
};

/// Loads the weights and puts on what is trained. What is drawn follows from `seed`. Error(usage): a first word that is not one
/// token; Error(data) as ImageModel::load.
ImageTrainee make_image_trainee(const ImageTrainOptions& options, const ImageTraineeFiles& files, std::uint64_t seed);

/// What a run needs: weights with gradients and optimiser states, and the activations of a micro-batch of that size.
Plan image_train_plan(const ImageTrainOptions& options, const ImageTraineeFiles& files, std::int64_t width,
                      std::int64_t height, std::int64_t batch);

/// Tells a model's files again: sizes, and a hash of the configurations and of the first MiB of each weight file, where the
/// header is. Not its path: a moved model is the same.
std::string model_fingerprint(const pipelines::ImageModelFiles& files);

}  // namespace atelier::cli
