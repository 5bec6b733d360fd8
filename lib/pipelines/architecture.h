#pragma once

#include "base/json.h"
#include "pipelines/image_model.h"

namespace atelier::pipelines {

/// What a picture model is made of, from its configurations and the headers of its weights; nothing is loaded:
///
///     {"family","parameters","bytes","parts":[{"name","parameters","bytes","dtypes":{"F32":12,...}}...],
///      "unet":{"channels":[...],"depth":[...],"attention":[...],"heads":[...],"context","in_channels","sample_size"},
///      "text_encoders":[{"layers","width","heads","tokens","vocabulary"}...],
///      "vae":{"class","channels":[...],"latent_channels","downscale","scaling_factor"},
///      "scheduler":{"class","prediction"}}
///
/// By level of the UNet, from the finest: "depth" is the transformer blocks in each attention (0: none), "attention" the width that
/// they work on. Parameters are the elements of the tensors in the files, whether the model uses them or not.
base::Json describe_architecture(const ImageModelFiles& files);

}  // namespace atelier::pipelines
