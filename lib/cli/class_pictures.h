#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "image/image.h"
#include "pipelines/image_model.h"

namespace atelier::cli {

/// Pictures of one prompt, drawn with the model's own sampler.
struct PromptPictures {
  std::string prompt;
  std::int64_t width = 512, height = 512, steps = 20, batch_size = 1;
  double cfg_scale = 7.5;
};

/// Pictures of these seeds, a batch at a time; each is what its seed gives alone. `done` gets each with its place. Error(condition)
/// for one that holds NaN. Looks at the stop flag at every step.
void draw_pictures(const pipelines::ImageModel& model, const PromptPictures& wanted,
                   const std::vector<std::uint64_t>& seeds,
                   const std::function<void(std::size_t place, const image::Image& picture)>& done);

/// Pictures of a class in a folder, as many as are wanted, for prior preservation (DreamBooth, arXiv:2208.12242, section 3.3).
struct ClassPictures {
  std::string folder;
  std::int64_t number = 100;
  PromptPictures pictures;
  std::uint64_t seed = 0;  ///< picture i has seed + i
  bool own_seed = false;   ///< false: where some are there, theirs is taken
  std::string model_key;   ///< pictures of another model are no prior of this one
};

/// Draws those that the folder lacks, class-00000.png and so on; pictures of other names count, and are a person's own. Whatever
/// stops it, a later call goes on, with the same result. Returns how many were drawn. Error(usage) where pictures that were drawn
/// for another prompt, model or size, or from another seed of one's own, are there. Shows progress.
std::int64_t complete_class_pictures(const pipelines::ImageModel& model, const ClassPictures& wanted);

}  // namespace atelier::cli
