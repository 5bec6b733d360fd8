#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Generator.h>

#include "io/gguf.h"
#include "io/weight_source.h"
#include "models/gemma/model.h"
#include "nn/group_quantised_weight.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace atelier::pipelines {

/// Where a model is to run and in which type. `dtype` auto: the checkpoint's own; f16 weights become bf16 on a CPU that
/// computes in bf16 and f32 elsewhere.
struct Placement {
  std::string device = "auto";  ///< auto | cpu | cuda | cuda:N
  std::string dtype = "auto";   ///< auto | fp32 | bf16 | fp16
  nn::GroupQuantisation quantisation = {};     ///< hold weights in fewer bits, on the CPU
};

/// `quant_method` and `version` of the `quantization_config` of folders with packed weights.
inline constexpr const char* quantised_method = "atelier-packed";
inline constexpr std::int64_t quantised_version = 1;

/// The device meant by a --device value. Error(unavailable) where it is not there.
at::Device resolve_device(const std::string& name);

/// A PEFT folder to put on the model, its own scale times this one.
struct TextAdapter {
  std::string folder;
  double scale = 1;
};

/// The files and headers of a Gemma checkpoint: everything that can be known without reading a weight.
struct TextModelFiles {
  std::string folder;  ///< of config.json and the tokenizer; of a GGUF file, which brings both, the one that it lies in
  std::shared_ptr<const io::GgufFile> gguf;  ///< or null
  base::Json config_json;
  models::gemma::Config config;
  std::shared_ptr<io::WeightSource> weights;
  std::vector<TextAdapter> adapters;  ///< in the order in which they apply; open() leaves them empty
  at::Device device{at::kCPU};
  at::ScalarType dtype{at::kFloat};
  nn::CacheFormat cache = nn::CacheFormat::full;  ///< of keys and values; open() leaves it at full
  nn::GroupQuantisation quantisation;  ///< of dense weights, when they are loaded; open() takes it from the placement
  bool quantised = false;  ///< the checkpoint holds its weights packed (gemma-quantize)

  /// `path`: a Hugging Face folder, one .safetensors file with config.json and tokenizer beside it, or a GGUF file, whose
  /// quantised weights are decoded to bf16 unless `placement` says otherwise. Error(no_input) where a part is missing,
  /// Error(data) where one is malformed, Error(usage) for fp16, whose range Gemma's activations leave.
  /// Packed weights run on the CPU: Error(unavailable) for another device, which auto does not choose for them.
  static TextModelFiles open(const std::string& path, const Placement& placement);
  /// The same of a folder that needs no weights (`weights` is null): a model to be trained from nothing. `dtype` auto: f32.
  static TextModelFiles open_untrained(const std::string& folder, const Placement& placement);

  std::shared_ptr<const text::Tokenizer> open_tokenizer() const;
  std::shared_ptr<const text::ChatTemplate> own_template() const;  ///< null where there is none
};

/// What a model folder has for text: everything but the network.
struct TextParts {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat_template;  ///< the folder's, or the family's own
  bool instruction_tuned = false;                           ///< the folder brings a chat template

  static TextParts open(const TextModelFiles& files);
};

/// A loaded Gemma with its tokenizer and chat template.
struct TextModel {
  std::string folder;
  std::shared_ptr<models::gemma::CausalLm> network;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat_template;  ///< the folder's, or the family's own
  bool instruction_tuned = false;                           ///< the folder brings a chat template
  std::vector<text::TokenId> stop_ids;
  text::TokenId bos = 2;
  std::int64_t context = 0;  ///< max_position_embeddings
  double load_seconds = 0;

  /// `nf4`: the layers' weights in 4 bits, to train adapters on (QLoRA); embedding, norms and head stay in files.dtype.
  static std::shared_ptr<const TextModel> load(const TextModelFiles& files, bool nf4 = false);
  /// Begins where transformers begins: matrices normal with config.json's initializer_range (0.02), norms at 1, biases 0.
  static std::shared_ptr<const TextModel> begin(const TextModelFiles& files, const at::Generator& generator);
};

/// What tells a model's adapters apart, one text for each: hashes of their files, and their scales.
std::vector<std::string> adapter_identities(const TextModelFiles& files);

/// The ids that end a reply: the model's own, in a chat also its end of turn, and with functions the mark behind which their
/// responses stand.
std::vector<text::TokenId> stop_ids_of(const TextModel& model, bool chat, bool functions = false);

/// Threads of LibTorch's pool and of our kernels; 0 leaves LibTorch's choice.
void set_threads(int threads);

/// What `--plan` prints and `--max-ram` compares. `positions`: tokens of prompt and reply together; `batch`: sequences at once.
struct MemoryPlan {
  std::string family;
  std::vector<std::string> missing, unused;
  std::int64_t tensors = 0, parameters = 0;
  std::int64_t weight_bytes = 0, cache_bytes = 0, activation_bytes = 0;
  std::int64_t total() const { return weight_bytes + cache_bytes + activation_bytes; }
};

MemoryPlan plan_memory(const TextModelFiles& files, std::int64_t positions, std::int64_t batch);

}  // namespace atelier::pipelines
