#include "cli/chat.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <poll.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/log.h"
#include "base/progress.h"
#include "base/seed.h"
#include "base/stop.h"
#include "cli/chat_driver.h"
#include "cli/chat_terminal.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/records.h"
#include "cli/text_run.h"
#include "io/file_system.h"
#include "text/utf8.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;
using pipelines::TextModel;
using pipelines::TextModelFiles;

constexpr std::size_t most_input_bytes = 256u << 20;

/// What comes through a pipe. Waits in poll(), so that a signal is seen at once.
class PipedInput {
 public:
  /// A line without its newline; false at the end.
  bool line(std::string& text) {
    for (;;) {
      if (const std::size_t end = buffer_.find('\n'); end != std::string::npos) {
        text = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        break;
      }
      if (fill()) continue;
      if (buffer_.empty()) return false;
      text = std::exchange(buffer_, {});
      break;
    }
    if (text.ends_with('\r')) text.pop_back();
    return true;
  }

  std::string rest() {
    while (fill()) {
    }
    return std::exchange(buffer_, {});
  }

 private:
  bool fill() {
    char block[1 << 16];
    while (!end_) {
      base::throw_if_stopped();
      pollfd wait{STDIN_FILENO, POLLIN, 0};
      if (poll(&wait, 1, 200) <= 0) continue;
      const ssize_t size = ::read(STDIN_FILENO, block, sizeof block);
      if (size < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (size < 0) throw Error(ExitCode::no_input, "stdin cannot be read");
      end_ = size == 0;
      buffer_.append(block, static_cast<std::size_t>(size));
      if (buffer_.size() > most_input_bytes) throw Error(ExitCode::data, "stdin: a line is longer than 256 MiB");
      return !end_;
    }
    return false;
  }

  std::string buffer_;
  bool end_ = false;
};

/// `value`: a file, `-` for stdin, or JSON itself.
text::SessionData read_session(const std::string& value) {
  const std::size_t first = value.find_first_not_of(" \t\n");
  if (first != std::string::npos && (value[first] == '[' || value[first] == '{'))
    return text::check_session(base::parse_json(value, "messages"), "messages");
  if (value == "-") return text::check_session(base::parse_json(PipedInput().rest(), "stdin"), "stdin");
  return text::check_session(base::read_json_file(value, most_input_bytes), value);
}

void check_flags(const ChatOptions& o) {
  const bool records = o.common.json || !o.common.jobs.empty();
  if (o.logprobs && !records) throw Error(ExitCode::usage, "--logprobs needs --json");
  if (o.common.resume && o.common.jobs.empty()) throw Error(ExitCode::usage, "--resume needs --jobs");
  const auto excludes = [](const char* a, const char* b) {
    throw Error(ExitCode::usage, fmt::format("{} does not go with {}", a, b));
  };
  if (!o.messages.empty() && !o.load.empty()) excludes("--load", "--messages");
  if (!o.common.jobs.empty() && !(o.messages + o.load).empty()) excludes("--jobs", o.load.empty() ? "--messages" : "--load");
  if (!o.variants.translate.empty()) {
    if (!(o.messages + o.load).empty()) excludes("--translate", o.load.empty() ? "--messages" : "--load");
    if (!o.system.empty()) excludes("--translate", "--system");
    if (!o.variants.tools.empty()) excludes("--translate", "--tools");
  }
  for (const std::string& stop : o.generation.stop)
    if (stop.empty()) throw Error(ExitCode::usage, "--stop is an empty text");
  translation_of(o.variants);
}

/// Keeps a long conversation, whose turns all differ in length, from growing. oneDNN, with which LibTorch multiplies bf16
/// matrices, keeps 1024 compiled products, one for every number of rows: a few are enough (what the user set counts). And
/// glibc, left alone, moves ever larger blocks from mappings of their own into a heap that falls to pieces.
void keep_memory_even() {
  setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16", /*overwrite=*/0);
  setenv("LRU_CACHE_CAPACITY", "16", /*overwrite=*/0);
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 64 << 10);
  mallopt(M_TRIM_THRESHOLD, 128 << 10);
#endif
}

class Run {
 public:
  explicit Run(const ChatOptions& options)
      : options_(options),
        first_seed_(options.common.seed ? *options.common.seed : base::draw_seed()),
        safety_(options.variants) {}

