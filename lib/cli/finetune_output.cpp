#include "cli/finetune_output.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "base/error.h"
#include "io/file_system.h"
#include "pipelines/model_folder.h"
#include "train/run_state.h"

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool is_full(const FinetuneOptions& options) { return options.method == "full"; }

/// Configurations first: without its own, a folder is neither an adapter nor a model.
std::vector<std::string> candidates(const FinetuneOptions& options) {
  std::vector<std::string> files{options.output + "/adapter_config.json",
                                 options.output + "/adapter_model.safetensors"};
  for (const std::string& folder : {options.output, merged_folder(options)}) {
    const auto more = pipelines::model_folder_files(folder);
    files.insert(files.end(), more.begin(), more.end());
  }
  return files;
}

}  // namespace

std::string merged_folder(const FinetuneOptions& options) { return options.output + "/merged"; }

void check_output_folder(const FinetuneOptions& options, const std::string& model_folder) {
  std::error_code ignored;
  for (const std::string& other : {model_folder, options.init_adapter})
    if (!other.empty() && fs::equivalent(options.output, other, ignored))
      throw Error(ExitCode::cannot_create,
                  fmt::format("{}: the output folder is what the run begins with", options.output));
  if (options.train.overwrite || !train::Checkpoints(options.output).steps().empty()) return;
  for (const char* name : {"/adapter_config.json", "/config.json", "/metrics.jsonl"})
    if (exists(options.output + name) &&
        !(options.train.resume == "auto" && std::string_view(name) == "/metrics.jsonl"))
      throw Error(ExitCode::cannot_create, fmt::format("{}: holds {} of another run", options.output, name + 1),
                  "--overwrite replaces it; another folder leaves it alone");
}

void write_output(const FinetuneOptions& options, const TraineeFiles& files, Trainee& trainee) {
  if (!trainee.adapter) {
    pipelines::write_model_folder(options.output, files.files, pipelines::merged_tensors(*trainee.model->network));
    return;
  }
  if (options.merge)
    pipelines::write_model_folder(merged_folder(options), files.files,
                                  pipelines::merged_tensors(*trainee.model->network));
  trainee.adapter->config.base_model = options.common.record->model_path;
  save_peft(options.output, *trainee.adapter);
}

bool output_is_there(const FinetuneOptions& options) {
  if (is_full(options)) return exists(options.output + "/config.json");
  return exists(options.output + "/adapter_config.json") && exists(options.output + "/adapter_model.safetensors") &&
         (!options.merge || exists(merged_folder(options) + "/config.json"));
}

std::vector<std::string> output_files(const FinetuneOptions& options) {
  std::vector<std::string> files = candidates(options);
  files.erase(std::remove_if(files.begin(), files.end(), [](const std::string& file) { return !exists(file); }),
              files.end());
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  return files;
}

void remove_output(const FinetuneOptions& options) {
  for (const std::string& file : candidates(options)) io::file_system().remove(file);
  std::error_code ignored;
  fs::remove(merged_folder(options), ignored);
  if (options.train.overwrite) fs::remove_all(options.output + "/samples", ignored);
}

}  // namespace atelier::cli
