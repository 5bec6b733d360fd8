#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "cli/image_data_options.h"
#include "cli/image_training.h"
#include "cli/output.h"

namespace atelier::cli {

/// A run of sd-train-lora or sd-dreambooth: headers, a plan, a look at the pictures, the training, the output, the record. What the
/// tools do each in its own way is a subclass's.
class ImageTrainRun {
 public:
  virtual ~ImageTrainRun() = default;
  /// Returns the exit code.
  int go();

 protected:
  /// Both must outlive the run; a subclass may change them until training begins.
  ImageTrainRun(ImageTrainOptions& options, ImageDataOptions& data) : o_(options), data_options_(data) {}

  /// Flags that do not go together, or are missing: Error(usage). Nothing has been read yet.
  virtual void check_flags() const = 0;
  /// What stands where the output is to go: Error(cannot_create), Error(usage).
  virtual void check_output() const = 0;
  /// Headers are known. An exit code where that is all that was asked for.
  virtual std::optional<int> look_at_model() { return std::nullopt; }
  /// Pictures of one micro-batch.
  virtual std::int64_t pictures_together() const { return o_.train.batch_size; }
  /// What --check reports on.
  virtual std::shared_ptr<train::image::ImageDataset> checked_data() const = 0;
  /// Before the weights are loaded: whatever is wrong with the pictures is found out here.
  virtual void look_at_data() = 0;
  /// The weights are loaded, nothing is trained yet. Sets data_ where look_at_data has not. The first process is through with it
  /// before the others begin.
  virtual void prepare(const pipelines::ImageModel& /*model*/) {}
  /// Whether finish() draws pictures with the model.
  virtual bool draws_pictures() const { return false; }
  /// What must be equal for a resume, besides what both tools have: {"tool": ...} at least.
  virtual base::Json settings() const = 0;
  /// Adds the tool's own files to a checkpoint's folder.
  virtual void write_checkpoint(const std::string& /*folder*/, const ImageTrainee& /*trainee*/) const {}
  virtual bool output_is_there() const = 0;
  virtual void write_output(const ImageTrainee& trainee, std::int64_t steps) const = 0;
  virtual void remove_output() const = 0;
  /// The output is written (by the first process, which alone calls this): adds the tool's own keys to the record.
  virtual void finish(const pipelines::ImageModel& /*model*/, base::Json& /*record*/) {}

  std::int64_t native_size() const { return files_.files.native_size(); }
  /// The size without buckets; with them about their area.
  train::image::Size size() const { return bucket_options(data_options_, native_size()).resolution; }
  train::image::SourceDefaults defaults() const {
    return source_defaults(data_options_, native_size(), o_.train.batch_size);
  }
  train::image::ImageDatasetOptions dataset_options() const;

  ImageTrainOptions& o_;
  ImageDataOptions& data_options_;
  Output output_;
  ImageTraineeFiles files_;
  std::uint64_t seed_ = 0;  ///< of the run; 0 before one is chosen
  std::shared_ptr<train::image::ImageDataset> data_;
  std::shared_ptr<train::Processes> processes_;  ///< that train together

 private:
  int train();
  ImageTrainingResult run_training(ImageTrainee& trainee);
  std::string cache_folder() const;
  void report(const ImageTrainee& trainee, const ImageTrainingResult& result);

  train::Launch launch_;
};

}  // namespace atelier::cli
