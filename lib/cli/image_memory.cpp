#include "cli/image_memory.h"

#include <algorithm>

namespace atelier::cli {
namespace {

void add_files(Plan& plan, const io::WeightSource& weights) {
  for (const auto& file : weights.files())
    if (std::find(plan.files.begin(), plan.files.end(), file.path) == plan.files.end()) plan.files.push_back(file.path);
}

}  // namespace

Plan image_plan(const pipelines::ImageModelFiles& files, const pipelines::ImagePlanRequest& request) {
  const auto memory = pipelines::plan_memory(files, request);
  Plan plan;
  plan.family = memory.family;
  plan.missing = memory.missing;
  plan.unused = memory.unused;
  for (const auto& file : files.weight_files()) plan.files.push_back(file.path);
  for (const auto& control : request.controls) add_files(plan, *control.weights);
  if (request.upscaler != nullptr) add_files(plan, *request.upscaler->file.weights);
  plan.tensors = static_cast<std::uint64_t>(memory.tensors);
  plan.parameters = static_cast<std::uint64_t>(memory.parameters);
  plan.weights = static_cast<std::uint64_t>(memory.weight_bytes);
  plan.cache = static_cast<std::uint64_t>(memory.cache_bytes);
  plan.activations = static_cast<std::uint64_t>(memory.activation_bytes);
  return plan;
}

}  // namespace atelier::cli
