#include "pipelines/textual_inversion.h"

#include <algorithm>
#include <filesystem>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "io/tensor_file.h"
#include "io/torch_checkpoint.h"
#include "io/weight_source.h"

namespace atelier::pipelines {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;

constexpr std::int64_t kMaxVectors = 1000;
constexpr std::string_view kParameters = "string_to_param.";

at::Tensor read_vectors(io::WeightSource& source, const std::string& name, const std::string& path) {
  const auto& shape = source.info(name).shape;
  const bool right = (shape.size() == 1 && shape[0] > 0) ||
                     (shape.size() == 2 && shape[0] > 0 && shape[0] <= kMaxVectors && shape[1] > 0);
  if (!right) throw Error(ExitCode::data, fmt::format("{}: {} is not a list of vectors", path, base::in_quotes(name)));
  const at::Tensor vectors = source.load(name, at::kFloat, at::kCPU);
  return vectors.dim() == 1 ? vectors.unsqueeze(0) : vectors;
}

/// The text encoder whose tokens have this many numbers.
std::size_t encoder_for(const at::Tensor& vectors, const ImageModelFiles& model, const std::string& path) {
  for (std::size_t i = 0; i < model.text_encoders.size(); ++i)
    if (model.text_encoders[i].config.hidden_size == vectors.size(1)) return i;
  throw Error(ExitCode::data,
              fmt::format("{}: vectors of {} numbers fit no text encoder of this model", path, vectors.size(1)),
              "the embedding was made for another family of models");
}

/// The name of a file's one embedding, or "".
std::string only_tensor(const io::WeightSource& source) {
  if (source.has("emb_params")) return "emb_params";
  const auto names = source.names();
  const auto parameter =
      std::find_if(names.begin(), names.end(), [](const auto& n) { return n.starts_with(kParameters); });
  if (parameter != names.end()) return *parameter;
  return names.size() == 1 ? names.front() : "";
}

void assign(TextualInversion& embedding, std::size_t encoder, const at::Tensor& vectors, std::int64_t hidden) {
  if (vectors.size(1) != hidden)
    throw Error(ExitCode::data,
                fmt::format("{}: vectors of {} numbers where the text encoder wants {}", embedding.path,
                            vectors.size(1), hidden),
                "the embedding was made for another family of models");
  embedding.vectors[encoder] = vectors;
}

}  // namespace

std::shared_ptr<const TextualInversion> read_textual_inversion(const std::string& path, const ImageModelFiles& model) {
  const auto source = io::is_torch_checkpoint(path) ? io::open_torch_checkpoint(path) : io::WeightSource::open(path);
  auto embedding = std::make_shared<TextualInversion>();
  embedding->path = path;
  embedding->names = {fs::path(path).stem().string()};
  embedding->vectors.resize(model.text_encoders.size());
  const auto& encoders = model.text_encoders;
  if (source->has("clip_g")) {
    const std::size_t last = encoders.size() - 1;
    assign(*embedding, last, read_vectors(*source, "clip_g", path), encoders[last].config.hidden_size);
    if (source->has("clip_l") && last > 0)
      assign(*embedding, 0, read_vectors(*source, "clip_l", path), encoders[0].config.hidden_size);
    return embedding;
  }
  const std::string key = only_tensor(*source);
  if (key.empty()) throw Error(ExitCode::data, fmt::format("{}: not a textual-inversion embedding", path));
  const at::Tensor vectors = read_vectors(*source, key, path);
  embedding->vectors[encoder_for(vectors, model, path)] = vectors;
  const bool nameless = key == "emb_params" || key == "clip_l" || key == "*" || key.starts_with(kParameters);
  const bool token = !nameless && key != embedding->names.front();
  if (token) embedding->names.push_back(key);
  return embedding;
}

void write_textual_inversion(const std::string& path, const std::string& token, const std::vector<at::Tensor>& vectors,
                             at::ScalarType dtype) {
  if (vectors.empty() || vectors.size() > 2)
    throw Error(ExitCode::internal, "an embedding is for one or two text encoders");
  io::TensorMap tensors;
  if (vectors.size() == 1) {
    tensors[token] = vectors[0];
  } else {
    tensors["clip_l"] = vectors[0];
    tensors["clip_g"] = vectors[1];
  }
  for (auto& [name, tensor] : tensors) tensor = tensor.detach().to(at::kCPU, dtype);
  io::write_tensors(path, tensors, {{"format", "pt"}});
}

std::vector<std::string> embedding_files(const std::string& folder) {
  std::error_code failed;
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder, failed))
    if (entry.path().extension() == ".safetensors" || io::is_torch_checkpoint(entry.path().string()))
      files.push_back(entry.path().string());
  if (failed) throw Error(ExitCode::no_input, fmt::format("{}: {}", folder, failed.message()));
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace atelier::pipelines
