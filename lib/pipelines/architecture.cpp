#include "pipelines/architecture.h"

#include <map>

#include "schedulers/samplers.h"

namespace atelier::pipelines {
namespace {

using base::Json;

Json describe_part(const std::string& name, const io::WeightSource& source) {
  std::int64_t parameters = 0;
  std::uint64_t bytes = 0;
  std::map<std::string, std::int64_t> dtypes;
  for (const std::string& tensor : source.names()) {
    const io::TensorInfo& info = source.info(tensor);
    parameters += info.elements();
    bytes += info.bytes();
    ++dtypes[std::string(io::dtype_name(info.dtype))];
  }
  return {{"name", name}, {"parameters", parameters}, {"bytes", bytes}, {"dtypes", dtypes}};
}

Json describe_unet(const models::unet::Config& config) {
  Json channels = Json::array(), depth = Json::array(), attention = Json::array(), heads = Json::array();
  for (const auto& level : config.levels) {
    const bool attends = level.down_attention || level.up_attention;
    channels.push_back(level.channels);
    depth.push_back(attends ? level.depth : 0);
    attention.push_back(attends ? level.channels : 0);
    heads.push_back(attends ? level.heads : 0);
  }
  return {{"channels", channels},
          {"depth", depth},
          {"attention", attention},
          {"heads", heads},
          {"context", config.context_size()},
          {"in_channels", config.in_channels},
          {"sample_size", config.sample_size}};
}

Json describe_text(const models::clip::TextConfig& config) {
  return {{"layers", config.layers},
          {"width", config.hidden_size},
          {"heads", config.heads},
          {"tokens", config.max_positions},
          {"vocabulary", config.vocab_size}};
}

Json describe_vae(const ImageModelFiles& files) {
  const auto network = files.build_vae();
  Json vae = {{"class", files.vae_json.value("_class_name", "AutoencoderKL")}, {"channels", Json::array()}};
  for (const char* key : {"block_out_channels", "decoder_block_out_channels"})
    if (files.vae_json.contains(key)) {
      vae["channels"] = files.vae_json[key];
      break;
    }
  vae["latent_channels"] = network->latent_channels();
  vae["downscale"] = network->downscale();
  vae["scaling_factor"] = files.vae_json.value("scaling_factor", Json(nullptr));
  return vae;
}

}  // namespace

Json describe_architecture(const ImageModelFiles& files) {
  Json parts = Json::array(), encoders = Json::array();
  parts.push_back(describe_part("unet", *files.unet));
  for (const TextEncoderFiles& encoder : files.text_encoders) {
    parts.push_back(describe_part(encoders.empty() ? "text_encoder" : "text_encoder_2", *encoder.weights));
    encoders.push_back(describe_text(encoder.config));
  }
  parts.push_back(describe_part("vae", *files.vae));
  std::int64_t parameters = 0;
  std::uint64_t bytes = 0;
  for (const Json& part : parts)
    parameters += part["parameters"].get<std::int64_t>(), bytes += part["bytes"].get<std::uint64_t>();
  return {{"family", family_name(files.family)},
          {"parameters", parameters},
          {"bytes", bytes},
          {"parts", parts},
          {"unet", describe_unet(files.unet_config)},
          {"text_encoders", encoders},
          {"vae", describe_vae(files)},
          {"scheduler",
           {{"class", files.scheduler_json.value("_class_name", "")},
            {"prediction", schedulers::prediction_type(files.scheduler_json, files.scheduler_path)}}}};
}

}  // namespace atelier::pipelines
