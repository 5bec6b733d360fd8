#include "cli/image_train_run.h"

#include "base/memory.h"
#include "base/stopwatch.h"

namespace atelier::cli {

using base::Json;
using train::RunResult;

int ImageTrainRun::go() {
  check_flags();
  launch_ = take_launch(o_.common, o_.train);
  const bool only_looks = o_.common.plan || data_options_.check;
  if (only_looks && launch_.rank > 0) return 0;  // the first process says it
  if (!data_options_.check && !o_.output.empty()) check_output();
  files_ = open_image_trainee(o_);
  if (const auto code = look_at_model()) return *code;
  const auto plan = [this] { return image_train_plan(o_, files_, size().width, size().height, pictures_together()); };
  if (const auto code = answer_plan(o_.common, output_, plan)) return *code;
  if (data_options_.check) {
    const std::string sheet = o_.output.empty() ? "buckets.png" : o_.output + ".buckets.png";
    return report_data(*checked_data(), data_options_, sheet, o_.common.json, output_);
  }
  return train();
}

train::image::ImageDatasetOptions ImageTrainRun::dataset_options() const {
  return cli::dataset_options(data_options_, seed_, o_.train.accumulation, files_.files.downscale(),
                              files_.files.text_encoders.front().open_tokenizer());
}

std::string ImageTrainRun::cache_folder() const {
  if (!data_options_.cache_latents) return "";
  return data_options_.cache_dir.empty() ? run_folder(o_) + "/cache" : data_options_.cache_dir;
}

int ImageTrainRun::train() {
  const base::Stopwatch loading;
  processes_ = std::make_shared<train::Processes>(launch_, run_folder(o_));
  seed_ = choose_seed(o_.common, o_.train, run_folder(o_), *processes_);
  look_at_data();
  ImageTrainee trainee = make_image_trainee(o_, files_, seed_);
  o_.common.record->timings["load_s"] = loading.seconds();
  if (o_.train.overwrite && processes_->first()) remove_output();
  processes_->in_turn([&] { prepare(*trainee.model); });
  const ImageTrainingResult result = run_training(trainee);
  if (!processes_->first()) return 0;
  const bool there = result.run.end == RunResult::End::was_finished && output_is_there();
  if (!there) train::after_training([&] { write_output(trainee, result.run.steps); });
  o_.common.record->outputs.push_back(o_.output);
  report(trainee, result);
  return 0;
}

ImageTrainingResult ImageTrainRun::run_training(ImageTrainee& trainee) {
  return run_image_training(
      {.options = o_,
       .files = files_,
       .trainee = trainee,
       .data = data_,
       .processes = processes_,
       .seed = seed_,
       .cache_folder = cache_folder(),
       .sample_width = size().width,
       .sample_height = size().height,
       .draws_pictures = draws_pictures(),
       .settings = settings(),
       .write_checkpoint = [&](const std::string& folder) { write_checkpoint(folder, trainee); }});
}

void ImageTrainRun::report(const ImageTrainee& trainee, const ImageTrainingResult& result) {
  Json record = {{"output", o_.output},
                 {"run_dir", result.loop.run_folder},
                 {"method", o_.method},
                 {"end", train::end_name(result.run.end)},
                 {"steps", result.run.steps},
                 {"pictures", data_->report().kept - data_->report().class_pictures},
                 {"class_pictures", data_->report().class_pictures},
                 {"trained_parameters", trainee.trained()},
                 {"loss", result.run.loss},
                 {"seed", seed_},
                 {"lr", result.loop.lr}};
  finish(*trainee.model, record);
  if (!o_.common.json) {
    output_.text(o_.output + "\n");
    output_.end_text();
    return;
  }
  record["timings"] = o_.common.record->timings;
  record["peak_rss_bytes"] = base::peak_rss_bytes();
  output_.record(record);
}

}  // namespace atelier::cli
