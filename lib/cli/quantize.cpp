#include "cli/quantize.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <sstream>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/seed.h"
#include "base/stopwatch.h"
#include "cli/output.h"
#include "cli/text_run.h"
#include "cli/validators.h"
#include "io/file_system.h"
#include "io/whole_folder.h"
#include "pipelines/generation.h"
#include "pipelines/quantisation.h"
#include "text/utf8.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;
using pipelines::Divergence;
using pipelines::TextModel;
using pipelines::TextModelFiles;
using pipelines::TextWindows;

constexpr std::size_t most_text_bytes = 64u << 20;

using Texts = std::vector<std::string>;

/// A file's text, or of a .jsonl file those of its rows.
Texts read_texts(const std::string& path) {
  const std::string all = io::read_file(path, most_text_bytes);
  if (!text::is_utf8(all)) throw Error(ExitCode::data, fmt::format("{}: is not valid UTF-8", path));
  if (!path.ends_with(".jsonl")) return {all};
  Texts texts;
  std::istringstream lines(all);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string what = fmt::format("{}: line {}", path, number);
    const Json row = base::parse_json(line, what);
    if (!row.is_object()) throw Error(ExitCode::data, what + ": expected an object with \"text\"");
    texts.push_back(base::JsonFields(row, what).string("text"));
  }
  return texts;
}

std::uint64_t bytes_of(const io::WeightSource& weights) {
  std::uint64_t sum = 0;
  for (const auto& file : weights.files()) sum += file.bytes;
  return sum;
}

class Run {
 public:
  explicit Run(const QuantizeOptions& options) : o_(options) {}

  int go() {
    if (o_.output.empty()) throw Error(ExitCode::usage, "--output is missing", "the folder to make");
    if (!o_.common.plan) io::require_new_folder(o_.output);
    const TextModelFiles files = open_text_files(o_.common);
    if (files.gguf)
      throw Error(ExitCode::usage, fmt::format("{}: a model folder cannot be made of a GGUF file", files.gguf->file->path()),
                  "--quantize int8 or int4 of gemma-generate and gemma-chat takes one");
    if (files.quantised) throw Error(ExitCode::usage, fmt::format("{}: is quantised already", files.folder));
    if (!files.device.is_cpu() && o_.common.device != "auto")
      throw Error(ExitCode::unavailable, fmt::format("--device {}: quantising runs on the CPU", o_.common.device));
    TextModelFiles original = files;
    original.device = at::kCPU;
    if (const int code = plan(original); code >= 0) return code;
    const Texts calibration = o_.calibrate.empty() ? Texts() : read_texts(o_.calibrate);
    const Texts evaluation = o_.evaluate.empty() ? calibration : read_texts(o_.evaluate);

    const auto reference = TextModel::load(original);
    o_.common.record->timings["load_s"] = reference->load_seconds;
    const auto model = quantised(original, calibration);
    write(original, *model);
    report(original, *model, *reference, evaluation);
    return 0;
  }

 private:
  /// The file that is evaluated on; "" where there is none.
  const std::string& texts_name() const { return o_.evaluate.empty() ? o_.calibrate : o_.evaluate; }

  nn::GroupQuantisation quantisation() const { return {.bits = static_cast<int>(o_.bits), .group = o_.group}; }

  /// The exit code of --plan; -1: go on.
  int plan(const TextModelFiles& files) {
    if (!o_.common.plan && !o_.common.max_ram_bytes()) return -1;
    TextModelFiles packed = files;
    packed.quantisation = quantisation();
    Plan both = text_plan(o_.common, packed, std::min(o_.window, files.config.max_positions), 1);
    both.weights += bytes_of(*files.weights);  // the original is compared with
    if (!o_.common.plan) {
      require_fit(both);
      return -1;
    }
    output_.record(plan_json(both));
    return plan_exit_code(both);
  }

  std::int64_t window(const TextModelFiles& files) const { return std::min(o_.window, files.config.max_positions); }

  std::shared_ptr<const TextModel> quantised(const TextModelFiles& files, const Texts& calibration) {
    const base::Stopwatch watch;
    TextModelFiles own = files;
    if (o_.calibrate.empty()) own.quantisation = quantisation();
    const auto model = TextModel::load(own);
    if (!o_.calibrate.empty()) {
      const TextWindows windows =
          pipelines::text_windows(*model, calibration, window(files), o_.calibrate_tokens, o_.calibrate);
      for (const auto& w : windows) calibrated_tokens_ += static_cast<std::int64_t>(w.size()) - 1;
      base::Progress progress("quantising", static_cast<std::uint64_t>(files.config.layers + 1), "layers");
      pipelines::quantise_calibrated(*model->network, quantisation(), windows,
                                     [&](std::int64_t done) { progress.update(static_cast<std::uint64_t>(done)); });
    }
    o_.common.record->timings["quantize_s"] = watch.seconds();
    return model;
  }

  void write(const TextModelFiles& files, const TextModel& model) {
    io::write_whole_folder(o_.output, [&](const std::string& folder) {
      pipelines::write_model_folder(folder, files, pipelines::quantised_tensors(*model.network));
    });
    for (const std::string& file : pipelines::model_folder_files(o_.output)) o_.common.record->outputs.push_back(file);
  }

