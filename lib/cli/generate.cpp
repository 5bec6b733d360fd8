#include "cli/generate.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "base/log.h"
#include "base/progress.h"
#include "base/seed.h"
#include "base/stop.h"
#include "cli/default_model.h"
#include "cli/generate_records.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/records.h"
#include "io/file_system.h"
#include "text/utf8.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;
using pipelines::GenerationRequest;
using pipelines::GenerationResult;
using pipelines::TextModel;
using pipelines::TextModelFiles;

constexpr std::size_t most_prompt_bytes = 1u << 30;

void check_flags(const GenerateOptions& o) {
  const bool records = o.common.json || !o.common.jobs.empty();
  const auto needs = [](const char* flag, const char* other) {
    throw Error(ExitCode::usage, fmt::format("{} needs {}", flag, other));
  };
  if (o.logprobs && !records) needs("--logprobs", "--json");
  if (o.common.resume && o.common.jobs.empty()) needs("--resume", "--jobs");
}

void check_job(const GenerateOptions& o) {
  for (const std::string& stop : o.generation.stop)
    if (stop.empty()) throw Error(ExitCode::usage, "--stop is an empty text");
  if (o.score && o.count > 1) throw Error(ExitCode::usage, "--score has one result: --count does not go with it");
}

std::string without_last_newline(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

/// All of stdin; looks at the stop flag while it waits.
std::string read_stdin() {
  if (isatty(STDIN_FILENO)) base::log_info("reading the prompt from the terminal; Ctrl-D ends it");
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    base::throw_if_stopped();
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error(ExitCode::no_input, "stdin cannot be read");
    if (n == 0) return text;
    text.append(buffer, static_cast<std::size_t>(n));
    if (text.size() > most_prompt_bytes) throw Error(ExitCode::data, "stdin is longer than 1 GiB");
  }
}

/// The prompt of a run or of a job. `from_stdin`: where neither flag gives one.
std::string prompt_text(const GenerateOptions& o, bool from_stdin) {
  std::string text;
  if (o.prompt)
    text = *o.prompt;
  else if (!o.file.empty())
    text = without_last_newline(io::read_file(o.file, most_prompt_bytes));
  else if (from_stdin)
    text = without_last_newline(read_stdin());
  else
    throw Error(ExitCode::usage, "no prompt: the job has neither \"prompt\" nor \"file\"");
  if (!text::is_utf8(text)) throw Error(ExitCode::data, "the prompt is not valid UTF-8");
  return text;
}

/// One run of the tool.
class Run {
 public:
  explicit Run(const GenerateOptions& options)
      : options_(options), next_seed_(options.common.seed ? *options.common.seed : base::draw_seed()) {}

  int go() {
    check_flags(options_);
    check_job(options_);
    const std::string path = model_or_default(options_.common.model);
    pipelines::set_threads(options_.common.threads);
    files_ = TextModelFiles::open(path, {options_.common.device, options_.common.dtype});
    note_model(path);
    if (options_.common.plan || options_.common.max_ram_bytes()) {
      const Plan plan = make_plan();
      if (options_.common.plan) {
        output_.record(plan_json(plan));
        return plan_exit_code(plan);
      }
      require_fit(plan);
    }
    // A prompt that cannot be read is found out before a large model is loaded.
    std::string text;
    if (options_.common.jobs.empty()) text = prompt_text(options_, /*from_stdin=*/true);
    model_ = TextModel::load(files_);
    options_.common.record->timings["load_s"] = model_->load_seconds;
    return options_.common.jobs.empty() ? run_single(text) : run_jobs();
  }

 private:
  /// A prompt with its candidates.
  struct PendingJob {
    std::uint64_t place = 0;
    Json id;
    std::int64_t truncated = 0;
    GenerationRequest request;             ///< of candidate 0
    std::size_t handed_out = 0, left = 0;  ///< candidates given to the generator; not finished
    std::vector<Json> records;
  };

  void note_model(const std::string& path) {
    Manifest& m = *options_.common.record;
    m.model_path = path;
    for (const auto& file : files_.weights->files()) m.model_files.push_back(file.path);
    for (const char* name : {"config.json", "generation_config.json", "tokenizer.model", "tokenizer.json",
                             "tokenizer_config.json", "chat_template.jinja"})
      if (std::filesystem::exists(files_.folder + "/" + name)) m.model_files.push_back(files_.folder + "/" + name);
    m.device = files_.device.str();
  }

