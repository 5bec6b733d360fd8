#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pipelines/image_model.h"
#include "pipelines/prompt_encoding.h"
#include "schedulers/samplers.h"

namespace atelier::cli {

/// One line of a file of sample prompts, as kohya's scripts write them.
struct SamplePrompt {
  std::string prompt;
  std::optional<std::string> negative;
  std::int64_t width = 0, height = 0;  ///< 0: as trained
  std::int64_t steps = 20;
  double cfg_scale = 7.5;
  std::optional<std::uint64_t> seed;  ///< left out: the run's seed + the line's place
};

/// `TEXT --n NEGATIVE --w 512 --h 512 --d SEED --s STEPS --l CFG`. Error(data), starting with `where`: an unknown letter, a number
/// that is none or out of range, sizes that are no multiples of `multiple`.
SamplePrompt parse_sample_prompt(const std::string& line, std::int64_t multiple, const std::string& where);

/// Draws a list of prompts with the model as it is at the moment, into FOLDER/step-N-K.png, K being the prompt's place from 0.
class ImageSampleWriter {
 public:
  struct Options {
    std::string folder;
    std::int64_t width = 512, height = 512;
    std::uint64_t seed = 0;
    schedulers::SamplerChoice sampler;
    std::optional<std::int64_t> clip_skip;
    /// Textual inversion: the word as it is at the moment; may be empty.
    std::function<std::shared_ptr<const pipelines::TextualInversion>()> embedding;
  };

  /// `path`: a prompt a line; blank lines and those that begin with # are left out. Error(no_input); Error(data): a bad line, no
  /// prompts.
  ImageSampleWriter(const std::string& path, std::shared_ptr<const pipelines::ImageModel> model, Options options);

  /// Without autocast and gradients. Looks at the stop flag. A picture that holds NaN is a warning, and not written.
  void write(std::int64_t step) const;

 private:
  void draw(const SamplePrompt& prompt, std::size_t place, std::int64_t step) const;

  std::shared_ptr<const pipelines::ImageModel> model_;
  Options options_;
  std::vector<SamplePrompt> prompts_;
};

}  // namespace atelier::cli