  int go() {
    check_flags(options_);
    keep_memory_even();
    files_ = open_text_files(options_.common, options_.adapters, options_.quantize);
    files_.cache = cache_format_of(options_.decoding, files_);
    const auto draft_files = open_draft_files(options_.common, options_.decoding);
    variant_ = variant_of(options_.variants, files_);
    if (options_.common.plan || options_.common.max_ram_bytes()) {
      Plan plan = text_plan(options_.common, files_, files_.config.max_positions, 1, draft_files);
      plan.activations += proposal_bytes(options_.decoding, files_, 1);
      if (options_.common.plan) {
        output_.record(plan_json(plan));
        return plan_exit_code(plan);
      }
      require_fit(plan);
    }
    // What cannot be read is found out before a large model is loaded.
    text::SessionData session;
    if (!(options_.messages + options_.load).empty())
      session = read_session(options_.messages.empty() ? options_.load : options_.messages);
    read_tools(options_.variants);
    model_ = TextModel::load(files_);
    options_.common.record->timings["load_s"] = model_->load_seconds;
    draft_ = load_draft(draft_files, *model_);
    safety_.load({options_.common.device, options_.common.dtype});
    if (!options_.common.jobs.empty()) return run_jobs();

    ChatDriver driver(model_, draft_, options_, variant_, safety_, first_seed_);
    driver.load(session, options_.messages.empty() ? options_.load : options_.messages, /*keep_given=*/true);
    if (!options_.messages.empty()) return answer_once(driver);
    if (isatty(STDIN_FILENO) == 1) {
      chat_on_terminal(driver, options_, output_);
      return 0;
    }
    return answer_lines(driver);
  }

 private:
  /// One reply on stdout: a record with --json, else its text and a newline.
  void reply(ChatDriver& driver) {
    bool at_line_start = true;
    const auto say = [&](std::string_view part) {
      output_.text(part);
      if (!part.empty()) at_line_start = part.back() == '\n';
    };
    const auto answer = driver.answer(options_.common.json ? nullptr : std::function<void(std::string_view)>(say));
    if (answer.stopped) base::throw_if_stopped();
    if (options_.common.json) {
      output_.record(answer.record);
    } else if (answer.blocked) {
      throw Error(ExitCode::condition, blocked_message(answer.record["safety_ratings"]));
    } else {
      if (!answer.streamed) say(answer.text);
      output_.end_text();
      if (!at_line_start || answer.text.empty()) output_.write("\n");
    }
    if (options_.status) base::log_info(driver.status());
  }

  int answer_once(ChatDriver& driver) {
    reply(driver);
    return 0;
  }

  int answer_lines(ChatDriver& driver) {
    PipedInput input;
    if (driver.session().awaits_answer()) reply(driver);
    for (std::string line; input.line(line);) {
      if (line.find_first_not_of(" \t") == std::string::npos) continue;
      if (!text::is_utf8(line)) throw Error(ExitCode::data, "stdin is not valid UTF-8");
      driver.add_user(line);
      reply(driver);
    }
    return 0;
  }

  int run_jobs() {
    JobReader reader(options_.common.jobs);
    RecordWriter records(output_, {}, options_.common.resume);
    base::Progress progress("jobs", 0, "results");
    std::uint64_t finished = 0, next_seed = first_seed_;
    try {
      while (const auto job = reader.next()) {
        const std::uint64_t place = records.reserve(), seed = next_seed++;
        try {
          answer_job(*job, seed, place, records);
        } catch (const base::Stopped&) {
          throw;
        } catch (const Error& error) {
          records.fail(place, job->id, describe_failure(error));
        }
        progress.update(++finished);
      }
    } catch (const base::Stopped&) {
      records.stop();
    }
    return records.finish();
  }

  void answer_job(const Job& job, std::uint64_t seed, std::uint64_t place, RecordWriter& records) {
    if (job.error) throw Error(*job.error);
    ChatOptions o = job_options(options_, define_chat_flags, job.fields, chat_job_rules());
    check_flags_of_job(o);
    o.given = [&](const std::string& name) {
      std::string key = name;
      std::replace(key.begin(), key.end(), '-', '_');
      return options_.given(name) || job.fields.contains(key);
    };
    if (options_.common.resume && records.done(job.id)) return records.skip(place, job.id);
    const bool own_seed = job.fields.contains("seed") && !job.fields["seed"].is_null();
    ChatDriver driver(model_, draft_, o, variant_, safety_.with(o.variants), own_seed ? *o.common.seed : seed);
    driver.load(read_session(o.messages), o.messages, /*keep_given=*/true);
    const auto answer = driver.answer(nullptr);
    if (answer.stopped) base::throw_if_stopped();
    Json record = {{"id", job.id}};
    for (const auto& [key, value] : answer.record.items()) record[key] = value;
    records.put(place, {record});
  }

  static void check_flags_of_job(const ChatOptions& o) {
    if (o.messages.empty()) throw Error(ExitCode::usage, "the job has no \"messages\"");
    if (o.messages == "-") throw Error(ExitCode::usage, "\"messages\" of a job cannot come from stdin");
    if (!o.variants.translate.empty()) throw Error(ExitCode::usage, "\"translate\" does not go with \"messages\"");
  }

  const ChatOptions& options_;
  std::uint64_t first_seed_;
  pipelines::Variant variant_ = pipelines::Variant::plain;
  SafetyGate safety_;
  Output output_;
  TextModelFiles files_;
  std::shared_ptr<const TextModel> model_, draft_;
};

}  // namespace

int run_chat(const ChatOptions& options) { return Run(options).go(); }

}  // namespace atelier::cli
