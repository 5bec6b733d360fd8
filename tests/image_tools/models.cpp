#include "image_tools/models.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>

#include "image/read.h"
#include "io/safetensors.h"
#include "io/weight_source.h"
#include "models/clip/text_encoder.h"
#include "models/controlnet/controlnet.h"
#include "models/seeded.h"
#include "models/unet/unet.h"
#include "models/vae/autoencoder.h"
#include "support/doctest_last.h"

namespace atelier::test {
namespace {

namespace fs = std::filesystem;
using base::Json;

void write_weights(const nn::Module& network, const std::string& path) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& entry : network.named_parameters())
    tensors[entry.key()] = seeded_weight(entry.key(), entry.value().sizes());
  write_tensors(path, tensors);
}

void write_component(const fs::path& folder, const Json& config) {
  const std::string what = folder.filename().string();
  if (what == "unet")
    write_weights(models::unet::UNet(models::unet::parse_config(config, what)),
                  folder / "diffusion_pytorch_model.safetensors");
  else if (what == "vae" || what == "taesd")
    write_weights(*models::vae::make_autoencoder(config, what), folder / "diffusion_pytorch_model.safetensors");
  else if (what.starts_with("text_encoder"))
    write_weights(models::clip::TextEncoder(models::clip::parse_text_config(config, what)),
                  folder / "model.safetensors");
}

void write_model(const TempFolder& root, const std::string& name, const Json& files) {
  for (const auto& [file, content] : files.items()) {
    const fs::path path = root.path() / name / file;
    fs::create_directories(path.parent_path());
    root.write((fs::path(name) / file).string(), content.dump());
    if (path.filename() == "config.json") write_component(path.parent_path(), content);
  }
  if (!files.contains("model_index.json")) return;
  const fs::path tokenizer = fs::path(ATELIER_TEST_DATA) / "clip_text" / "small";
  for (const char* folder : {"tokenizer", "tokenizer_2"})
    if (folder == std::string("tokenizer") || files.contains("text_encoder_2/config.json"))
      fs::copy(tokenizer, root.path() / name / folder);
}

Distance compare(const image::Image& a, const std::uint8_t* other, std::size_t size) {
  if (a.data.size() != size || size == 0) return {};
  Distance d{0, 0};
  for (std::size_t i = 0; i < size; ++i) {
    const double difference = std::abs(static_cast<int>(a.data[i]) - static_cast<int>(other[i]));
    d.largest = std::max(d.largest, difference);
    d.mean += difference / static_cast<double>(size);
  }
  return d;
}

}  // namespace

std::string picture_data(const std::string& file) {
  return std::string(ATELIER_TEST_DATA) + "/image_pipelines/" + file;
}

void write_tensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors) {
  std::vector<io::TensorBytes> list;
  for (const auto& [name, tensor] : tensors) {
    io::TensorBytes bytes;
    bytes.info.name = name;
    bytes.info.dtype = io::DType::F32;
    bytes.info.shape = tensor.sizes().vec();
    bytes.data = {static_cast<const std::byte*>(tensor.data_ptr()), tensor.nbytes()};
    list.push_back(bytes);
  }
  io::write_safetensors(path, list, {});
}

const std::string& tiny_loras() {
  constexpr double kAlpha = 3, kScale = 0.5;
  static const TempFolder folder;
  static const std::string path = folder.path().string();
  if (!folder.entries().empty()) return path;
  const Json configs = base::read_json_file(picture_data("configs.json"));
  for (const auto& [model, shapes] : configs.at("loras").items()) {
    std::map<std::string, at::Tensor> tensors;
    for (const auto& [key, shape] : shapes.items()) {
      const auto sizes = shape.get<std::vector<std::int64_t>>();
      tensors[key] = sizes.empty() ? seeded(key, sizes, 0, kAlpha) : seeded(key, sizes, kScale);
    }
    write_tensors(folder.file("lora-" + model + ".safetensors"), tensors);
  }
  return path;
}

const std::string& tiny_model(const std::string& name) {
  static const TempFolder root;
  static const Json configs = base::read_json_file(picture_data("configs.json"));
  static std::map<std::string, std::string> made;
  auto& path = made[name];
  if (path.empty()) {
    write_model(root, name, configs.at(name));
    path = root.file(name);
  }
  return path;
}

const std::string& tiny_control(const std::string& name) {
  static const TempFolder root;
  static const Json configs = base::read_json_file(std::string(ATELIER_TEST_DATA) + "/control/configs.json").at("tiny");
  static std::map<std::string, std::string> made;
  auto& path = made[name];
  if (!path.empty()) return path;
  path = root.file(name);
  fs::create_directories(path);
  root.write(name + "/config.json", configs.at(name).dump());
  const models::controlnet::ControlNet network(models::controlnet::parse_config(configs.at(name), name));
  std::map<std::string, at::Tensor> tensors;
  for (const auto& entry : network.named_parameters())
    tensors[entry.key()] = seeded_weight(name + "." + entry.key(), entry.value().sizes());
  write_tensors(path + "/diffusion_pytorch_model.safetensors", tensors);
  return path;
}

const Json& picture_cases() {
  static const Json cases = base::read_json_file(picture_data("cases.json"));
  return cases;
}

Distance distance(const std::string& path, const std::string& golden, bool masked) {
  static const auto goldens = io::WeightSource::open(picture_data("goldens.safetensors"));
  return distance(path, goldens->load(golden, at::kByte, at::kCPU), masked);
}

Distance distance(const std::string& path, const at::Tensor& golden, bool masked) {
  at::Tensor expected = golden.clone();
  auto* bytes = expected.data_ptr<std::uint8_t>();
  if (masked) {
    const image::Image mask = image::read_image(picture_data("mask.png"));
    const image::Image init = image::read_image(picture_data("init.png"));
    for (std::size_t i = 0; i < init.data.size(); ++i)
      if (mask.data[i / 3] == 0) bytes[i] = init.data[i];
  }
  return compare(image::read_image(path), bytes, expected.nbytes());
}

Distance distance_of_files(const std::string& a, const std::string& b) {
  const image::Image other = image::read_image(b);
  return compare(image::read_image(a), other.data.data(), other.data.size());
}

Result image_tool(const std::string& name, const std::string& model, const std::vector<std::string>& args,
                  const std::string& input) {
  Process process{.program = tool(name), .args = {"--model", tiny_model(model), "--threads", "1"}, .input = input};
  process.args.insert(process.args.end(), args.begin(), args.end());
  process.timeout = std::chrono::minutes(5);
  return run(process);
}

std::vector<Json> json_lines(const std::string& text) {
  std::vector<Json> all;
  for (const std::string& line : lines_of(text)) all.push_back(base::parse_json(line, "stdout"));
  return all;
}

Json one_record(const Result& result) {
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  const auto lines = json_lines(result.out);
  REQUIRE(lines.size() == 1);
  return lines[0];
}

}  // namespace atelier::test
