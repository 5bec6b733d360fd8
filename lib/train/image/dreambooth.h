#pragma once

#include <cstdint>
#include <string>

namespace atelier::train::image {

/// `a photo of {token} {class}` with its names filled in; without a token its place, and the blank before it, go.
/// Error(usage): another name in brackets; a template that has no {token}.
std::string fill_template(const std::string& text, const std::string& token, const std::string& class_name);

/// What a DreamBooth training is like, as far as the number of pictures decides it.
struct DreamBoothFacts {
  std::int64_t pictures = 4;    ///< of the subject
  std::int64_t batch_size = 1;  ///< times accumulation: pictures of a step
  bool full = true;             ///< all weights, not a LoRA
  bool text_encoder = false, prior = true;
};

struct DreamBoothPlan {
  std::int64_t steps = 0;
  double unet_lr = 0, text_encoder_lr = 0;
};

/// Steps and rates that suit so many pictures, after diffusers' DreamBooth guide (4 or 5 pictures: 400 steps, 800 with prior
/// preservation, 5e-6, with the text encoder 2e-6; LoRA 1e-4): each picture comes up 100 times, with prior preservation 200; no
/// fewer than 200 pictures are seen, and no more than 4,000. Below three pictures half the rate, since they are soon learnt
/// by heart. Reference: https://huggingface.co/docs/diffusers/training/dreambooth
DreamBoothPlan dreambooth_plan(const DreamBoothFacts& facts);

}  // namespace atelier::train::image
