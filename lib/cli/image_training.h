#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/image_trainee.h"
#include "train/image/dataset.h"
#include "train/image/task.h"
#include "train/loop.h"

namespace atelier::cli {

/// A training of an image model as sd-train-lora and sd-dreambooth make it.
struct ImageTraining {
  const ImageTrainOptions& options;
  const ImageTraineeFiles& files;
  ImageTrainee& trainee;
  std::shared_ptr<train::image::ImageDataset> data;
  std::shared_ptr<train::Processes> processes = std::make_shared<train::Processes>();  ///< that train together
  std::uint64_t seed = 0;
  std::string cache_folder;         ///< where latents and embeddings of captions are kept; "": they are not
  std::int64_t sample_width = 512, sample_height = 512;
  bool draws_pictures = false;      ///< afterwards, with the trained model: it stays whole
  base::Json settings;              ///< what must be equal for a resume besides model, data and image_train_settings
  /// Adds the tool's own files to a checkpoint that is being written; may be empty.
  std::function<void(const std::string& folder)> write_checkpoint;
  /// For measuring: the loss of these after every `eval_every` steps (0: before the first and after the last alone).
  std::vector<train::image::FixedPair> pairs = {};
  std::int64_t eval_every = 0;
  /// For measuring, too: runs the task in place of train::train; the trainee is then as it leaves it.
  std::function<train::RunResult(train::Task& task, const train::LoopOptions& options)> run = {};
};

/// What became of it, and what it was told.
struct ImageTrainingResult {
  train::RunResult run;
  train::LoopOptions loop;
};

/// Fills the caches, trains into run_folder(options), and puts what is to be written into the trainee: the averaged weights where
/// there are, else the last ones. Timings go to the record. Errors as train::train.
ImageTrainingResult run_image_training(const ImageTraining& training);

}  // namespace atelier::cli