  Plan make_plan() const {
    std::int64_t positions = files_.config.max_positions;
    if (options_.prompt || !options_.file.empty()) {
      const auto tokenizer = text::Tokenizer::open(files_.folder);
      const auto tokens = static_cast<std::int64_t>(tokenizer->encode(prompt_text(options_, false)).size());
      constexpr std::int64_t turn_markers = 16;
      positions = std::min(positions, tokens + turn_markers + options_.generation.max_tokens);
    }
    const bool jobs = !options_.common.jobs.empty();
    const std::int64_t batch = jobs ? options_.batch_size : std::min(options_.batch_size, options_.count);
    const auto memory = pipelines::plan_memory(files_, positions, batch);
    Plan plan;
    plan.family = memory.family;
    plan.missing = memory.missing;
    plan.unused = memory.unused;
    for (const auto& file : files_.weights->files()) plan.files.push_back(file.path);
    plan.tensors = static_cast<std::uint64_t>(memory.tensors);
    plan.parameters = static_cast<std::uint64_t>(memory.parameters);
    plan.weights = static_cast<std::uint64_t>(memory.weight_bytes);
    plan.cache = static_cast<std::uint64_t>(memory.cache_bytes);
    plan.activations = static_cast<std::uint64_t>(memory.activation_bytes);
    plan.max_ram = options_.common.max_ram_bytes();
    return plan;
  }

  /// Seeds of a job's candidates: its own, or the run's next ones. Every job moves the run's counter, so that a job's seed
  /// does not depend on whether the jobs before it were run now or earlier.
  std::uint64_t seed_of(const GenerateOptions& o, bool own) {
    const std::uint64_t seed = own ? *o.common.seed : next_seed_;
    next_seed_ += static_cast<std::uint64_t>(o.count);
    return seed;
  }

  /// The requests of one prompt, and what is needed to record them.
  PendingJob prepare(const GenerateOptions& o, const std::string& text, std::uint64_t seed) const {
    const pipelines::Prompt prompt = pipelines::build_prompt(*model_, text, prompt_options(o));
    PendingJob job;
    job.truncated = prompt.truncated;
    job.left = static_cast<std::size_t>(o.count);
    job.records.resize(job.left);
    GenerationRequest& request = job.request;
    request.seed = seed;
    request.prompt = prompt.ids;
    request.max_tokens = o.generation.max_tokens;
    request.sampling = o.generation.sampling;
    request.stop_texts = o.generation.stop;
    request.stop_ids = pipelines::stop_ids_of(*model_, prompt.chat);
    request.logprobs = o.logprobs;
    request.deadline_seconds = o.deadline;
    if (o.count > 1) request.shared = pipelines::share_prompt(o.count);
    for (std::size_t i = 0; i < job.left; ++i) options_.common.record->seeds.push_back(seed + i);
    return job;
  }

  int run_single(const std::string& text) {
    if (options_.score) return score_single(text);
    PendingJob job = prepare(options_, text, seed_of(options_, false));
    std::vector<std::string> texts(job.left);
    const bool stream = !options_.common.json && !options_.no_stream && options_.output.empty() && options_.count == 1;
    if (stream) job.request.on_text = [this](std::string_view part) { say(part); };

    std::optional<base::Progress> progress(std::in_place, "generating", static_cast<std::uint64_t>(options_.count),
                                           "results");
    std::uint64_t finished = 0;
    pipelines::generate(
        *model_, options_.batch_size, [&] { return pop(job); },
        [&](const GenerationRequest& request, const GenerationResult& result) {
          job.records[request.tag] = generation_record(*model_, nullptr, request.tag, request, result, job.truncated);
          texts[request.tag] = result.text;
          if (options_.count > 1) progress->update(++finished);
        });
    progress.reset();  // its last line belongs above the results
    if (stream)
      end_line();
    else
      emit(job.records, texts);
    return 0;
  }

  int score_single(const std::string& text) {
    const auto prompt = pipelines::build_prompt(*model_, text, prompt_options(options_));
    const auto result = pipelines::score(*model_, prompt.ids, options_.logprobs.value_or(0));
    emit({score_record(*model_, nullptr, prompt.ids, result, prompt.truncated)},
         {fmt::format("{:.6g}", result.perplexity)});
    return 0;
  }

