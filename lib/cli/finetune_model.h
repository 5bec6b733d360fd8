#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/finetune_options.h"
#include "cli/plan.h"
#include "models/adapters/peft.h"
#include "pipelines/text_model.h"
#include "train/parameters.h"
#include "train/precision.h"

namespace atelier::cli {

/// Headers of the model to be trained, noted for --manifest, its weights' format chosen: --dtype, or with "auto" the
/// precision's (adapters) or the checkpoint's (full). Error(usage), Error(unavailable) for a precision that cannot be had.
struct TraineeFiles {
  pipelines::TextModelFiles files;
  train::Precision precision = train::Precision::fp32;
};
TraineeFiles open_trainee(const FinetuneOptions& options);

/// A model with what is trained of it.
struct Trainee {
  std::shared_ptr<const pipelines::TextModel> model;
  std::optional<models::adapters::PeftAdapter> adapter;  ///< none: all weights are trained
  std::vector<train::Parameter> parameters;

  std::int64_t trained() const;  ///< numbers
};

/// Loads the weights (in 4 bits for qlora, random with --init random) and puts the adapter on. What is drawn follows from
/// `seed`. Errors as models::adapters::attach and load_peft.
Trainee make_trainee(const FinetuneOptions& options, const pipelines::TextModelFiles& files, std::uint64_t seed);

/// The numbers that `options` would train, from headers alone.
std::int64_t count_trained(const FinetuneOptions& options, const pipelines::TextModelFiles& files);

/// Error(usage) where the flags describe no adapter that this model can have; found out before its weights are loaded.
void check_adapter_flags(const FinetuneOptions& options, const pipelines::TextModelFiles& files);

/// With --grad-checkpointing: what is recomputed, and how much memory goes to products that then need not be: at most a quarter of
/// the weights', and never more than --max-ram leaves.
models::gemma::Recompute recompute_of(const FinetuneOptions& options, const TraineeFiles& trainee);

/// What a run needs: weights with gradients and optimiser states, and the activations of a micro-batch.
Plan finetune_plan(const FinetuneOptions& options, const TraineeFiles& trainee);

/// Tells a model's files again: sizes, and a hash of config.json and of the first MiB of each weight file, where the header
/// is. Not its path: a moved model is the same.
std::string model_fingerprint(const pipelines::TextModelFiles& files);

}  // namespace atelier::cli
