#include "cli/dreambooth.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/log.h"
#include "base/memory.h"
#include "cli/class_pictures.h"
#include "cli/dreambooth_output.h"
#include "cli/drift_report.h"
#include "cli/image_training.h"
#include "cli/output.h"
#include "text/token_check.h"

namespace atelier::cli {
namespace {

using base::Json;
using text::TokenCheck;
using text::TokenVerdict;
using train::RunResult;
using train::image::ImageDataset;
using train::image::Subset;
using train::image::SubsetGroup;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string report_text(const TokenCheck& check) {
  std::string text = fmt::format("\"{}\": {}\n", base::printable(check.token), text::token_verdict_name(check.verdict));
  for (const auto& piece : check.pieces)
    text += fmt::format("piece {} ({}): rarer than {:.0f} % of the vocabulary\n", base::printable(piece.text), piece.id,
                        100 * piece.rarity);
  for (const std::string& note : check.notes) text += note + "\n";
  if (!check.nearest.empty())
    text += fmt::format("known words that are spelled alike: {}\n", fmt::join(check.nearest, ", "));
  if (!check.suggestions.empty())
    text += fmt::format("rare words of one piece: {}\n", fmt::join(check.suggestions, ", "));
  return text;
}

class Run {
 public:
  explicit Run(DreamBoothOptions& options) : options_(options), o_(options.train) {}

  int go() {
    check_dreambooth_flags(options_);
    if (!options_.check_token && !options_.data.check && !o_.output.empty()) check_dreambooth_output(options_);
    files_ = open_image_trainee(o_);
    token_ = text::check_token(*files_.files.text_encoders.front().open_tokenizer(), options_.token);
    if (options_.check_token) return report_token();
    if (options_.full()) check_full_output(options_, files_.files);
    if (o_.common.plan || o_.common.max_ram_bytes()) {
      const Plan plan =
          image_train_plan(o_, files_, size().width, size().height, o_.train.batch_size * (options_.prior() ? 2 : 1));
      if (o_.common.plan) {
        output_.record(plan_json(plan));
        return plan_exit_code(plan);
      }
      require_fit(plan);
    }
    if (options_.data.check) {
      const std::string sheet = o_.output.empty() ? "buckets.png" : o_.output + ".buckets.png";
      return report_data(*open_data(0, /*with_class=*/false), options_.data, sheet, o_.common.json, output_);
    }
    warn_of_token();
    return train();
  }

 private:
  int report_token() {
    if (o_.common.json) {
      output_.record(token_.json());
    } else {
      output_.text(report_text(token_));
      output_.end_text();
    }
    return 0;
  }

  void warn_of_token() const {
    if (token_.verdict == TokenVerdict::good) return;
    base::log_warning(fmt::format("--token {}: {}", base::printable(options_.token), fmt::join(token_.notes, "; ")));
    if (token_.verdict == TokenVerdict::poor && !token_.suggestions.empty())
      base::log_hint(fmt::format("rare words: {}", fmt::join(token_.suggestions, ", ")));
  }

  std::int64_t native_size() const { return files_.files.native_size(); }
  train::image::Size size() const { return bucket_options(options_.data, native_size()).resolution; }

  std::shared_ptr<ImageDataset> open_data(std::uint64_t seed, bool with_class) const {
    const auto defaults = source_defaults(options_.data, native_size(), o_.train.batch_size);
    Subset subject = defaults.subset;
    subject.folder = options_.instance_images;
    subject.caption_files = false;
    subject.class_tokens = options_.instance_prompts();
    subject.captions.wildcards = options_.templates.size() > 1;  // a line of them each time
    SubsetGroup group{defaults.buckets, defaults.batch_size, {subject}};
    if (with_class) {
      Subset prior = subject;
      prior.folder = options_.class_folder();
      prior.is_class = true;
      prior.class_tokens = options_.class_prompts();
      group.subsets.push_back(std::move(prior));
    }
    return std::make_shared<ImageDataset>(
        std::vector<SubsetGroup>{std::move(group)},
        dataset_options(options_.data, seed, o_.train.accumulation, files_.files.downscale(),
                        files_.files.text_encoders.front().open_tokenizer()));
  }

