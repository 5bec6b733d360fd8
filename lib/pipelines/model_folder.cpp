#include "pipelines/model_folder.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/stop.h"
#include "io/file_system.h"
#include "models/gemma/names.h"
#include "nn/adapter.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/group_quantised_weight.h"

namespace atelier::pipelines {
namespace {

namespace fs = std::filesystem;
using base::Json;
using models::gemma::CausalLm;
using models::gemma::Names;

constexpr std::int64_t shard_bytes = 2'000'000'000;
constexpr std::int64_t rows_of_block = nn::kernels::packed_rows;
constexpr std::size_t largest_copied_file = std::size_t{1} << 30;

/// Files of a folder that belong to the tokenizer and to how text is generated.
constexpr const char* companions[] = {"tokenizer.model",      "tokenizer.json",          "tokenizer_config.json",
                                      "added_tokens.json",    "special_tokens_map.json", "generation_config.json",
                                      "chat_template.jinja",  "chat_template.json",      "preprocessor_config.json",
                                      "processor_config.json"};

using Adapters = std::vector<std::shared_ptr<nn::Adapter>>;

at::Tensor merged(const at::Tensor& dense, const Adapters& adapters, bool embedding) {
  const at::NoGradGuard no_grad;
  if (adapters.empty()) return dense.detach();
  const at::Tensor base = dense.detach().to(at::kFloat);
  at::Tensor weight = base;
  for (const auto& adapter : adapters)
    if (adapter->active) weight = nn::merged_weight(*adapter, weight, base, embedding);
  return weight.to(dense.scalar_type());
}

std::int64_t bytes_of(const FolderTensor& t) {
  return std::accumulate(t.shape.begin(), t.shape.end(), static_cast<std::int64_t>(c10::elementSize(t.dtype)),
                         std::multiplies<>());
}

constexpr std::string_view part_suffixes[] = {nn::GroupQuantisedWeight::codes_suffix, nn::GroupQuantisedWeight::scales_suffix,
                                                nn::GroupQuantisedWeight::units_suffix};

/// A name without what packed weights' parts have behind it, and that; nothing where it is no part.
std::pair<std::string, std::string> split_part(const std::string& name) {
  for (const std::string_view suffix : part_suffixes)
    if (name.ends_with(suffix)) return {name.substr(0, name.size() - suffix.size()), std::string(suffix)};
  return {name, ""};
}

/// The codes of the first packed weight; null where the tensors are dense.
const FolderTensor* first_codes(const std::vector<FolderTensor>& tensors) {
  for (const FolderTensor& t : tensors)
    if (t.name.ends_with(nn::GroupQuantisedWeight::codes_suffix)) return &t;
  return nullptr;
}

Json quantisation_json(const std::vector<FolderTensor>& tensors) {
  const FolderTensor& codes = *first_codes(tensors);
  const std::string scales = split_part(codes.name).first + nn::GroupQuantisedWeight::scales_suffix;
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == scales; });
  const int bits = found->shape.at(2) == rows_of_block ? 8 : 4;
  return {{"quant_method", quantised_method},
          {"version", quantised_version},
          {"bits", bits},
          {"group_size", codes.shape.at(2) * 8 / (bits * rows_of_block)}};
}

std::map<std::string, std::string> metadata_of(const std::vector<FolderTensor>& tensors) {
  std::map<std::string, std::string> metadata{{"format", "pt"}};
  if (first_codes(tensors)) metadata["quantization_config"] = base::dump_json(quantisation_json(tensors));
  return metadata;
}

void write_shard(const std::string& path, const std::vector<FolderTensor>& tensors,
                 const std::map<std::string, std::string>& metadata) {
  std::vector<at::Tensor> held;
  std::vector<io::TensorBytes> entries;
  for (const FolderTensor& t : tensors) {
    base::throw_if_stopped();
    held.push_back(t.make().to(at::kCPU).contiguous());
    const at::Tensor& here = held.back();
    entries.push_back(
        {{t.name, io::dtype_of(here.scalar_type()), here.sizes().vec()},
         {static_cast<const std::byte*>(here.const_data_ptr()), static_cast<std::size_t>(here.nbytes())}});
  }
  io::write_safetensors(path, entries, metadata);
}

std::vector<std::vector<FolderTensor>> shards_of(const std::vector<FolderTensor>& tensors) {
  std::vector<std::vector<FolderTensor>> shards(1);
  std::int64_t size = 0;
  for (const FolderTensor& t : tensors) {
    if (size > 0 && size + bytes_of(t) > shard_bytes) {
      shards.emplace_back();
      size = 0;
    }
    shards.back().push_back(t);
    size += bytes_of(t);
  }
  return shards;
}

void write_weights(const std::string& folder, const std::vector<FolderTensor>& tensors) {
  const auto shards = shards_of(tensors);
  const auto metadata = metadata_of(tensors);
  if (shards.size() == 1) return write_shard(folder + "/model.safetensors", tensors, metadata);
  Json map = Json::object();
  std::int64_t total = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_shard(folder + "/" + name, shards[i], metadata);
    for (const FolderTensor& t : shards[i]) {
      map[t.name] = name;
      total += bytes_of(t);
    }
  }
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(map)}};
  io::write_atomically(folder + "/model.safetensors.index.json", index.dump(1) + "\n");
}