  /// What to evaluate on: a file's text, or what the original writes.
  TextWindows evaluation_windows(const TextModelFiles& files, const TextModel& reference, const Texts& texts) {
    if (!texts_name().empty())
      return pipelines::text_windows(reference, texts, window(files), o_.evaluate_tokens, texts_name());
    constexpr std::size_t samples = 8;
    constexpr std::int64_t tokens = 64;
    const std::uint64_t seed = o_.common.seed ? *o_.common.seed : base::draw_seed();
    TextWindows windows(samples, {reference.bos});
    std::size_t next = 0;
    pipelines::generate(
        reference, samples,
        [&]() -> std::optional<pipelines::GenerationRequest> {
          if (next == samples) return std::nullopt;
          pipelines::GenerationRequest request;
          request.prompt = {reference.bos};
          request.max_tokens = std::min(tokens, window(files) - 1);
          request.sampling = {.temperature = 1, .top_k = 0, .top_p = 1};
          request.seed = seed + next;
          request.tag = next++;
          o_.common.record->seeds.push_back(request.seed);
          return request;
        },
        [&](const pipelines::GenerationRequest& request, const pipelines::GenerationResult& result) {
          auto& window = windows[request.tag];
          window.insert(window.end(), result.token_ids.begin(), result.token_ids.end());
        });
    return windows;
  }

  void report(const TextModelFiles& files, const TextModel& model, const TextModel& reference, const Texts& texts) {
    const base::Stopwatch watch;
    const Divergence d = pipelines::compare_models(model, reference, evaluation_windows(files, reference, texts));
    o_.common.record->timings["evaluate_s"] = watch.seconds();
    const std::uint64_t bytes = bytes_of(*io::WeightSource::open(o_.output));
    const double bits = 8.0 * static_cast<double>(bytes) / static_cast<double>(files.config.parameters());
    if (!o_.common.json) {
      output_.text(
          fmt::format("{}\n{:.2f} bits for each weight: {} in place of {}\n"
                      "KL divergence {:.3g}, perplexity {:.5g} (of the original {:.5g}), the same first choice for "
                      "{:.2f} % of {} tokens\n",
                      o_.output, bits, human_bytes(bytes), human_bytes(bytes_of(*files.weights)), d.kl, d.perplexity,
                      d.reference_perplexity, 100 * d.same_top, d.tokens));
      output_.end_text();
      return;
    }
    Json record = {
        {"output", o_.output},        {"bits", o_.bits},
        {"group", o_.group},          {"bytes", bytes},
        {"bits_per_weight", bits},    {"evaluated_on", texts_name().empty() ? "samples of the original" : texts_name()},
        {"tokens", d.tokens},         {"kl_divergence", d.kl},
        {"perplexity", d.perplexity}, {"reference_perplexity", d.reference_perplexity},
        {"same_top", d.same_top}};
    if (!o_.calibrate.empty()) record["calibrated_on"] = {{"path", o_.calibrate}, {"tokens", calibrated_tokens_}};
    record["timings"] = o_.common.record->timings;
    record["peak_rss_bytes"] = base::peak_rss_bytes();
    output_.record(record);
  }

  const QuantizeOptions& o_;
  Output output_;
  std::int64_t calibrated_tokens_ = 0;
};

}  // namespace

void define_quantize_flags(CLI::App& app, QuantizeOptions& o) {
  add_trainer_options(
      app, o.common,
      "gemma-quantize --model models/gemma-2-2b-it --bits 4 --calibrate text.txt --output models/gemma-2-2b-it-4\n"
      "  gemma-quantize --bits 8 --output tiny-gemma-8 --json");
  const std::string group = "Quantising";
  const auto whole = [&](const char* name, std::int64_t& target, const char* text, long long low, long long high) {
    app.add_option(name, target, text)
        ->check(whole_in_range(low, high))
        ->type_name("N")
        ->capture_default_str()
        ->group(group);
  };
  app.add_option("--output", o.output, "The folder to make: it must be new, or empty")->type_name("DIR")->group(group);
  app.add_option("--bits", o.bits, "Bits for each weight, besides the scales")
      ->check(one_of({"4", "8"}))
      ->capture_default_str()
      ->group(group);
  app.add_option("--group", o.group,
                 "Weights of a row that share a scale: fewer are nearer to the original, more are smaller")
      ->check(one_of({"32", "64", "128"}))
      ->capture_default_str()
      ->group(group);
  app.add_option("--calibrate", o.calibrate,
                 "Text like what the model will see, or JSON Lines of {\"text\"}: the weights are rounded so that what "
                 "they make of it "
                 "changes least (GPTQ); without it each goes to its nearest code")
      ->type_name("FILE")
      ->group(group);
  whole("--calibrate-tokens", o.calibrate_tokens, "Tokens of it that are used", 2, 1 << 24);
  app.add_option("--evaluate", o.evaluate,
                 "Text, or JSON Lines of {\"text\"}, to compare the two models' predictions on (default: the "
                 "calibration text; without one, what "
                 "the original writes)")
      ->type_name("FILE")
      ->group(group);
  whole("--evaluate-tokens", o.evaluate_tokens, "Tokens of it that are used", 2, 1 << 24);
  whole("--window", o.window, "Tokens that are in sight of one another in these texts", 8, 1 << 20);
}

int run_quantize(const QuantizeOptions& options) { return Run(options).go(); }

}  // namespace atelier::cli
