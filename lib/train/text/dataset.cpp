#include "train/text/dataset.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <set>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "train/draws.h"

namespace atelier::train::text_data {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

constexpr std::size_t kLongestLine = 64u << 20, kBlock = 1u << 20;
constexpr std::int64_t kMostRows = std::int64_t{1} << 32;

int open_file(const std::string& path) {
  constexpr const char* not_a_file = "{}: not a file: rows are read again in every epoch";
  if (path == "-") throw Error(ExitCode::no_input, fmt::format(not_a_file, "-"));
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw Error(ExitCode::no_input, fmt::format("{}: cannot open: {}", path, std::strerror(errno)));
  struct stat facts{};
  if (fstat(descriptor, &facts) == 0 && !S_ISREG(facts.st_mode)) {
    close(descriptor);
    throw Error(ExitCode::no_input, fmt::format(not_a_file, path));
  }
  return descriptor;
}

/// Up to `size` bytes from `offset`.
std::string read_at(int descriptor, std::uint64_t offset, std::size_t size, const std::string& path) {
  std::string bytes(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n = pread(descriptor, bytes.data() + done, size - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error(ExitCode::no_input, fmt::format("{}: cannot read: {}", path, std::strerror(errno)));
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  bytes.resize(done);
  return bytes;
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r\n") == std::string_view::npos; }

}  // namespace

bool truncate(Example& example, std::int64_t max_tokens) {
  const auto most = static_cast<std::size_t>(max_tokens);
  if (example.tokens.size() > most) {
    example.tokens.resize(most);
    example.supervised.resize(most);
  }
  return std::find(example.supervised.begin(), example.supervised.end(), true) != example.supervised.end();
}

std::int64_t DatasetReport::length_at(double share) const {
  if (lengths.empty()) return 0;
  const auto place = static_cast<std::size_t>(share * static_cast<double>(lengths.size() - 1) + 0.5);
  return lengths[std::min(place, lengths.size() - 1)];
}

Json DatasetReport::json() const {
  const double sum = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  const auto share = tokens > 0 ? static_cast<double>(supervised) / static_cast<double>(tokens) : 0;
  return {{"kind", row_kind_name(kind)},
          {"rows", rows},
          {"kept", kept},
          {"too_long", too_long},
          {"dropped", dropped},
          {"tokens", tokens},
          {"supervised_tokens", supervised},
          {"supervised_share", share},
          {"end_of_turns", end_of_turns},
          {"end_of_texts", end_of_texts},
          {"sequences", sequences},
          {"lengths",
           {{"min", length_at(0)},
            {"median", length_at(0.5)},
            {"mean", lengths.empty() ? 0 : sum / static_cast<double>(lengths.size())},
            {"p95", length_at(0.95)},
            {"max", length_at(1)}}}};
}

Dataset::Dataset(std::string path, RowOptions rows, DatasetOptions options)
    : path_(std::move(path)), reader_(std::move(rows)), options_(options), file_(open_file(path_)) {
  sha256_ = base::sha256_file(path_);
  read_all();
  if (report_.rows == 0) throw Error(ExitCode::data, path_ + ": no rows");
  if (rows_.empty())
    throw Error(ExitCode::data, fmt::format("{}: of its {} rows none is left to train on", path_, report_.rows),
                "a larger --max-seq-len keeps more of them");
  std::sort(report_.lengths.begin(), report_.lengths.end());
  report_.kind = *reader_.kind();
  report_.kept = static_cast<std::int64_t>(rows_.size());
  arrange(0);
  report_.sequences = static_cast<std::int64_t>(sequence_ends_.size());
}

void Dataset::read_all() {
  struct stat facts{};
  fstat(file_.fd, &facts);
  base::Progress progress("reading " + path_, static_cast<std::uint64_t>(facts.st_size), "bytes");
  std::string buffer;
  std::uint64_t offset = 0;  // of the buffer's first byte
  std::int64_t number = 0;
  for (bool end = false; !end;) {
    base::throw_if_stopped();
    const std::string block = read_at(file_.fd, offset + buffer.size(), kBlock, path_);
    end = block.empty();
    buffer += block;
    if (end && !buffer.empty() && !buffer.ends_with('\n')) buffer += '\n';
    std::size_t begin = 0;
    for (std::size_t newline = 0; (newline = buffer.find('\n', begin)) != std::string::npos; begin = newline + 1) {
      std::string_view line = std::string_view(buffer).substr(begin, newline - begin);
      if (++number == 1 && line.starts_with("\xEF\xBB\xBF")) {
        line.remove_prefix(3);
        begin += 3;
      }
      if (!is_blank(line)) add(offset + begin, line, number);
      base::throw_if_stopped();
    }
    offset += begin;
    buffer.erase(0, begin);
    if (buffer.size() > kLongestLine)
      throw Error(ExitCode::data, fmt::format("{}: line {}: longer than {} bytes", path_, number + 1, kLongestLine));
    progress.update(offset);
  }
}

void Dataset::add(std::uint64_t offset, std::string_view line, std::int64_t number) {
  const std::string where = fmt::format("{}: line {}", path_, number);
  Example read = reader_.read(line, where);
  const auto length = static_cast<std::int64_t>(read.tokens.size());
  ++report_.rows;
  report_.lengths.push_back(length);
  if (length > options_.max_tokens) {
    if (options_.on_long == OnLong::error)
      throw Error(ExitCode::data,
                  fmt::format("{}: {} tokens, and --max-seq-len is {}", where, length, options_.max_tokens),
                  "--on-long truncate cuts such rows, --on-long drop leaves them out");
    ++report_.too_long;
  }
  const bool dropped = length > options_.max_tokens && options_.on_long == OnLong::drop;
  if (dropped || !truncate(read, options_.max_tokens)) {
    ++report_.dropped;
    return;
  }
  if (static_cast<std::int64_t>(rows_.size()) + 1 >= kMostRows) throw Error(ExitCode::data, path_ + ": too many rows");
  report_.tokens += static_cast<std::int64_t>(read.tokens.size());
  report_.supervised += std::count(read.supervised.begin(), read.supervised.end(), true);
  report_.end_of_turns += read.end_of_turns;
  report_.end_of_texts += read.end_of_texts;
  rows_.push_back({offset, static_cast<std::uint32_t>(line.size()), static_cast<std::uint32_t>(read.tokens.size())});
}

Example Dataset::example(const Row& row) {
  const std::string line = read_at(file_.fd, row.offset, row.line_bytes, path_);
  const std::string where = fmt::format("{}: at byte {}", path_, row.offset);
  Example read = reader_.read(line, where);
  truncate(read, options_.max_tokens);
  if (read.tokens.size() != row.tokens)
    throw Error(ExitCode::data, fmt::format("{}: the file has changed since the run began", where));
  return read;
}

std::int64_t Dataset::batches() const { return (report_.sequences + options_.batch_size - 1) / options_.batch_size; }

std::vector<Example> Dataset::batch(std::int64_t epoch, std::int64_t index) {
  arrange(epoch);
  const auto first = static_cast<std::size_t>(index * options_.batch_size);
  const std::size_t last = std::min(first + static_cast<std::size_t>(options_.batch_size), sequence_ends_.size());
  std::vector<Example> examples;
  for (std::size_t i = first == 0 ? 0 : sequence_ends_[first - 1]; i < sequence_ends_[last - 1]; ++i)
    examples.push_back(example(rows_[order_[i]]));
  return examples;
}

// --- The order of an epoch --------------------------------------------------------------------------------------------

std::vector<std::uint32_t> Dataset::shuffled(std::int64_t epoch) const {
  std::vector<std::uint32_t> order(rows_.size());
  std::iota(order.begin(), order.end(), 0);
  if (options_.shuffle) shuffle(order, generator_of(options_.seed, epoch, 0));
  return order;
}

void Dataset::arrange(std::int64_t epoch) {
  // Without shuffling every epoch is the first; the packs are always those of the first, so that epochs have equal length.
  if (arranged_ == epoch) return;
  arranged_ = epoch;
  order_.clear();
  sequence_ends_.clear();
  if (options_.packing) return pack(shuffled(0), epoch);
  if (options_.group_by_length) return group(shuffled(epoch), epoch);
  order_ = shuffled(epoch);
  sequence_ends_.resize(order_.size());
  std::iota(sequence_ends_.begin(), sequence_ends_.end(), std::size_t{1});
}

// Best fit, longest first: each row goes into the pack with the least room that it fits in.
void Dataset::pack(const std::vector<std::uint32_t>& order, std::int64_t epoch) {
  std::vector<std::uint32_t> longest = order;
  std::stable_sort(longest.begin(), longest.end(),
                   [this](std::uint32_t a, std::uint32_t b) { return rows_[a].tokens > rows_[b].tokens; });
  std::vector<std::vector<std::uint32_t>> packs;
  std::set<std::pair<std::int64_t, std::size_t>> rooms;  // room left, pack
  for (const std::uint32_t row : longest) {
    const auto tokens = static_cast<std::int64_t>(rows_[row].tokens);
    const auto found = rooms.lower_bound({tokens, 0});
    std::pair<std::int64_t, std::size_t> place{options_.max_tokens, packs.size()};
    if (found == rooms.end()) {
      packs.emplace_back();
    } else {
      place = *found;
      rooms.erase(found);
    }
    packs[place.second].push_back(row);
    rooms.emplace(place.first - tokens, place.second);
  }
  if (options_.shuffle) shuffle(packs, generator_of(options_.seed, epoch, 1));
  for (const auto& rows : packs) {
    order_.insert(order_.end(), rows.begin(), rows.end());
    sequence_ends_.push_back(order_.size());
  }
}

// As transformers' group_by_length: stretches of 50 batches are sorted by length, then the batches are shuffled.
void Dataset::group(const std::vector<std::uint32_t>& order, std::int64_t epoch) {
  const auto size = static_cast<std::size_t>(options_.batch_size), stretch = 50 * size;
  std::vector<std::uint32_t> sorted = order;
  for (std::size_t i = 0; i < sorted.size(); i += stretch) {
    const auto begin = sorted.begin() + static_cast<std::ptrdiff_t>(i);
    const auto end = sorted.begin() + static_cast<std::ptrdiff_t>(std::min(i + stretch, sorted.size()));
    std::stable_sort(begin, end, [this](auto a, auto b) { return rows_[a].tokens > rows_[b].tokens; });
  }
  std::vector<std::vector<std::uint32_t>> batches;
  for (std::size_t i = 0; i < sorted.size(); i += size)
    batches.emplace_back(sorted.begin() + static_cast<std::ptrdiff_t>(i),
                         sorted.begin() + static_cast<std::ptrdiff_t>(std::min(i + size, sorted.size())));
  // The last batch may be smaller: it stays the last one.
  std::vector<std::uint32_t> last = std::move(batches.back());
  batches.pop_back();
  if (options_.shuffle) shuffle(batches, generator_of(options_.seed, epoch, 1));
  batches.push_back(std::move(last));
  for (const auto& batch : batches) order_.insert(order_.end(), batch.begin(), batch.end());
  sequence_ends_.resize(order_.size());
  std::iota(sequence_ends_.begin(), sequence_ends_.end(), std::size_t{1});
}

}  // namespace atelier::train::text_data
