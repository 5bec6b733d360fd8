#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/weight_source.h"
#include "models/clip/text_encoder.h"
#include "models/unet/unet.h"
#include "models/vae/autoencoder.h"
#include "pipelines/text_model.h"
#include "text/clip_tokenizer.h"

namespace atelier::pipelines {

enum class ImageFamily { sd1, sd2, sdxl, sdxl_refiner };
std::string_view family_name(ImageFamily family);

/// One of a model's CLIP text encoders, not yet loaded.
struct TextEncoderFiles {
  models::clip::TextConfig config;
  std::shared_ptr<io::WeightSource> weights;
  std::string tokenizer_folder;  ///< "": CLIP's own vocabulary
  bool zero_pad = false;         ///< of that one: OpenCLIP's padding

  std::shared_ptr<const text::ClipTokenizer> open_tokenizer() const;
};

/// The files and headers of a Stable Diffusion model: everything that can be known without reading a weight.
struct ImageModelFiles {
  std::string path;
  std::shared_ptr<io::WeightSource> single_file;  ///< where all parts lie in one; null for a folder
  ImageFamily family = ImageFamily::sd1;
  std::vector<TextEncoderFiles> text_encoders;  ///< one; with SDXL CLIP-L and bigG
  models::unet::Config unet_config;
  std::shared_ptr<io::WeightSource> unet;
  base::Json vae_json;
  std::string vae_config_path;  ///< names the configuration in errors
  std::shared_ptr<io::WeightSource> vae;
  base::Json scheduler_json;
  std::string scheduler_path;             ///< names the configuration in errors
  bool zero_empty_negative = false;       ///< SDXL: no negative prompt is a zero embedding
  bool aesthetic_score = false;           ///< SDXL's refiner is told a score instead of a target size
  std::vector<std::string> config_files;  ///< everything read besides weights
  at::Device device{at::kCPU};
  at::ScalarType dtype{at::kFloat};

  /// `path`: a diffusers folder (model_index.json; weights plain, sharded or of a variant like fp16), or a file in the original
  /// layout (.safetensors; .ckpt through the restricted reader), whose configurations are built in. `vae`: another
  /// autoencoder's folder or file, or "". `tokenizer`: a folder in place of the model's own, or "". dtype auto is the UNet's own;
  /// float16 becomes float32 on a CPU. Error(no_input) where a part is missing, Error(data) where one is malformed or of a kind
  /// that is not supported.
  static ImageModelFiles open(const std::string& path, const Placement& placement, const std::string& vae = {},
                              const std::string& tokenizer = {});

  /// The autoencoder's network alone, without weights.
  std::shared_ptr<models::vae::Autoencoder> build_vae() const;

  /// Pixels per latent along each side, and the size of picture that the UNet was trained on.
  std::int64_t downscale() const;
  std::int64_t native_size() const;
  std::vector<io::WeightFile> weight_files() const;
};

struct ImageTextEncoder {
  std::shared_ptr<const text::ClipTokenizer> tokenizer;
  std::shared_ptr<models::clip::TextEncoder> network;
};

/// A loaded Stable Diffusion 1.x, 2.x or SDXL.
struct ImageModel {
  ImageFamily family = ImageFamily::sd1;
  std::vector<ImageTextEncoder> text_encoders;
  std::shared_ptr<models::unet::UNet> unet;
  std::shared_ptr<models::vae::Autoencoder> vae;
  base::Json scheduler_json;
  std::string scheduler_path;
  bool zero_empty_negative = false, aesthetic_score = false;
  double load_seconds = 0;

  /// What the weights of the UNet and the text encoders are for. packed: pictures alone; the autoencoder's, too, are packed when they are
  /// first used (nn::pack_when_used), which is faster. frozen: training beside them; see nn::load_frozen_parameters. plain: all else.
  enum class Weights { plain, packed, frozen };

  /// Looks at the stop flag between tensors.
  static std::shared_ptr<const ImageModel> load(const ImageModelFiles& files, Weights weights = Weights::plain);

  at::ScalarType dtype() const { return unet->dtype(); }
  at::Device device() const { return unet->device(); }
  bool is_xl() const { return family == ImageFamily::sdxl || family == ImageFamily::sdxl_refiner; }
};

/// Another autoencoder (as ImageModelFiles::open's `vae`) beside a loaded model, in its dtype and on its device.
std::shared_ptr<models::vae::Autoencoder> load_vae(const std::string& path, const ImageModel& model);

}  // namespace atelier::pipelines
