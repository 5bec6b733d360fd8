#include "cli/dreambooth.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/log.h"
#include "base/stopwatch.h"
#include "cli/class_pictures.h"
#include "cli/dreambooth_output.h"
#include "cli/drift_report.h"
#include "cli/image_train_run.h"
#include "text/token_check.h"

namespace atelier::cli {
namespace {

using base::Json;
using text::TokenCheck;
using text::TokenVerdict;
using train::image::ImageDataset;
using train::image::Subset;
using train::image::SubsetGroup;

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

class Run final : public ImageTrainRun {
 public:
  explicit Run(DreamBoothOptions& options) : ImageTrainRun(options.train, options.data), options_(options) {}

 private:
  void check_flags() const override { check_dreambooth_flags(options_); }
  void check_output() const override {
    if (!options_.check_token) check_dreambooth_output(options_);
  }

  std::optional<int> look_at_model() override {
    token_ = text::check_token(*files_.files.text_encoders.front().open_tokenizer(), options_.token);
    if (options_.check_token) return report_token();
    if (options_.full()) check_full_output(options_, files_.files);
    return std::nullopt;
  }

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

  std::int64_t pictures_together() const override { return o_.train.batch_size * (options_.prior() ? 2 : 1); }

  std::shared_ptr<ImageDataset> checked_data() const override { return open_data(/*with_class=*/false); }

  void look_at_data() override {
    warn_of_token();
    choose_steps_and_rates(options_, checked_data()->report().kept);
  }

  std::shared_ptr<ImageDataset> open_data(bool with_class) const {
    if (train::image::picture_files(options_.instance_images).empty())
      throw base::Error(base::ExitCode::data, options_.instance_images + ": no pictures", "PNG and JPEG files are looked for");
    const auto of_all = defaults();
    Subset subject = of_all.subset;
    subject.folder = options_.instance_images;
    subject.caption_files = false;
    subject.class_tokens = options_.instance_prompts();
    subject.captions.wildcards = options_.templates.size() > 1;  // a line of them each time
    SubsetGroup group{of_all.buckets, of_all.batch_size, {subject}};
    if (with_class) {
      Subset prior = subject;
      prior.folder = options_.class_folder();
      prior.is_class = true;
      prior.class_tokens = options_.class_prompts();
      group.subsets.push_back(std::move(prior));
    }
    return std::make_shared<ImageDataset>(std::vector<SubsetGroup>{std::move(group)}, dataset_options());
  }

  PromptPictures class_pictures() const {
    const std::string prompts = options_.class_prompts();
    return {.prompt = prompts.substr(0, prompts.find('\n')),
            .width = size().width,
            .height = size().height,
            .steps = options_.class_steps,
            .batch_size = o_.train.batch_size};
  }

  void prepare(const pipelines::ImageModel& model) override {
    if (options_.prior()) draw_class(model);
    if (options_.drift_report > 0) {
      drift_.emplace(run_folder(o_), class_pictures(), options_.drift_report, seed_);
      drift_->before(model);
    }
    data_ = open_data(options_.prior());
    if (options_.prior() && data_->report().class_pictures == 0)
      throw base::Error(base::ExitCode::data, options_.class_folder() + ": no class picture can be used",
                        "--num-class-images says how many there shall be; --prior-weight 0 goes without");
  }

  void draw_class(const pipelines::ImageModel& model) {
    const base::Stopwatch watch;
    class_drawn_ = complete_class_pictures(model, {.folder = options_.class_folder(),
                                                   .number = options_.num_class_images,
                                                   .pictures = class_pictures(),
                                                   .seed = seed_,
                                                   .own_seed = o_.common.seed.has_value(),
                                                   .model_key = model_fingerprint(files_.files)});
    o_.common.record->timings["class_s"] = watch.seconds();
  }

  Json settings() const override { return {{"tool", "sd-dreambooth"}, {"prior_weight", options_.data.prior_weight}}; }

  bool output_is_there() const override { return dreambooth_output_is_there(options_); }
  void write_output(const ImageTrainee& trainee, std::int64_t steps) const override {
    write_dreambooth_output(options_, files_, trainee, *data_, seed_, steps);
  }
  void remove_output() const override { remove_dreambooth_output(options_); }

  bool draws_pictures() const override { return drift_.has_value(); }
  void finish(const pipelines::ImageModel& model, Json& record) override {
    record["class_pictures_drawn"] = class_drawn_;
    record["token"] = token_.json();
    if (drift_) record["drift"] = drift_->after(model);
  }

  DreamBoothOptions& options_;
  TokenCheck token_;
  std::optional<DriftReport> drift_;
  std::int64_t class_drawn_ = 0;
};

}  // namespace

int run_dreambooth(DreamBoothOptions& options) { return Run(options).go(); }

}  // namespace atelier::cli
