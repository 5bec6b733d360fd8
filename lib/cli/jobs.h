#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "base/json.h"
#include "cli/validators.h"

namespace atelier::cli {

/// One line of a --jobs file.
struct Job {
  std::uint64_t line = 0;                    ///< 1-based
  base::Json id;                             ///< a text or an integer; the line's number where it has none
  base::Json fields = base::Json::object();  ///< everything but the id
  std::optional<base::Error> error;          ///< why this line cannot be run; it names the line
};

/// Reads JSON Lines (UTF-8, one object per line, blank lines allowed) one line at a time, from a file or a pipe.
class JobReader {
 public:
  static constexpr std::size_t kMaxLine = 64u << 20;  ///< bytes; a longer line is an error of that line

  /// "-" is stdin. Error(no_input) where the file is missing or unreadable. `max_line` for tests.
  explicit JobReader(const std::string& path, std::size_t max_line = kMaxLine);
  ~JobReader();
  JobReader(const JobReader&) = delete;
  JobReader& operator=(const JobReader&) = delete;

  /// The next job, or nothing at the end. Waits for a slow pipe and throws base::Stopped where a signal arrives
  /// meanwhile; Error(no_input) where reading fails.
  std::optional<Job> next();

 private:
  bool fill();
  bool read_line(std::string& line, bool& too_long);
  Job parse(const std::string& line, bool too_long) const;

  std::string path_, buffer_;
  std::size_t at_ = 0, max_line_;
  int descriptor_;
  bool owned_, end_ = false;
  std::uint64_t line_ = 0;
};

/// What a tool says about its flags in jobs. The flags of add_common_options that concern the whole run (all but
/// --seed) need not be listed.
struct JobRules {
  std::vector<std::string> whole_run;  ///< long names that cannot be set per job: "output", "batch-size", "adapter"
  std::vector<std::string> json;       ///< long names whose objects and arrays are passed on as compact JSON text
};

/// Sets the flags bound to `app` (a fresh one) from a job's fields: keys are long names with `_` for `-`; texts,
/// numbers, true and false, arrays for flags that may be repeated (an empty one empties the list); null leaves the
/// default. Values are checked exactly as on the command line; flags that are required there are not required here,
/// since they may have been given there. Error(usage) naming the key, for unknown ones also the nearest.
void apply_job(CLI::App& app, const base::Json& fields, const JobRules& rules = {});

/// The options of one job: a copy of `defaults` (what the command line said) with the job's fields applied. `define`
/// binds the tool's flags to the options that it is given, and is the same function that the command line is parsed
/// with:
///
///     void define_flags(CLI::App& app, GenerateOptions& options);
///     GenerateOptions job = cli::job_options(options, define_flags, job.fields, {.whole_run = {"batch-size"}});
template <class Options, class Define>
Options job_options(const Options& defaults, Define&& define, const base::Json& fields, const JobRules& rules = {}) {
  Options options = defaults;
  CLI::App app;
  std::forward<Define>(define)(app, options);
  harden(app);
  apply_job(app, fields, rules);
  return options;
}

}  // namespace atelier::cli
