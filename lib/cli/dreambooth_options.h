#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/image_data_options.h"
#include "cli/image_train_options.h"

namespace atelier::cli {

/// Everything that sd-dreambooth can be told (CLI.md, "sd-dreambooth").
struct DreamBoothOptions {
  DreamBoothOptions();

  ImageTrainOptions train;  ///< its token is textual inversion's, and not used
  ImageDataOptions data;
  std::string instance_images, token = "sks", class_name, class_images, class_prompt;
  std::vector<std::string> templates;
  std::int64_t num_class_images = 100, class_steps = 20, drift_report = 0;
  bool check_token = false;

  bool full() const { return train.method == "full"; }
  bool prior() const { return data.prior_weight > 0 && num_class_images > 0; }
  /// Filled templates, one a line: what pictures of the subject are called.
  std::string instance_prompts() const;
  /// What pictures of the class are called: --class-prompt, or the templates without the token, one a line.
  std::string class_prompts() const;
  /// Where they are: --class-images, or class in the run's folder.
  std::string class_folder() const;
};

void define_dreambooth_flags(CLI::App& app, DreamBoothOptions& options);

/// Flags that do not go together, or are missing: Error(usage).
void check_dreambooth_flags(const DreamBoothOptions& options);

/// Steps and rates from the number of pictures, as far as no flag says them; stderr tells.
void choose_steps_and_rates(DreamBoothOptions& options, std::int64_t pictures);

}  // namespace atelier::cli
