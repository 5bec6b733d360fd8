#include "cli/records.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/stop.h"

namespace atelier::cli {

using base::Error;
using base::ExitCode;
using base::Json;

namespace fs = std::filesystem;

namespace {

constexpr const char* kOwnStdout = "/proc/self/fd/1";

// Something that is there and cannot be replaced by a rename: a device, a pipe, an open descriptor.
bool written_directly(const std::string& path) {
  struct stat facts {};
  if (path.starts_with("/dev/") || path.starts_with("/proc/")) return true;
  return stat(path.c_str(), &facts) == 0 && !S_ISREG(facts.st_mode);
}

// Where a symbolic link leads, so that the link stays.
std::string link_target(const std::string& path) {
  std::error_code failed;
  if (!fs::is_symlink(path, failed)) return path;
  const fs::path target = fs::weakly_canonical(path, failed);
  return failed ? path : target.string();
}

std::string folder_of(const std::string& path) {
  const std::string folder = fs::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

}  // namespace

Json error_record(const Json& id, const Failure& failure) {
  const std::string text =
      failure.hint.empty() ? failure.message : fmt::format("{} ({})", failure.message, failure.hint);
  return {{"id", id}, {"error", text}, {"code", static_cast<int>(failure.code)}};
}

RecordWriter::RecordWriter(Output& output, std::string path, bool resume, bool leaves_files)
    : output_(output), path_(std::move(path)), resume_(resume), leaves_files_(leaves_files) {
  if (!path_.empty()) {
    open_file(resume);
  } else if (resume) {
    resume_from_stdout();
  }
}

RecordWriter::~RecordWriter() {
  if (!file_ || direct_) return;
  file_.reset();
  if (partial_size_ == 0) io::file_system().remove(partial_);
}

void RecordWriter::open_file(bool resume) {
  std::error_code failed;
  if (fs::is_directory(path_, failed)) throw Error(ExitCode::cannot_create, fmt::format("{}: is a folder", path_));
  direct_ = written_directly(path_);
  if (direct_) {
    file_ = io::file_system().append(path_);
    return;
  }
  path_ = link_target(path_);
  partial_ = path_ + ".partial";
  if (!resume) {
    io::file_system().remove(partial_);
    file_ = io::file_system().create(partial_);
    return;
  }
  scan(path_, Source::finished);
  scan(partial_, Source::partial);
  const auto size = fs::file_size(partial_, failed);
  partial_size_ = failed ? 0 : size;
  had_old_ = partial_size_ > 0;
  file_ = io::file_system().append(partial_);
}

void RecordWriter::resume_from_stdout() {
  struct stat facts {};
  const int flags = fcntl(STDOUT_FILENO, F_GETFL);
  appends_ = flags != -1 && (flags & O_APPEND) != 0 && fstat(STDOUT_FILENO, &facts) == 0 && S_ISREG(facts.st_mode);
  if (!appends_) {
    if (leaves_files_) return;
    base::log_warning("--resume finds no earlier records: stdout is not a file opened for appending (>> FILE)");
    return;
  }
  const std::uint64_t good = scan(kOwnStdout, Source::finished);
  if (good < static_cast<std::uint64_t>(facts.st_size) && ftruncate(STDOUT_FILENO, static_cast<off_t>(good)) == 0)
    torn_ = false;
}

// Returns the size without a torn last line. `torn_` says whether a newline must come before the next record.
std::uint64_t RecordWriter::scan(const std::string& path, Source source) {
  std::ifstream in(path, std::ios::binary);
  std::uint64_t offset = 0;
  torn_ = false;
  for (std::string line; std::getline(in, line);) {
    const bool unfinished = in.eof();
    const bool whole = note(line, {source, offset, line.size()});
    if (unfinished) {
      torn_ = true;
      return whole ? offset + line.size() : offset;
    }
    offset += line.size() + 1;
  }
  return offset;
}

// False where the line is no JSON.
bool RecordWriter::note(const std::string& line, Slice slice) {
  Json record;
  try {
    record = base::parse_json(line, "record");
  } catch (const Error&) {
    return false;  // torn by a kill or a full disk: the job is run again
  }
  if (!record.is_object() || !record.contains("id") || record.contains("error")) return true;
  const auto [entry, fresh] = found_.try_emplace(base::dump_json(record["id"]));
  if (fresh) entry->second.order = found_.size();
  const auto index = record.find("index");
  if (index == record.end() || *index == 0) entry->second.records.clear();
  entry->second.records.push_back(slice);
  return true;
}

bool RecordWriter::done(const Json& id, std::size_t count) const {
  const auto entry = found_.find(base::dump_json(id));
  return entry != found_.end() && entry->second.records.size() >= count;
}

std::uint64_t RecordWriter::reserve() { return next_place_++; }

void RecordWriter::put(std::uint64_t place, const std::vector<Json>& records) {
  done_any_ =
      done_any_ || std::any_of(records.begin(), records.end(), [](const Json& r) { return !r.contains("error"); });
  std::string lines;
  for (const Json& record : records) {
    lines += file_ ? base::dump_json(record) + "\n" : output_.record_line(record);
    if (const auto id = record.find("id"); id != record.end()) {
      if (const auto entry = found_.find(base::dump_json(*id)); entry != found_.end()) entry->second.used = true;
    }
  }
  fill(place, std::move(lines));
}

void RecordWriter::fail(std::uint64_t place, const Json& id, const Failure& failure) {
  ++failed_;
  put(place, {error_record(id, failure)});
}

void RecordWriter::skip(std::uint64_t place, const Json& id) {
  Entry& entry = found_.at(base::dump_json(id));
  entry.used = true;
  placed_[place] = entry.records;
  fill(place, {});
}

// A tool catches what one job throws and goes on with the next; a failed write must end the batch all the same.
void RecordWriter::check_not_broken() const {
  if (broken_) throw *broken_;
}

void RecordWriter::fill(std::uint64_t place, std::string lines) {
  check_not_broken();
  waiting_[place] = std::move(lines);
  for (auto first = waiting_.begin(); first != waiting_.end() && first->first == next_print_;
       first = waiting_.begin()) {
    try {
      emit(first->second, first->first);
    } catch (const Error& error) {
      broken_ = error;
      throw;
    }
    ++next_print_;
    waiting_.erase(first);
  }
}

void RecordWriter::emit(const std::string& lines, std::uint64_t place) {
  if (lines.empty()) return;
  const std::string bytes = std::exchange(torn_, false) ? "\n" + lines : lines;
  if (!file_) return output_.write(bytes);
  file_->write(bytes);
  if (direct_) return;
  if (resume_) placed_[place] = {{Source::partial, partial_size_ + bytes.size() - lines.size(), lines.size() - 1}};
  partial_size_ += bytes.size();
  added_ = true;
}

int RecordWriter::finish() {
  check_not_broken();
  if (!waiting_.empty() || next_print_ != next_place_) throw std::logic_error("a batch ended with jobs unanswered");
  if (file_) {
    file_->sync();
    file_->close();
    file_.reset();
    if (!direct_) put_in_place();
  }
  if (failed_ == 0) return static_cast<int>(ExitCode::ok);
  base::log_warning(fmt::format("{} of {} jobs failed", failed_, next_place_));
  return static_cast<int>(ExitCode::some_failed);
}

void RecordWriter::put_in_place() {
  io::FileSystem& system = io::file_system();
  struct stat facts {};
  const bool exists = stat(path_.c_str(), &facts) == 0;
  if (!found_.empty() && !added_ && !had_old_ && exists) {
    system.remove(partial_);  // nothing was left to do
    return;
  }
  if (found_.empty() && !had_old_) {
    if (exists) system.set_mode(partial_, facts.st_mode & 0777u);
    system.rename(partial_, path_);
  } else {
    assemble();
    system.remove(partial_);
  }
  system.sync_folder(folder_of(path_));
}

// The partial file is a journal: complete after any kill, but in the order of several runs. This sorts it.
void RecordWriter::assemble() {
  std::ifstream sources[2] = {std::ifstream(path_, std::ios::binary), std::ifstream(partial_, std::ios::binary)};
  std::vector<const Entry*> others;
  for (const auto& [id, entry] : found_) {
    if (!entry.used) others.push_back(&entry);
  }
  std::sort(others.begin(), others.end(), [](const Entry* a, const Entry* b) { return a->order < b->order; });
  io::write_atomically(path_, [&](io::OutputFile& out) {
    std::string bytes;
    const auto copy = [&](const Slice& slice) {
      std::ifstream& in = sources[slice.source == Source::partial ? 1 : 0];
      bytes.resize(slice.size);
      in.clear();
      in.seekg(static_cast<std::streamoff>(slice.offset));
      if (!in.read(bytes.data(), static_cast<std::streamsize>(slice.size))) {
        throw Error(ExitCode::io, fmt::format("{}: changed while it was being resumed",
                                              slice.source == Source::partial ? partial_ : path_));
      }
      out.write(bytes + "\n");
    };
    for (const Entry* entry : others) std::for_each(entry->records.begin(), entry->records.end(), copy);
    for (const auto& [place, slices] : placed_) std::for_each(slices.begin(), slices.end(), copy);
  });
}

void RecordWriter::stop() {
  const char* name = base::stop_signal() == SIGINT ? "SIGINT" : "SIGTERM";
  const bool keeps = file_ && !direct_;
  if (keeps) {
    for (const auto& [place, lines] : waiting_) emit(lines, place);
    file_->sync();
    file_->close();
    file_.reset();
    if (partial_size_ == 0) io::file_system().remove(partial_);
  }
  if ((keeps && partial_size_ > 0) || appends_) {
    throw base::Stopped(
        ExitCode::resumable,
        fmt::format("stopped by {}; finished records are in {}", name, keeps ? partial_ : "stdout's file"),
        resume_ ? "the same command goes on from there" : "the same command with --resume goes on from there");
  }
  if (leaves_files_ && done_any_) {
    throw base::Stopped(
        ExitCode::resumable, fmt::format("stopped by {}; what was finished is kept", name),
        resume_ ? "the same command goes on from there" : "the same command with --resume goes on from there");
  }
  const auto code = base::stop_signal() == SIGINT ? ExitCode::interrupted : ExitCode::terminated;
  throw base::Stopped(code, fmt::format("stopped by {}", name));
}

}  // namespace atelier::cli