/// The tensors by the checkpoint's names, with what else it holds.
std::vector<FolderTensor> with_the_rest(const std::vector<FolderTensor>& tensors, const TextModelFiles& origin) {
  if (!origin.weights) return tensors;
  const Names names(*origin.weights, origin.config.tied_head);
  std::vector<FolderTensor> all;
  std::set<std::string> written;
  for (FolderTensor t : tensors) {
    const auto [weight, suffix] = split_part(t.name);
    const std::string stored = names.stored(weight);
    t.name = stored + suffix;
    written.insert(stored);
    all.push_back(std::move(t));
  }
  for (const std::string& name : origin.weights->names()) {
    const std::string weight = split_part(name).first;
    if (written.contains(weight) || (origin.config.tied_head && weight.ends_with("lm_head.weight"))) continue;
    const io::TensorInfo& info = origin.weights->info(name);
    const at::ScalarType dtype = io::scalar_type(info.dtype);
    all.push_back(
        {name, info.shape, dtype, [&origin, name, dtype] { return origin.weights->load(name, dtype, at::kCPU); }});
  }
  return all;
}

Json config_of(const TextModelFiles& origin, const std::vector<FolderTensor>& tensors) {
  Json config = origin.config_json;
  const bool head =
      std::any_of(tensors.begin(), tensors.end(), [](const auto& t) { return t.name == "lm_head.weight"; });
  const bool packed = first_codes(tensors) != nullptr;
  const at::ScalarType dtype = packed ? origin.dtype : tensors.front().dtype;
  const char* format = dtype == at::kFloat ? "float32" : "bfloat16";
  config.erase("quantization_config");
  if (packed) config["quantization_config"] = quantisation_json(tensors);
  const auto settle = [&](Json& part) {
    for (const char* key : {"torch_dtype", "dtype"})
      if (part.contains(key)) part[key] = format;
    if (head && origin.config.tied_head) part["tie_word_embeddings"] = false;
  };
  settle(config);
  if (config.contains("text_config")) settle(config["text_config"]);
  if (!config.contains("torch_dtype") && !config.contains("dtype")) config["torch_dtype"] = format;
  return config;
}

}  // namespace

std::vector<FolderTensor> merged_tensors(const CausalLm& network) {
  std::vector<FolderTensor> tensors;
  std::set<std::string> listed;
  const auto list = [&](const std::string& name, const at::Tensor& weight, at::ScalarType dtype,
                        std::function<at::Tensor()> make) {
    if (listed.insert(name).second) tensors.push_back({name, weight.sizes().vec(), dtype, std::move(make)});
  };
  const at::ScalarType dtype = network.dtype();
  const nn::Linear* head = nullptr;
  const nn::Embedding* embedding = nullptr;
  for (const auto& entry : network.named_modules()) {
    const std::string name = entry.key() + ".weight";
    if (const auto* linear = entry.value()->as<nn::Linear>()) {
      if (entry.key() == "lm_head") head = linear;
      // A tied head is listed where an adapter tells it from the embedding.
      const bool tied = embedding && linear == head && head->weight.is_alias_of(embedding->weight);
      if (linear->adapters.empty() && (!linear->quantised() || tied)) continue;
      list(name, linear->weight, dtype,
           [linear, dtype] { return merged(linear->dense_weight(dtype), linear->adapters, false); });
    } else if (const auto* table = entry.value()->as<nn::Embedding>()) {
      embedding = table;
      if (table->adapters.empty() && !table->quantised()) continue;
      list(name, table->weight, dtype,
           [table, dtype] { return merged(table->dense_weight(dtype), table->adapters, true); });
    }
  }
  const auto list_plain = [&](const std::string& name, const at::Tensor& weight) {
    list(name, weight, weight.scalar_type(), [weight] { return weight.detach(); });
  };
  for (const auto& entry : network.named_parameters()) list_plain(entry.key(), entry.value());
  // A tied head is no parameter; where an adapter changes one of the two, or a whole weight took the place of one, each is
  // written.
  const bool apart = !embedding->adapters.empty() || !head->weight.is_alias_of(embedding->weight);
  if (apart) list("lm_head.weight", head->weight, dtype, [head, dtype] { return head->dense_weight(dtype).detach(); });
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return tensors;
}

void write_model_folder(const std::string& folder, const TextModelFiles& origin,
                        const std::vector<FolderTensor>& tensors) {
  io::file_system().create_folders(folder);
  write_weights(folder, with_the_rest(tensors, origin));
  std::error_code ignored;
  for (const char* name : companions) {
    const std::string from = origin.folder + "/" + name;
    if (fs::exists(from, ignored)) io::write_atomically(folder + "/" + name, io::read_file(from, largest_copied_file));
  }
  io::write_atomically(folder + "/config.json", config_of(origin, tensors).dump(2) + "\n");
}

std::vector<std::string> model_folder_files(const std::string& folder) {
  std::vector<std::string> files{folder + "/config.json"};
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().native();
    const bool weights = name.starts_with("model") && (name.ends_with(".safetensors") || name.ends_with(".index.json"));
    const bool companion =
        std::any_of(std::begin(companions), std::end(companions), [&](const char* c) { return name == c; });
    if (weights || companion) files.push_back(entry.path().native());
  }
  return files;
}

}  // namespace atelier::pipelines
