#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "cli/common.h"
#include "cli/output.h"
#include "io/file_system.h"

namespace atelier::cli {

/// {"id", "error", "code"}: the record of a job that failed; "code" is the exit code that it would have had alone.
base::Json error_record(const base::Json& id, const Failure& failure);

/// Prints the records of a batch in the order of its jobs, whatever order they are finished in.
///
/// With `path` empty they go to stdout, each as soon as those before it are there. Else they are added line by line to
/// `path`.partial, which becomes `path` when the batch is done, so `path` is always whole.
///
/// With `resume`, ids that already have a record without "error" are `done`: in `path`, in `path`.partial, or, where
/// stdout is a regular file opened for appending (`>> out.jsonl`), in that file. A torn last line does not count. The
/// finished `path` holds old and new records in the order of the jobs, after the records of ids that are no longer
/// among them.
///
/// After a failed write (Error(io)) every later call throws the same, so that no caller can take it for a failed job.
///
/// A job's records are told apart by "index", which begins at 0. Use from one thread.
class RecordWriter {
 public:
  /// `leaves_files`: jobs leave files of their own, by which a later run knows that they are done.
  /// Error(cannot_create) where `path` cannot be written, before any work is done.
  RecordWriter(Output& output, std::string path, bool resume, bool leaves_files = false);
  ~RecordWriter();
  RecordWriter(const RecordWriter&) = delete;
  RecordWriter& operator=(const RecordWriter&) = delete;

  /// Whether an earlier run left the `count` records of this id.
  bool done(const base::Json& id, std::size_t count = 1) const;

  /// The next place in the order of the jobs. Every place must be filled by put, fail or skip before finish.
  std::uint64_t reserve();
  void put(std::uint64_t place, const std::vector<base::Json>& records);
  void fail(std::uint64_t place, const base::Json& id, const Failure& failure);
  /// For an id that is done: its old records stand at this place.
  void skip(std::uint64_t place, const base::Json& id);

  /// All jobs are through: puts the file in place. Returns the exit code of the batch: 0, or 3 where some failed
  /// (stderr says how many).
  int finish();

  /// The run is being stopped by a signal: keeps what is there and throws base::Stopped, with code 75 where the records,
  /// or the files of finished jobs, are kept for --resume, else 130 or 143.
  [[noreturn]] void stop();

  std::uint64_t failed() const { return failed_; }

 private:
  enum class Source : std::uint8_t { finished, partial };
  struct Slice {
    Source source = Source::finished;
    std::uint64_t offset = 0, size = 0;
  };
  struct Entry {
    std::vector<Slice> records;
    std::uint64_t order = 0;  ///< among the records found
    bool used = false;        ///< an id of this batch
  };

  void open_file(bool resume);
  void resume_from_stdout();
  std::uint64_t scan(const std::string& path, Source source);
  bool note(const std::string& line, Slice slice);
  void check_not_broken() const;
  void fill(std::uint64_t place, std::string lines);
  void emit(const std::string& lines, std::uint64_t place);
  void put_in_place();
  void assemble();

  Output& output_;
  std::string path_, partial_;
  std::unique_ptr<io::OutputFile> file_;
  std::optional<base::Error> broken_;  ///< why nothing can be written any more
  std::unordered_map<std::string, Entry> found_;
  std::map<std::uint64_t, std::string> waiting_;        ///< finished before their turn
  std::map<std::uint64_t, std::vector<Slice>> placed_;  ///< with resume: where each job's records lie
  std::uint64_t next_place_ = 0, next_print_ = 0, failed_ = 0, partial_size_ = 0;
  bool resume_ = false, direct_ = false, leaves_files_ = false;
  bool appends_ = false;   ///< to stdout's file, which --resume has read
  bool had_old_ = false;   ///< an earlier run left a partial file
  bool added_ = false;     ///< this run added to it
  bool done_any_ = false;  ///< a job of this run has left its records
  bool torn_ = false;      ///< the file ends in the middle of a line
};

}  // namespace atelier::cli
