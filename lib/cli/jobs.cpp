#include "cli/jobs.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/stop.h"
#include "cli/arguments.h"
#include "cli/values.h"

namespace atelier::cli {

using base::Error;
using base::ExitCode;
using base::Json;

namespace {

int open_jobs(const std::string& path) {
  if (path == "-") return 0;
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat facts {};
  if (descriptor < 0) throw Error(ExitCode::no_input, fmt::format("{}: cannot open: {}", path, std::strerror(errno)));
  if (fstat(descriptor, &facts) == 0 && S_ISDIR(facts.st_mode)) {
    close(descriptor);
    throw Error(ExitCode::no_input, fmt::format("{}: a folder, not a file of jobs", path));
  }
  return descriptor;
}

bool is_blank(const std::string& line) { return line.find_first_not_of(" \t\r") == std::string::npos; }

// Flags of add_common_options that one job cannot have a value of its own for.
constexpr const char* kWholeRun[] = {"model",   "device",   "dtype",   "threads",  "max-ram",    "plan",
                                     "json",    "jobs",     "resume",  "manifest", "config",     "quiet",
                                     "verbose", "progress", "version", "help",     "completions"};

bool concerns_whole_run(const std::string& name, const JobRules& rules) {
  return std::find(std::begin(kWholeRun), std::end(kWholeRun), name) != std::end(kWholeRun) ||
         std::find(rules.whole_run.begin(), rules.whole_run.end(), name) != rules.whole_run.end();
}

CLI::Option& job_option(CLI::App& app, const std::string& key, const JobRules& rules) {
  std::string name = key;
  std::replace(name.begin(), name.end(), '_', '-');
  if (concerns_whole_run(name, rules))
    throw Error(ExitCode::usage, fmt::format("\"{}\" cannot be set per job", key), "give it on the command line");
  CLI::Option* option =
      name.empty() || key.find('-') != std::string::npos ? nullptr : app.get_option_no_throw("--" + name);
  if (option != nullptr) return *option;
  std::vector<std::string> known = {"id"};
  for (std::string& candidate : long_names(app)) {
    if (concerns_whole_run(candidate, rules)) continue;
    std::replace(candidate.begin(), candidate.end(), '-', '_');
    known.push_back(std::move(candidate));
  }
  std::string word = key;
  std::replace(word.begin(), word.end(), '-', '_');
  throw Error(ExitCode::usage, fmt::format("unknown key \"{}\"", key), did_you_mean(word, known));
}

void append_arguments(std::vector<std::string>& args, const CLI::Option& option, const std::string& key,
                      const std::vector<std::string>& texts) {
  std::string name = "--" + key;
  std::replace(name.begin(), name.end(), '_', '-');
  if (is_flag(option)) {
    args.push_back(name + "=" + texts.front());
    return;
  }
  for (const std::string& text : texts) {
    args.push_back(name);
    args.push_back(text);
  }
}

}  // namespace

void apply_job(CLI::App& app, const Json& fields, const JobRules& rules) {
  std::vector<std::string> args;
  for (const auto& [key, value] : fields.items()) {
    const CLI::Option& option = job_option(app, key, rules);
    if (value.is_null()) continue;
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', '-');
    const bool json_text = std::find(rules.json.begin(), rules.json.end(), name) != rules.json.end();
    const auto texts = option_texts(option, value, key, json_text);
    if (texts.empty()) option.get_callback()({});  // an empty list cannot be said in arguments
    append_arguments(args, option, key, texts);
  }
  for (CLI::Option* option : app.get_options()) option->required(false);
  parse_normalised(app, std::move(args));
}

JobReader::JobReader(const std::string& path, std::size_t max_line)
    : path_(path == "-" ? "stdin" : path), max_line_(max_line), descriptor_(open_jobs(path)), owned_(path != "-") {}

JobReader::~JobReader() {
  if (owned_) close(descriptor_);
}

// Reads once more; false at the end. Waiting in poll() rather than in read() lets a signal through at any moment.
bool JobReader::fill() {
  buffer_.erase(0, at_);
  at_ = 0;
  char block[1 << 16];
  for (;;) {
    base::throw_if_stopped();
    pollfd wait{descriptor_, POLLIN, 0};
    if (poll(&wait, 1, 200) <= 0) continue;
    const ssize_t size = read(descriptor_, block, sizeof block);
    if (size > 0) buffer_.append(block, static_cast<std::size_t>(size));
    if (size >= 0) return size > 0;
    if (errno != EINTR && errno != EAGAIN) {
      throw Error(ExitCode::no_input, fmt::format("{}: cannot read: {}", path_, std::strerror(errno)));
    }
  }
}

// Takes a line without its newline; false at the end of the file. Of a line that is too long only the start is kept.
bool JobReader::read_line(std::string& line, bool& too_long) {
  line.clear();
  too_long = false;
  for (bool any = false;;) {
    const std::size_t newline = buffer_.find('\n', at_);
    const std::size_t end = std::min(newline, buffer_.size());
    any = any || end > at_ || newline != std::string::npos;
    if (line.size() + (end - at_) > max_line_) too_long = true;
    if (!too_long) line.append(buffer_, at_, end - at_);
    at_ = newline == std::string::npos ? end : end + 1;
    if (newline != std::string::npos) return true;
    if (end_ || !fill()) {
      end_ = true;
      return any;
    }
  }
}

std::optional<Job> JobReader::next() {
  std::string line;
  bool too_long = false;
  while (read_line(line, too_long)) {
    ++line_;
    if (line_ == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    if (too_long || !is_blank(line)) return parse(line, too_long);
  }
  return std::nullopt;
}

Job JobReader::parse(const std::string& line, bool too_long) const {
  Job job;
  job.line = line_;
  job.id = line_;
  const std::string where = fmt::format("line {}", line_);
  try {
    if (too_long) throw Error(ExitCode::data, fmt::format("{}: longer than {} bytes", where, max_line_));
    job.fields = base::parse_json(line, where);
    if (!job.fields.is_object()) throw Error(ExitCode::data, where + ": a job is a JSON object");
    if (const auto id = job.fields.find("id"); id != job.fields.end()) {
      if (!id->is_string() && !id->is_number_integer())
        throw Error(ExitCode::data, where + ": \"id\" must be a text or a whole number");
      job.id = *id;
      job.fields.erase("id");
    }
  } catch (const Error& error) {
    job.fields = Json::object();
    job.error = error;
  }
  return job;
}

}  // namespace atelier::cli
