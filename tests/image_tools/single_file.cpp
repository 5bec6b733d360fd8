#include "image_tools/single_file.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/json.h"
#include "image_tools/models.h"
#include "models/clip/text_encoder.h"
#include "models/seeded.h"
#include "models/single_file/layout.h"
#include "models/unet/unet.h"
#include "models/vae/autoencoder.h"

namespace atelier::test {
namespace {

namespace fs = std::filesystem;
namespace layout = models::single_file;
using base::Json;
using Tensors = std::map<std::string, at::Tensor>;

const Json kUnet = {{"_class_name", "UNet2DConditionModel"},
                    {"sample_size", 64},
                    {"in_channels", 4},
                    {"out_channels", 4},
                    {"block_out_channels", {32, 64}},
                    {"down_block_types", {"CrossAttnDownBlock2D", "DownBlock2D"}},
                    {"up_block_types", {"UpBlock2D", "CrossAttnUpBlock2D"}},
                    {"layers_per_block", 2},
                    {"attention_head_dim", 8},
                    {"cross_attention_dim", 64}};
const Json kVae = {{"_class_name", "AutoencoderKL"},
                   {"latent_channels", 4},
                   {"block_out_channels", {32, 32, 32, 32}},
                   {"down_block_types", Json(std::vector<std::string>(4, "DownEncoderBlock2D"))},
                   {"up_block_types", Json(std::vector<std::string>(4, "UpDecoderBlock2D"))},
                   {"layers_per_block", 1},
                   {"sample_size", 512},
                   {"scaling_factor", 0.18215}};
const Json kText = {{"architectures", {"CLIPTextModel"}},
                    {"model_type", "clip_text_model"},
                    {"vocab_size", 95},
                    {"max_position_embeddings", 77},
                    {"hidden_size", 64},
                    {"intermediate_size", 96},
                    {"num_hidden_layers", 2},
                    {"num_attention_heads", 1},
                    {"hidden_act", "quick_gelu"},
                    {"eos_token_id", 2}};
const Json kScheduler = {{"_class_name", "PNDMScheduler"},
                         {"beta_start", 0.00085},
                         {"beta_end", 0.012},
                         {"beta_schedule", "scaled_linear"},
                         {"steps_offset", 1},
                         {"set_alpha_to_one", false},
                         {"timestep_spacing", "leading"},
                         {"num_train_timesteps", 1000},
                         {"prediction_type", "epsilon"},
                         {"skip_prk_steps", true}};
const Json kIndex = {
    {"_class_name", "StableDiffusionPipeline"},       {"unet", {"diffusers", "UNet2DConditionModel"}},
    {"vae", {"diffusers", "AutoencoderKL"}},          {"text_encoder", {"transformers", "CLIPTextModel"}},
    {"tokenizer", {"transformers", "CLIPTokenizer"}}, {"scheduler", {"diffusers", "PNDMScheduler"}}};

Tensors weights_of(const nn::Module& network) {
  Tensors tensors;
  for (const auto& entry : network.named_parameters())
    tensors[entry.key()] = seeded_weight(entry.key(), entry.value().sizes());
  return tensors;
}

at::Tensor as_stored(const at::Tensor& tensor, layout::Change change) {
  return change == layout::Change::flatten ? tensor.unsqueeze(-1).unsqueeze(-1) : tensor;
}

std::string little(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xFF);
  return text;
}

/// A ZIP file of stored entries without checksums, which nobody asks for.
std::string zip(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string file, directory;
  for (const auto& [name, data] : entries) {
    const std::string sizes = little(data.size(), 4) + little(data.size(), 4) + little(name.size(), 2) + little(0, 2);
    directory += "PK\x01\x02" + little(20, 2) + little(20, 2) + little(0, 12) + sizes + little(0, 10) +
                 little(file.size(), 4) + name;
    file += "PK\x03\x04" + little(20, 2) + little(0, 12) + sizes + name + data;
  }
  const std::size_t at = file.size();
  return file + directory + "PK\x05\x06" + little(0, 4) + little(entries.size(), 2) + little(entries.size(), 2) +
         little(directory.size(), 4) + little(at, 4) + little(0, 2);
}

std::string pickled(const std::string& text) { return "X" + little(text.size(), 4) + text; }
std::string pickled(std::int64_t number) { return "J" + little(static_cast<std::uint64_t>(number), 4); }
std::string pickled(at::IntArrayRef numbers) {
  std::string items = "(";
  for (const std::int64_t number : numbers) items += pickled(number);
  return items + "t";
}

}  // namespace

SingleFileModel::SingleFileModel() {
  const auto unet = models::unet::parse_config(kUnet, "unet");
  parts_["unet"] = weights_of(models::unet::UNet(unet));
  parts_["vae"] = weights_of(*models::vae::make_autoencoder(kVae, "vae"));
  parts_["text_encoder"] = weights_of(models::clip::TextEncoder(models::clip::parse_text_config(kText, "text")));
  for (const auto& [name, tensor] : parts_["unet"]) {
    const auto stored = layout::unet_stored(unet, name);
    original_["model.diffusion_model." + stored.name] = as_stored(tensor, stored.change);
  }
  for (const auto& [name, tensor] : parts_["vae"]) {
    const auto stored = layout::vae_stored(4, name);
    original_["first_stage_model." + stored.name] = as_stored(tensor, stored.change);
  }
  for (const auto& [name, tensor] : parts_["text_encoder"]) original_["cond_stage_model.transformer." + name] = tensor;
  original_["model_ema.decay"] = at::ones({1});
}

void SingleFileModel::write_folder(const std::string& path) const {
  const auto put = [&](const std::string& file, const Json& json) {
    fs::create_directories(fs::path(path + "/" + file).parent_path());
    std::ofstream(path + "/" + file) << json.dump();
  };
  put("model_index.json", kIndex);
  put("unet/config.json", kUnet);
  put("vae/config.json", kVae);
  put("text_encoder/config.json", kText);
  put("scheduler/scheduler_config.json", kScheduler);
  write_tensors(path + "/unet/diffusion_pytorch_model.safetensors", parts_.at("unet"));
  write_tensors(path + "/vae/diffusion_pytorch_model.safetensors", parts_.at("vae"));
  write_tensors(path + "/text_encoder/model.safetensors", parts_.at("text_encoder"));
  fs::copy(small_tokenizer(), path + "/tokenizer");
}

void write_checkpoint(const std::string& path, const std::map<std::string, at::Tensor>& tensors) {
  std::string items, storage;
  std::int64_t total = 0;
  for (const auto& [name, tensor] : tensors) total += tensor.numel();
  std::int64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor whole = tensor.contiguous();
    storage.append(static_cast<const char*>(whole.data_ptr()), whole.nbytes());
    const std::string place =
        "(" + pickled("storage") + "ctorch\nFloatStorage\n" + pickled("0") + pickled("cpu") + pickled(total) + "tQ";
    items += pickled(name) + "ctorch._utils\n_rebuild_tensor_v2\n(" + place + pickled(offset) + pickled(whole.sizes()) +
             pickled(whole.strides()) + "\x89" + "ccollections\nOrderedDict\n)RtR";
    offset += whole.numel();
  }
  const std::string program = "\x80\x02}(" + pickled("state_dict") + "}(" + items + "uu.";
  std::ofstream(path, std::ios::binary) << zip(
      {{"archive/data.pkl", program}, {"archive/data/0", storage}, {"archive/version", "3\n"}});
}

std::string small_tokenizer() { return std::string(ATELIER_TEST_DATA) + "/clip_text/small"; }

}  // namespace atelier::test
