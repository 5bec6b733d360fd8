#include "cli/dreambooth_output.h"

#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "base/error.h"
#include "cli/train_lora_output.h"
#include "io/file_system.h"
#include "pipelines/image_folder.h"
#include "train/run_state.h"

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;

std::string index_of(const DreamBoothOptions& o) { return o.train.output + "/model_index.json"; }

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

at::ScalarType dtype_of(const std::string& name) {
  return name == "fp16" ? at::kHalf : name == "bf16" ? at::kBFloat16 : at::kFloat;
}

}  // namespace

void check_dreambooth_output(const DreamBoothOptions& o) {
  if (!o.full()) return check_lora_output(o.train);
  std::error_code ignored;
  if (exists(o.train.output) && !fs::is_directory(o.train.output, ignored))
    throw Error(ExitCode::cannot_create, fmt::format("{}: is a file, and a folder is to be written", o.train.output),
                "--method lora writes a file");
  if (!exists(index_of(o)) || o.train.train.overwrite) return;
  if (!train::Checkpoints(run_folder(o.train)).steps().empty() && o.train.train.resume != "never") return;
  throw Error(ExitCode::cannot_create,
              fmt::format("{}: holds a model, and no run of it is in {}", o.train.output, run_folder(o.train)),
              "--overwrite replaces it; another folder leaves it alone");
}

void check_full_output(const DreamBoothOptions& o, const pipelines::ImageModelFiles& files) {
  std::error_code ignored;
  if (!o.train.output.empty() && fs::equivalent(o.train.output, files.path, ignored))
    throw Error(ExitCode::cannot_create, fmt::format("{}: is the model that the run begins with", o.train.output));
}

void write_dreambooth_output(const DreamBoothOptions& o, const ImageTraineeFiles& files, const ImageTrainee& trainee,
                             const train::image::ImageDataset& data, std::uint64_t seed, std::int64_t steps) {
  if (o.full())
    pipelines::write_image_folder(o.train.output, files.files, *trainee.model, o.train.train_text_encoder,
                                  dtype_of(o.train.save_dtype));
  else
    write_lora_output(o.train.output, o.train, files, trainee, lora_metadata(o.train, files, data, seed, steps));
}

bool dreambooth_output_is_there(const DreamBoothOptions& o) { return exists(o.full() ? index_of(o) : o.train.output); }

void remove_dreambooth_output(const DreamBoothOptions& o) {
  std::error_code ignored;
  if (o.full()) {
    io::file_system().remove(index_of(o));
    for (const char* part : {"unet", "vae", "text_encoder", "text_encoder_2"})
      for (const char* name : {"diffusion_pytorch_model.safetensors", "model.safetensors"})
        io::file_system().remove(fmt::format("{}/{}/{}", o.train.output, part, name));
  } else {
    io::file_system().remove(o.train.output);
  }
  for (const char* folder : {"/drift", "/samples"}) fs::remove_all(run_folder(o.train) + folder, ignored);
}

}  // namespace atelier::cli
