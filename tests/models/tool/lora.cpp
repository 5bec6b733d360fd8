#include "lora.h"

#include <array>
#include <string_view>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include "base/error.h"
#include "io/file_system.h"
#include "io/tensor_file.h"
#include "models/adapters/lora_file.h"
#include "pipelines/image_adapters.h"

namespace {

using namespace atelier;
using models::adapters::KohyaNames;
using models::adapters::LoraLayout;
using models::adapters::LoraModule;

constexpr std::string_view ending = ".weight";
constexpr std::array<std::string_view, 10> linear{".to_q",  ".to_k",   ".to_v",     ".to_out.0", ".ff.net.2",
                                                  "q_proj", ".k_proj", ".out_proj", ".fc1",      "proj_in"};
constexpr std::array<std::string_view, 3> kernels{".conv1", ".conv_shortcut", "downsamplers.0.conv"};

template <std::size_t N>
bool ends_with_any(const std::string& path, const std::array<std::string_view, N>& endings) {
  for (const auto text : endings)
    if (path.ends_with(text)) return true;
  return false;
}

struct Network {
  std::string part;
  const nn::Module& module;
};

std::vector<Network> networks(const pipelines::ImageModel& model) {
  std::vector<Network> all{{"unet", *model.unet}};
  for (std::size_t i = 0; i < model.text_encoders.size(); ++i)
    all.push_back({i == 0 ? "text_encoder" : "text_encoder_2", *model.text_encoders[i].network});
  return all;
}

LoraModule random_lora(const std::string& part, const std::string& path, const at::Tensor& weight, bool dora,
                       at::Generator& generator) {
  const bool conv = weight.dim() == 4 && weight.size(2) > 1;
  const std::int64_t rank = conv ? 2 : 3;
  auto down = weight.sizes().vec();
  down[0] = rank;
  std::vector<std::int64_t> up(down.size(), 1);
  up[0] = weight.size(0);
  up[1] = rank;
  LoraModule lora{.part = part,
                  .path = path,
                  .down = at::empty(down, at::kFloat).normal_(0, 0.2, generator),
                  .up = at::empty(up, at::kFloat).normal_(0, 0.2, generator),
                  .magnitude = {},
                  .alpha = conv ? 1.5 : 2};
  if (dora) lora.magnitude = at::empty({weight.size(0)}, at::kFloat).uniform_(0.5, 1.5, generator);
  return lora;
}

}  // namespace

void make_lora(const std::string& folder, const std::string& layout, const std::string& kind,
               const std::string& output) {
  const at::NoGradGuard no_grad;
  const auto files = pipelines::ImageModelFiles::open(folder, {"cpu", "fp32"});
  const auto model = pipelines::ImageModel::load(files);
  auto generator = at::detail::createCPUGenerator(3);
  std::vector<LoraModule> modules;
  for (const Network& network : networks(*model))
    for (const auto& entry : network.module.named_parameters()) {
      if (!entry.key().ends_with(ending) || entry.value().dim() < 2) continue;
      const std::string path = entry.key().substr(0, entry.key().size() - ending.size());
      const bool wanted = ends_with_any(path, linear) || (kind == "locon" && ends_with_any(path, kernels));
      if (wanted) modules.push_back(random_lora(network.part, path, entry.value(), kind == "dora", generator));
    }
  const KohyaNames names{.xl = model->is_xl(), .unet = model->is_xl() ? &files.unet_config : nullptr};
  io::file_system().create_folders(output);
  const std::string path = output + "/lora.safetensors";
  write_lora(path, modules, layout == "peft" ? LoraLayout::peft : LoraLayout::kohya, names, at::kFloat, {});

  pipelines::ImageLoras loras(*model);
  const auto& reports = loras.use({{path, 1, 1}});
  if (!reports.at(0).unmatched.empty() || reports.at(0).modules != modules.size())
    throw base::Error(base::ExitCode::internal, "keys that were written were not read: " + reports[0].unmatched.at(0));
  io::TensorMap merged;
  for (const Network& network : networks(*model))
    for (const auto& entry : network.module.named_parameters())
      if (entry.key().ends_with(ending)) merged[network.part + "." + entry.key()] = entry.value();
  io::write_tensors(output + "/merged.safetensors", merged);
}
