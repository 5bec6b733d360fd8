#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/weight_source.h"

/// Stable Diffusion checkpoints of one file in the original layout (`model.diffusion_model.`, `first_stage_model.`,
/// `cond_stage_model.` or `conditioner.embedders.`), seen as the parts of a diffusers folder: a configuration and weights under
/// diffusers' names for each. Nothing here needs the network.
namespace atelier::models::single_file {

enum class Family { sd1, sd2, sdxl, sdxl_refiner };

/// The parts, by the names of their folders in diffusers. SDXL's refiner has text_encoder_2 only.
enum class Component { unet, vae, text_encoder, text_encoder_2 };

/// What a file was recognised as. Configurations are diffusers' config.json, with sizes read off the tensors' shapes.
struct Description {
  Family family = Family::sd1;
  bool inpainting = false;  ///< 9 input channels
  base::Json unet, vae;
  base::Json text_encoder, text_encoder_2;  ///< null where the family has none
  base::Json scheduler;                     ///< scheduler_config.json of the family: class, betas, prediction_type

  const base::Json& config(Component component) const;
  bool has(Component component) const { return !config(component).is_null(); }
};

/// "sd1", "sd2", "sdxl", "sdxl-refiner": as in records.
const char* family_name(Family family);

/// Recognises a checkpoint. Reads headers only, but for one tensor of 320 numbers that tells the two kinds of SD 2 apart.
/// Error(data) where the file is of another kind; Stable Diffusion 3 and FLUX are named as such.
Description recognise(io::WeightSource& file);

/// One part of the file under diffusers' names: tensors share the file's pages, save those that have to be turned round.
/// Uses are scored in `file`; unused() are the file's tensors of this part that nobody asked for.
std::shared_ptr<io::WeightSource> open_component(std::shared_ptr<io::WeightSource> file, const Description& description,
                                                 Component component);

/// Marks what no part wants on purpose: averaged weights (`model_ema.`), schedules, markers, the last layer of SD 2's text
/// encoder, temperature and positions of the text encoders.
void note_ignored(io::WeightSource& file, const Description& description);

/// An autoencoder alone in a file, in the original layout with or without `first_stage_model.`.
/// `config` is AutoencoderKL's, sized by the tensors; the scaling factor is the caller's to know (it is not in the file) and left
/// at 0.18215. Error(data) where the file holds none.
struct VaeFile {
  base::Json config;
  std::shared_ptr<io::WeightSource> weights;  ///< under diffusers' names
};
VaeFile open_vae(std::shared_ptr<io::WeightSource> file);

}  // namespace atelier::models::single_file
