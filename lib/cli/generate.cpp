#include "cli/generate.h"

#include <unistd.h>

#include <cstdio>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/seed.h"
#include "base/stop.h"
#include "cli/generate_records.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/records.h"
#include "cli/text_run.h"
#include "io/file_system.h"
#include "text/function_calls.h"
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
  check_constraint(o.constraint, o.generation.stop, o.score);
  if (o.raw && !(o.variants.tools + o.variants.translate).empty())
    throw Error(ExitCode::usage, fmt::format("--raw does not go with --{}", o.variants.tools.empty() ? "translate" : "tools"));
  if (!o.variants.translate.empty() && !o.system.empty())
    throw Error(ExitCode::usage, "--translate says all that the model is told: --system does not go with it");
  translation_of(o.variants);
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
  else if (o.file == "-" && !from_stdin)
    throw Error(ExitCode::usage, "\"file\" of a job cannot be stdin");
  else if (!o.file.empty() && o.file != "-")
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
      : options_(options),
        next_seed_(options.common.seed ? *options.common.seed : base::draw_seed()),
        safety_(options.variants) {}

  int go() {
    check_flags(options_);
    check_job(options_);
    files_ = open_text_files(options_.common, options_.adapters, options_.quantize);
    files_.cache = cache_format_of(options_.decoding, files_);
    draft_files_ = open_draft_files(options_.common, options_.decoding);
    variant_ = variant_of(options_.variants, files_);
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
    if (options_.common.jobs.empty()) read_tools(options_.variants);
    model_ = TextModel::load(files_);
    options_.common.record->timings["load_s"] = model_->load_seconds;
    draft_ = load_draft(draft_files_, *model_);
    safety_.load({options_.common.device, options_.common.dtype});
    if (!options_.prompt_cache.folder.empty())
      prompt_cache_ = std::make_unique<pipelines::PromptCache>(
          options_.prompt_cache.folder, base::parse_bytes(options_.prompt_cache.limit), files_,
          pipelines::adapter_identities(files_));
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
    std::optional<Error> failure;  ///< of one of its texts
    std::string text;  ///< what the user asked
    SafetyGate safety;
    Json ratings = Json::array();  ///< of the prompt
    bool functions = false;        ///< the reply may hold calls
    bool blocked = false;          ///< the prompt was, and the records are there already
  };

  Plan make_plan() const {
    std::int64_t positions = files_.config.max_positions;
    if (options_.prompt || (!options_.file.empty() && options_.file != "-")) {
      const auto tokenizer = files_.open_tokenizer();
      const auto tokens = static_cast<std::int64_t>(tokenizer->encode(prompt_text(options_, false)).size());
      constexpr std::int64_t turn_markers = 16;
      positions = std::min(positions, tokens + turn_markers + options_.generation.max_tokens);
    }
    const bool jobs = !options_.common.jobs.empty();
    const std::int64_t batch = jobs ? options_.batch_size : std::min(options_.batch_size, options_.count);
    Plan plan = text_plan(options_.common, files_, positions, batch, draft_files_);
    plan.activations += proposal_bytes(options_.decoding, files_, batch);
    return plan;
  }

  /// Seeds of a job's candidates: its own, or the run's next ones. Every job moves the run's counter, so that a job's seed
  /// does not depend on whether the jobs before it were run now or earlier.
  std::uint64_t seed_of(const GenerateOptions& o, bool own) {
    const std::uint64_t seed = own ? *o.common.seed : next_seed_;
    next_seed_ += static_cast<std::uint64_t>(o.count);
    return seed;
  }

  pipelines::Prompt build(const GenerateOptions& o, const std::string& text) const {
    pipelines::PromptOptions options = prompt_options(o);
    if (const auto pair = translation_of(o.variants)) {
      if (text.empty()) throw Error(ExitCode::data, "the prompt is empty");
      return pipelines::build_chat_prompt(*model_, Json::array({translation_message(*pair, text, *model_->chat_template)}),
                                          options);
    }
    options.tools = read_tools(o.variants);
    if (!options.tools.is_null()) options.mode = pipelines::PromptMode::chat;
    const bool chat = pipelines::uses_chat(*model_, options.mode);
    if (variant_ == pipelines::Variant::medgemma && chat && options.system.empty())
      options.system = pipelines::medgemma_system;
    return pipelines::build_prompt(*model_, text, options);
  }

  /// The requests of one prompt, and what is needed to record them.
  PendingJob prepare(const GenerateOptions& o, const std::string& text, std::uint64_t seed,
                     const Json& id = nullptr) const {
    const pipelines::Prompt prompt = build(o, text);
    PendingJob job;
    job.safety = safety_.with(o.variants);
    job.id = id;
    job.text = text;
    job.functions = !o.variants.tools.empty();
    job.truncated = prompt.truncated;
    job.left = static_cast<std::size_t>(o.count);
    job.records.resize(job.left);
    GenerationRequest& request = job.request;
    request.seed = seed;
    request.prompt = prompt.ids;
    request.max_tokens = o.generation.max_tokens;
    request.sampling = sampling_of(o.generation, variant_);
    request.stop_texts = o.generation.stop;
    request.stop_ids = pipelines::stop_ids_of(*model_, prompt.chat, job.functions);
    request.logprobs = o.logprobs;
    request.deadline_seconds = o.deadline;
    constraints_.apply(o.constraint, *model_, request);
    if (prompt_cache_) request.shared = prompt_cache_->state();
    request.speculation = speculation_of(o.decoding, draft_, o.count);
    if (o.count > 1) request.shared = pipelines::share_prompt(o.count, request.shared);
    for (std::size_t i = 0; i < job.left; ++i) options_.common.record->seeds.push_back(seed + i);
    block_bad_prompt(job);
    return job;
  }

  /// A prompt that violates a policy is not answered: its records are made at once.
  void block_bad_prompt(PendingJob& job) const {
    if (job.safety.passes_prompt(job.text, &job.ratings)) return;
    job.blocked = true;
    for (std::size_t i = 0; i < job.records.size(); ++i) {
      GenerationRequest request = job.request;
      request.seed += i;
      request.shared = request.speculation.draft_prompt = nullptr;
      GenerationResult nothing;
      nothing.finish_reason = pipelines::FinishReason::safety;
      nothing.prompt_tokens = static_cast<std::int64_t>(request.prompt.size());
      job.records[i] = generation_record(*model_, job.id, i, request, nothing, job.truncated,
                                         {{"safety_ratings", job.ratings}});
    }
    job.handed_out = job.records.size();
    job.left = 0;
  }

  /// The record of a finished result: calls are read, and a reply that violates a policy is withheld.
  Json finished_record(const PendingJob& job, std::size_t index, const GenerationRequest& request,
                       GenerationResult result) const {
    Json extras = Json::object();
    if (job.functions) {
      const auto parsed = text::parse_function_calls(*model_->tokenizer, result.token_ids);
      result.text = parsed.text;
      for (const std::string& bad : parsed.bad) result.text += bad;
      if (!parsed.bad.empty()) base::log_warning("a function call of the reply cannot be read; it is left in the text");
      if (!parsed.calls.empty()) extras["tool_calls"] = parsed.calls;
    }
    if (job.safety.active()) {
      Json ratings = job.ratings;
      if (!job.safety.passes_reply(job.text, result.text, &ratings)) {
        result.finish_reason = pipelines::FinishReason::safety;
        result.text.clear();
        result.token_ids.clear();
        result.logprobs.clear();
        extras = Json::object();
      }
      extras["safety_ratings"] = ratings;
    }
    Json record = generation_record(*model_, job.id, index, request, result, job.truncated, extras);
    if (prompt_cache_) record["usage"]["cached_tokens"] = result.prompt_tokens - result.prefilled_tokens;
    return record;
  }

  /// What a record is without --json: its text, and its calls, one a line. Error(condition) where it was blocked.
  static std::string plain_text(const Json& record) {
    if (record["finish_reason"] == "safety")
      throw Error(ExitCode::condition, blocked_message(record["safety_ratings"]));
    std::string text = record["text"].get<std::string>();
    if (!record.contains("tool_calls")) return text;
    if (!text.empty() && !text.ends_with('\n')) text += '\n';
    for (const Json& call : record["tool_calls"]) text += base::dump_json(call["function"]) + "\n";
    return text;
  }

  int run_single(const std::string& text) {
    if (options_.score) return score_single(text);
    PendingJob job = prepare(options_, text, seed_of(options_, false));
    std::vector<std::string> texts(job.records.size());
    const bool stream = !options_.common.json && !options_.no_stream && options_.output.empty() && options_.count == 1 &&
                        !job.functions && !job.safety.active();
    if (stream) job.request.on_text = [this](std::string_view part) { say(part); };

    std::optional<base::Progress> progress(std::in_place, "generating", static_cast<std::uint64_t>(options_.count),
                                           "results");
    std::uint64_t finished = 0;
    pipelines::generate(
        *model_, options_.batch_size, [&] { return pop(job); },
        [&](const GenerationRequest& request, const GenerationResult& result) {
          if (result.failure) throw Error(*result.failure);
          job.records[request.tag] = finished_record(job, request.tag, request, result);
          if (options_.count > 1) progress->update(++finished);
        });
    progress.reset();  // its last line belongs above the results
    if (stream) {
      end_line();
      return 0;
    }
    if (!options_.common.json)
      for (std::size_t i = 0; i < texts.size(); ++i) texts[i] = plain_text(job.records[i]);
    emit(job.records, texts);
    return 0;
  }

  int score_single(const std::string& text) {
    const auto prompt = build(options_, text);
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
          if (prepared->blocked) {
            records.put(prepared->place, prepared->records);
            continue;
          }
          handing_out = prepared->place;
          pending.emplace(handing_out, std::move(*prepared));
        }
      }
    };
    const auto done = [&](const GenerationRequest& request, const GenerationResult& result) {
      const auto it = pending.find(request.tag >> 20);
      PendingJob& job = it->second;
      const std::size_t index = request.tag & ((1u << 20) - 1);
      job.records[index] = finished_record(job, index, request, result);
      progress.update(++finished);
      if (result.failure) job.failure = result.failure;
      if (--job.left > 0) return;
      if (job.failure)
        records.fail(job.place, job.id, describe_failure(*job.failure));
      else
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
        const auto prompt = build(o, text);
        const auto result = pipelines::score(*model_, prompt.ids, o.logprobs.value_or(0));
        records.put(place, {score_record(*model_, job.id, prompt.ids, result, prompt.truncated)});
        return std::nullopt;
      }
      PendingJob prepared = prepare(o, text, seed, job.id);
      prepared.place = place;
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
  pipelines::Variant variant_ = pipelines::Variant::plain;
  SafetyGate safety_;
  std::unique_ptr<pipelines::PromptCache> prompt_cache_;
  mutable ConstraintCache constraints_;
  TextModelFiles files_;
  std::optional<TextModelFiles> draft_files_;
  std::shared_ptr<const TextModel> model_, draft_;
};

}  // namespace

int run_generate(const GenerateOptions& options) { return Run(options).go(); }

}  // namespace atelier::cli
