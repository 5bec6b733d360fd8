#include "cli/train_lora.h"

#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

#include "cli/image_train_run.h"
#include "cli/train_lora_output.h"
#include "io/file_system.h"

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;
using train::image::ImageDataset;

class Run final : public ImageTrainRun {
 public:
  explicit Run(TrainLoraOptions& options) : ImageTrainRun(options.train, options.data), options_(options) {}

 private:
  void check_flags() const override { check_train_lora_flags(options_); }
  void check_output() const override { check_lora_output(o_); }

  std::shared_ptr<ImageDataset> checked_data() const override {
    return std::make_shared<ImageDataset>(train::image::open_sources(options_.data.data, defaults()), dataset_options());
  }
  void look_at_data() override { data_ = checked_data(); }

  base::Json settings() const override { return {{"tool", "sd-train-lora"}}; }

  void write_checkpoint(const std::string& folder, const ImageTrainee& trainee) const override {
    write(folder + "/" + fs::path(o_.output).filename().native(), trainee, 0);
  }

  bool output_is_there() const override {
    std::error_code ignored;
    return fs::exists(o_.output, ignored);
  }

  void write_output(const ImageTrainee& trainee, std::int64_t steps) const override { write(o_.output, trainee, steps); }

  void remove_output() const override {
    io::file_system().remove(o_.output);
    std::error_code ignored;
    fs::remove_all(run_folder(o_) + "/samples", ignored);
  }

  void write(const std::string& path, const ImageTrainee& trainee, std::int64_t steps) const {
    write_lora_output(path, o_, files_, trainee, lora_metadata(o_, files_, *data_, seed_, steps));
  }

  const TrainLoraOptions& options_;
};

}  // namespace

int run_train_lora(TrainLoraOptions& options) { return Run(options).go(); }

}  // namespace atelier::cli
