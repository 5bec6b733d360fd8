// The files of an adapter: reading them onto a model, and writing them.
#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "io/file_system.h"
#include "io/weight_source.h"
#include "models/adapters/peft.h"
#include "models/adapters/peft_modules.h"

namespace atelier::models::adapters {
namespace {

using base::Error;
using base::ExitCode;
namespace fs = std::filesystem;

constexpr const char* config_name = "adapter_config.json";
constexpr const char* weights_name = "adapter_model.safetensors";
constexpr std::string_view base_prefix = "base_model.model.";

/// What a tensor is to its module.
enum class Role { a, b, embedding_a, embedding_b, magnitude, base, whole };

struct Entry {
  std::string key;   ///< in the file
  std::string path;  ///< of the module, as the model names it; of Role::base and Role::whole the parameter's name
  Role role;
};

constexpr std::array<std::pair<std::string_view, Role>, 5> endings = {{{".lora_A.weight", Role::a},
                                                                       {".lora_B.weight", Role::b},
                                                                       {".lora_embedding_A", Role::embedding_a},
                                                                       {".lora_embedding_B", Role::embedding_b},
                                                                       {".lora_magnitude_vector", Role::magnitude}}};

std::string shape_text(at::IntArrayRef shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

/// Whether a name belongs to the parts of a multimodal model that a text model leaves alone.
bool is_of_other_part(std::string_view name) {
  if (name.starts_with("model.")) name.remove_prefix(6);
  for (const std::string_view part : {"vision_tower.", "multi_modal_projector.", "vision_model.", "audio_tower."})
    if (name.starts_with(part)) return true;
  return false;
}

std::string prefix_of(const std::vector<std::string>& keys) {
  for (const std::string& key : keys)
    for (const std::string_view prefix : {"model.language_model.", "language_model.model."})
      if (std::string_view(key).substr(std::min(key.size(), base_prefix.size())).starts_with(prefix))
        return std::string(prefix);
  return "model.";
}

class Reader {
 public:
  explicit Reader(const std::string& folder) : folder_(folder) {
    std::error_code ignored;
    if (!fs::exists(folder, ignored))
      throw Error(ExitCode::no_input, fmt::format("{}: no such adapter folder", folder));
    if (!fs::is_directory(folder, ignored))
      throw Error(ExitCode::no_input, fmt::format("{}: not a folder", folder), hint());
    for (const char* name : {config_name, weights_name})
      if (!fs::exists(folder + "/" + name, ignored))
        throw Error(ExitCode::no_input, fmt::format("{}: no {}", folder, name), hint());
    config = parse_peft_config(base::read_json_file(folder + "/" + config_name), folder + "/" + config_name);
    source = io::WeightSource::open(folder + "/" + weights_name);
    prefix = prefix_of(source->names());
    for (const std::string& key : source->names())
      if (auto entry = parse(key)) entries.push_back(std::move(*entry));
  }

  /// A fresh f32 copy: files are mapped, and adapters are trained in place.
  at::Tensor load(const std::string& key, at::Device device) const {
    const auto tensor = source->load(key, at::kFloat, device);
    return tensor.clone(at::MemoryFormat::Contiguous);
  }

  std::string file() const { return folder_ + "/" + weights_name; }
  std::string config_file() const { return folder_ + "/" + config_name; }

  PeftConfig config;
  std::shared_ptr<io::WeightSource> source;
  std::string prefix;
  std::vector<Entry> entries;

 private:
  static const char* hint() { return "an adapter is a folder with adapter_config.json and adapter_model.safetensors"; }

  std::string own_name(std::string_view name) const {
    if (name.starts_with(prefix)) return "model." + std::string(name.substr(prefix.size()));
    constexpr std::string_view outer = "language_model.";
    return std::string(name.starts_with(outer) ? name.substr(outer.size()) : name);
  }

  std::optional<Entry> parse(const std::string& key) const {
    if (!std::string_view(key).starts_with(base_prefix))
      throw Error(ExitCode::data, fmt::format("{}: tensor \"{}\" is not named as peft names them", file(), key));
    const std::string_view name = std::string_view(key).substr(base_prefix.size());
    if (is_of_other_part(name)) {
      source->note_used(key);
      return {};
    }
    for (const auto& [ending, role] : endings)
      if (name.ends_with(ending)) return Entry{key, own_name(name.substr(0, name.size() - ending.size())), role};
    for (const std::string_view last : {".weight", ".bias"}) {
      if (!name.ends_with(last)) continue;
      const std::string_view module = name.substr(0, name.size() - last.size());
      constexpr std::string_view base_layer = ".base_layer";
      if (module.ends_with(base_layer))
        return Entry{key, own_name(module.substr(0, module.size() - base_layer.size())) + std::string(last),
                     Role::base};
      return Entry{key, own_name(name), Role::whole};
    }
    throw Error(ExitCode::data, fmt::format("{}: tensor \"{}\" is of a kind that is not supported", file(), key));
  }

  std::string folder_;
};

/// The adapter tensors of one module by role.
using Tensors = std::map<Role, at::Tensor>;

class Attacher {
 public:
  /// `check_only`: the model has no weights yet.
  Attacher(gemma::CausalLm& model, const Reader& reader, double scale, bool check_only = false)
      : model_(model),
        reader_(reader),
        scale_(scale),
        check_only_(check_only),
        matcher_(reader.config, reader.config_file()) {
    for (auto& module : selected_modules(model, matcher_, reader.config_file(), reader.prefix)) {
      order_.push_back(module.path);
      selected_.emplace(module.path, module);
    }
  }

  PeftAdapter attach() {
    PeftAdapter result{.config = reader_.config, .targets = {}, .whole = {}, .prefix = reader_.prefix};
    for (const Entry& entry : reader_.entries)
      if (entry.role != Role::base && entry.role != Role::whole) read_adapter_tensor(entry);
    if (found_.empty()) throw Error(ExitCode::data, fmt::format("{}: no adapter tensor in it", reader_.file()));
    for (const std::string& path : order_) result.targets.push_back(target(path));
    for (const Entry& entry : reader_.entries)
      if (entry.role == Role::base || entry.role == Role::whole) read_whole(entry, result);
    check_saved_modules();
    if (check_only_) return result;
    // Nothing of the model has changed so far.
    replace_weights(result);
    for (const auto& made : result.targets) selected_.at(made.path).adapters().push_back(made.adapter);
    return result;
  }

 private:
  Error wrong(const Entry& entry, const std::string& why) const {
    return {ExitCode::data, fmt::format("{}: tensor \"{}\" {}", reader_.file(), entry.key, why)};
  }

  void check_shape(const Entry& entry, at::IntArrayRef wanted) const {
    const at::IntArrayRef shape = reader_.source->info(entry.key).shape;
    if (shape != wanted)
      throw wrong(entry, fmt::format("has shape {}, the model and the adapter's configuration want {}",
                                     shape_text(shape), shape_text(wanted)));
  }

  void read_adapter_tensor(const Entry& entry) {
    const auto place = selected_.find(entry.path);
    if (place == selected_.end()) {
      const auto modules = model_.named_modules();
      throw wrong(entry, modules.contains(entry.path) ? "is for a module that adapter_config.json does not select"
                                                      : "is for a module that the model does not have");
    }
    const SelectedModule& module = place->second;
    const std::int64_t rank = matcher_.rank(spelled(entry.path, reader_.prefix));
    const bool of_embedding = entry.role == Role::embedding_a || entry.role == Role::embedding_b;
    if (entry.role != Role::magnitude && of_embedding != (module.embedding != nullptr))
      throw wrong(entry, module.embedding ? "does not go with an embedding" : "does not go with a linear map");
    Role role = entry.role;
    if (role == Role::embedding_a) role = Role::a;
    if (role == Role::embedding_b) role = Role::b;
    if (role == Role::magnitude && !reader_.config.use_dora)
      throw wrong(entry, "goes with \"use_dora\": true, which adapter_config.json does not say");
    check_shape(entry, role == Role::a   ? module.a_shape(rank)
                       : role == Role::b ? module.b_shape(rank)
                                         : module.magnitude_shape());
    found_[entry.path][role] = reader_.load(entry.key, model_.device());
  }

  PeftAdapter::Target target(const std::string& path) const {
    const SelectedModule& module = selected_.at(path);
    const std::string file_path = spelled(path, reader_.prefix);
    const auto tensors = found_.find(path);
    const auto tensor = [&](Role role, const char* ending) {
      if (tensors == found_.end() || !tensors->second.contains(role))
        throw Error(ExitCode::data,
                    fmt::format("{}: no tensor \"{}{}{}\"", reader_.file(), base_prefix, file_path, ending));
      return tensors->second.at(role);
    };
    auto adapter = std::make_shared<nn::Adapter>();
    adapter->lora_a = tensor(Role::a, module.linear ? ".lora_A.weight" : ".lora_embedding_A");
    adapter->lora_b = tensor(Role::b, module.linear ? ".lora_B.weight" : ".lora_embedding_B");
    if (reader_.config.use_dora) adapter->magnitude = tensor(Role::magnitude, ".lora_magnitude_vector");
    adapter->scale = matcher_.scale(file_path) * scale_;
    adapter->dropout = reader_.config.lora_dropout;
    return {.path = path, .adapter = adapter, .embedding = module.embedding != nullptr};
  }

  /// A weight or bias that takes the place of the model's: peft stores those of `modules_to_save` and of `bias`. Beside an
  /// adapter of an embedding or head it also stores the weight that the adapter was made for; that has to be the model's.
  void read_whole(const Entry& entry, PeftAdapter& result) {
    const bool is_head = entry.path == "lm_head.weight";
    if (entry.role == Role::base && is_head && model_.config().tied_head) return;  // stored as the embedding, too
    const bool is_bias = entry.path.ends_with(".bias");
    const std::string module = entry.path.substr(0, entry.path.rfind('.'));
    const auto& saved = reader_.config.modules_to_save;
    const bool named =
        std::any_of(saved.begin(), saved.end(), [&](const auto& name) { return module.ends_with(name); });
    if (entry.role == Role::whole && !named && !(is_bias && reader_.config.bias != "none"))
      throw wrong(entry, "is of a kind that is not supported, and \"modules_to_save\" does not name its module");
    if (entry.role == Role::base && is_bias && reader_.config.bias == "none")
      throw wrong(entry, "is a bias, which adapter_config.json does not speak of");
    const auto parameters = model_.named_parameters();
    const at::Tensor* own =
        is_head && model_.config().tied_head ? &parameters["model.embed_tokens.weight"] : parameters.find(entry.path);
    if (!own) throw wrong(entry, "is for a module that the model does not have");
    const auto modules = model_.named_modules();
    const auto* linear = modules[module]->as<nn::Linear>();
    const auto* table = modules[module]->as<nn::Embedding>();
    if (!is_bias && ((linear && linear->quantised()) || (table && table->quantised())))
      throw wrong(entry, "is for a weight that is held quantised");
    check_shape(entry, own->sizes());
    auto tensor = reader_.load(entry.key, model_.device());
    if (entry.role == Role::base && !is_bias) {
      if (check_only_) return;
      // Compared in the coarser of both types: either side may have been rounded to it.
      const auto stored = io::scalar_type(reader_.source->info(entry.key).dtype), held = own->scalar_type();
      if (!at::equal(tensor.to(stored).to(held), own->to(stored).to(held)))
        throw wrong(entry, "differs from the model's own: the adapter was made for another model");
      return;
    }
    if (entry.role == Role::whole && (is_head || entry.path == "model.embed_tokens.weight")) untie_ = true;
    result.whole.emplace(entry.path, std::move(tensor));
  }

  void check_saved_modules() const {
    for (const std::string& name : reader_.config.modules_to_save)
      if (std::none_of(reader_.entries.begin(), reader_.entries.end(), [&](const Entry& entry) {
            return entry.role == Role::whole && entry.path.substr(0, entry.path.rfind('.')).ends_with(name);
          }))
        throw Error(ExitCode::data, fmt::format("{}: nothing for \"modules_to_save\": \"{}\"", reader_.file(), name));
  }

  void replace_weights(const PeftAdapter& result) {
    if (untie_) model_.untie();
    for (const auto& [name, tensor] : result.whole) {
      if (name == "lm_head.weight") {
        model_.set_head_weight(tensor.to(model_.dtype()));
        continue;
      }
      at::Tensor own = model_.named_parameters()[name];
      own.set_data(tensor.to(own.scalar_type()));
    }
  }

  gemma::CausalLm& model_;
  const Reader& reader_;
  double scale_;
  bool check_only_;
  PeftMatcher matcher_;
  std::map<std::string, SelectedModule> selected_;
  std::vector<std::string> order_;
  std::map<std::string, Tensors> found_;
  bool untie_ = false;
};

}  // namespace

PeftAdapter load_peft(gemma::CausalLm& model, const std::string& folder, double scale) {
  const at::NoGradGuard no_grad;
  const Reader reader(folder);
  return Attacher(model, reader, scale).attach();
}

std::int64_t peft_bytes(gemma::CausalLm& model, const std::string& folder) {
  const at::NoGradGuard no_grad;
  const Reader reader(folder);
  std::int64_t bytes = 0;
  for (const auto& [name, tensor] : Attacher(model, reader, 1, /*check_only=*/true).attach().tensors())
    bytes += static_cast<std::int64_t>(tensor.nbytes());
  return bytes;
}

std::vector<std::string> peft_files(const std::string& folder) {
  return {folder + "/" + config_name, folder + "/" + weights_name};
}

void save_peft(const std::string& folder, const PeftAdapter& adapter) {
  io::file_system().create_folders(folder);
  std::vector<at::Tensor> kept;
  std::vector<io::TensorBytes> list;
  for (const auto& [name, tensor] : adapter.tensors()) {
    const auto& bytes = kept.emplace_back(tensor.detach().to(at::kCPU, at::kFloat).contiguous());
    list.push_back({.info = {.name = name, .dtype = io::DType::F32, .shape = bytes.sizes().vec()},
                    .data = {static_cast<const std::byte*>(bytes.const_data_ptr()), bytes.nbytes()}});
  }
  io::write_safetensors(folder + "/" + weights_name, list, {{"format", "pt"}});
  io::write_atomically(folder + "/" + config_name, peft_json(adapter.config).dump(2) + "\n");
}

}  // namespace atelier::models::adapters