  static std::optional<GenerationRequest> pop(PendingJob& job) {
    if (job.handed_out == job.records.size()) return std::nullopt;
    GenerationRequest request = job.request;
    request.tag = job.handed_out++;
    request.seed += request.tag;
    return request;
  }

  void say(std::string_view part) {
    output_.text(part);
    if (!part.empty()) at_line_start_ = part.back() == '\n';
  }

  void end_line() {
    output_.end_text();
    if (!at_line_start_) output_.write("\n");
  }

  /// Results of a run without jobs: records with --json, else the texts, each ended by a newline.
  void emit(const std::vector<Json>& records, const std::vector<std::string>& texts) {
    std::string whole;
    for (std::size_t i = 0; i < records.size(); ++i) {
      if (options_.common.json)
        whole += output_.record_line(records[i]);
      else
        whole += texts[i] + (texts[i].ends_with('\n') ? "" : "\n");
    }
    if (!options_.output.empty()) {
      io::write_atomically(options_.output, whole);
      options_.common.record->outputs.push_back(options_.output);
    } else if (options_.common.json) {
      output_.write(whole);
    } else {
      say(whole);
      output_.end_text();
    }
  }

  int run_jobs() {
    JobReader reader(options_.common.jobs);
    RecordWriter records(output_, options_.output, options_.common.resume);
    base::Progress progress("jobs", 0, "results");
    std::uint64_t finished = 0;
    std::map<std::size_t, PendingJob> pending;  // by place
    std::size_t handing_out = 0;
    const auto next = [&]() -> std::optional<GenerationRequest> {
      for (;;) {
        if (const auto it = pending.find(handing_out); it != pending.end())
          if (auto request = pop(it->second)) {
            request->tag = (it->first << 20) + request->tag;
            return request;
          }
        const auto job = reader.next();
        if (!job) return std::nullopt;
        if (auto prepared = take_job(*job, records)) {
          handing_out = prepared->place;
          pending.emplace(handing_out, std::move(*prepared));
        }
      }
    };
    const auto done = [&](const GenerationRequest& request, const GenerationResult& result) {
      const auto it = pending.find(request.tag >> 20);
      PendingJob& job = it->second;
      const std::size_t index = request.tag & ((1u << 20) - 1);
      job.records[index] = generation_record(*model_, job.id, index, request, result, job.truncated);
      progress.update(++finished);
      if (--job.left > 0) return;
      records.put(job.place, job.records);
      pending.erase(it);
    };
    try {
      pipelines::generate(*model_, options_.batch_size, next, done);
    } catch (const base::Stopped&) {
      records.stop();
    }
    if (!options_.output.empty()) options_.common.record->outputs.push_back(options_.output);
    return records.finish();
  }

  /// A job ready to be computed; nothing where it failed, was done before, or is a score, which is computed at once.
  std::optional<PendingJob> take_job(const Job& job, RecordWriter& records) {
    const std::uint64_t place = records.reserve();
    try {
      if (job.error) throw Error(*job.error);
      const GenerateOptions o = job_options(options_, define_generate_flags, job.fields, generate_job_rules());
      check_job(o);
      const std::uint64_t seed = seed_of(o, job.fields.contains("seed") && !job.fields["seed"].is_null());
      if (options_.common.resume && records.done(job.id, static_cast<std::size_t>(o.count))) {
        records.skip(place, job.id);
        return std::nullopt;
      }
      const std::string text = prompt_text(o, /*from_stdin=*/false);
      if (o.score) {
        const auto prompt = pipelines::build_prompt(*model_, text, prompt_options(o));
        const auto result = pipelines::score(*model_, prompt.ids, o.logprobs.value_or(0));
        records.put(place, {score_record(*model_, job.id, prompt.ids, result, prompt.truncated)});
        return std::nullopt;
      }
      PendingJob prepared = prepare(o, text, seed);
      prepared.place = place;
      prepared.id = job.id;
      return prepared;
    } catch (const base::Stopped&) {
      throw;
    } catch (const Error& error) {
      records.fail(place, job.id, describe_failure(error));
      return std::nullopt;
    }
  }

  const GenerateOptions& options_;
  std::uint64_t next_seed_;
  Output output_;
  bool at_line_start_ = false;
  TextModelFiles files_;
  std::shared_ptr<const TextModel> model_;
};

}  // namespace

int run_generate(const GenerateOptions& options) { return Run(options).go(); }

}  // namespace atelier::cli