  std::string cache_folder() const {
    if (!options_.data.cache_latents) return "";
    return options_.data.cache_dir.empty() ? run_folder(o_) + "/cache" : options_.data.cache_dir;
  }

  PromptPictures class_pictures() const {
    const std::string prompts = options_.class_prompts();
    return {.prompt = prompts.substr(0, prompts.find('\n')),
            .width = size().width,
            .height = size().height,
            .steps = options_.class_steps,
            .batch_size = o_.train.batch_size};
  }

  std::int64_t draw_class(const pipelines::ImageModel& model, std::uint64_t seed) const {
    if (!options_.prior()) return 0;
    const Clock::time_point start = Clock::now();
    const std::int64_t drawn = complete_class_pictures(model, {.folder = options_.class_folder(),
                                                               .number = options_.num_class_images,
                                                               .pictures = class_pictures(),
                                                               .seed = seed,
                                                               .own_seed = o_.common.seed.has_value(),
                                                               .model_key = model_fingerprint(files_.files)});
    o_.common.record->timings["class_s"] = seconds_since(start);
    return drawn;
  }

  int train() {
    const Clock::time_point start = Clock::now();
    const std::int64_t pictures = open_data(0, /*with_class=*/false)->report().kept;  // errors come before all else
    choose_steps_and_rates(options_, pictures);
    const std::uint64_t seed = choose_image_seed(o_);
    if (o_.train.overwrite) remove_dreambooth_output(options_);
    ImageTrainee trainee = make_image_trainee(o_, files_, seed);
    o_.common.record->timings["load_s"] = seconds_since(start);
    class_drawn_ = draw_class(*trainee.model, seed);
    std::optional<DriftReport> drift;
    if (options_.drift_report > 0)
      drift.emplace(run_folder(o_), class_pictures(), options_.drift_report, seed).before(*trainee.model);
    const auto data = open_data(seed, options_.prior());
    const ImageTraining training{.options = o_,
                                 .files = files_,
                                 .trainee = trainee,
                                 .data = data,
                                 .seed = seed,
                                 .cache_folder = cache_folder(),
                                 .sample_width = size().width,
                                 .sample_height = size().height,
                                 .settings = {{"tool", "sd-dreambooth"}, {"prior_weight", options_.data.prior_weight}},
                                 .write_checkpoint = {}};
    const ImageTrainingResult result = run_image_training(training);
    const bool there = result.run.end == RunResult::End::was_finished && dreambooth_output_is_there(options_);
    if (!there) write_dreambooth_output(options_, files_, trainee, *data, seed, result.run.steps);
    o_.common.record->outputs.push_back(o_.output);
    Json drifted;
    if (drift) drifted = drift->after(*trainee.model);
    report(trainee, result, *data, seed, drifted);
    return 0;
  }

  void report(const ImageTrainee& trainee, const ImageTrainingResult& result, const ImageDataset& data,
              std::uint64_t seed, const Json& drift) {
    if (!o_.common.json) {
      output_.text(o_.output + "\n");
      output_.end_text();
      return;
    }
    Json record = {{"output", o_.output},
                   {"run_dir", result.loop.run_folder},
                   {"method", o_.method},
                   {"end", result.run.end == RunResult::End::was_finished ? "was_finished" : "finished"},
                   {"steps", result.run.steps},
                   {"pictures", data.report().kept - data.report().class_pictures},
                   {"class_pictures", data.report().class_pictures},
                   {"class_pictures_drawn", class_drawn_},
                   {"trained_parameters", trainee.trained()},
                   {"loss", result.run.loss},
                   {"seed", seed},
                   {"lr", result.loop.lr},
                   {"token", token_.json()}};
    if (!drift.is_null()) record["drift"] = drift;
    record["timings"] = o_.common.record->timings;
    record["peak_rss_bytes"] = base::peak_rss_bytes();
    output_.record(record);
  }

  DreamBoothOptions& options_;
  ImageTrainOptions& o_;
  Output output_;
  ImageTraineeFiles files_;
  TokenCheck token_;
  std::int64_t class_drawn_ = 0;
};

}  // namespace

int run_dreambooth(DreamBoothOptions options) { return Run(options).go(); }

}  // namespace atelier::cli
