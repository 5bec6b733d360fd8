#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/descriptor.h"
#include "base/json.h"
#include "train/text/rows.h"

namespace atelier::train::text_data {

enum class OnLong { truncate, drop, error };

struct DatasetOptions {
  std::int64_t max_tokens = 1024;  ///< of a row, and of a pack
  OnLong on_long = OnLong::truncate;
  bool packing = false;          ///< several rows share a sequence of max_tokens (best fit); they never see each other
  bool group_by_length = false;  ///< rows of a batch are of like length
  bool shuffle = true;           ///< a new order every epoch
  std::int64_t batch_size = 1;   ///< sequences of a batch: rows, or packs
  std::uint64_t seed = 0;
};

/// What --check reports, and what a run warns of.
struct DatasetReport {
  RowKind kind = RowKind::text;
  std::int64_t rows = 0;          ///< of the file
  std::int64_t kept = 0;          ///< that are trained on
  std::int64_t too_long = 0;      ///< over max_tokens: cut, or left out
  std::int64_t dropped = 0;       ///< left out: too long (OnLong::drop), or nothing supervised was left of it
  std::int64_t tokens = 0;        ///< of the kept rows, as they are trained on
  std::int64_t supervised = 0;    ///< of those
  std::int64_t end_of_turns = 0;  ///< supervised, of the kept rows before they were cut
  std::int64_t end_of_texts = 0;
  std::int64_t sequences = 0;         ///< of an epoch: kept rows, or packs
  std::vector<std::int64_t> lengths;  ///< tokens of every row of the file before it was cut, ascending

  std::int64_t length_at(double share) const;  ///< quantile of `lengths`; 0 where there are none
  /// {"kind","rows","kept","too_long","dropped","tokens","supervised_tokens","supervised_share","end_of_turns",
  /// "end_of_texts","sequences","lengths":{"min","median","mean","p95","max"}}
  base::Json json() const;
};

/// Rows of a JSON Lines file in random order. Only places and lengths are held, 16 bytes a row: the file may be larger than
/// memory, and rows are tokenized anew when their turn comes.
class Dataset {
 public:
  /// Reads the file once: every row is checked (RowReader's errors name the line) and counted. Looks at the stop flag, shows
  /// progress. Error(no_input): missing, or a folder. Error(data): no rows, nothing left to train on, a line above 64 MiB, a
  /// row that is too long with OnLong::error.
  Dataset(std::string path, RowOptions rows, DatasetOptions options);

  const DatasetReport& report() const { return report_; }
  /// Of the file's bytes, to know it again.
  const std::string& sha256() const { return sha256_; }

  /// Batches of an epoch: the last one may be smaller.
  std::int64_t batches() const;
  /// Rows of one batch in the order of the epoch. Error(data) where the file has changed since it was read.
  std::vector<Example> batch(std::int64_t epoch, std::int64_t index);

 private:
  struct Row {
    std::uint64_t offset;  ///< of its line
    std::uint32_t line_bytes, tokens;
  };

  void read_all();
  void add(std::uint64_t offset, std::string_view line, std::int64_t number);
  Example example(const Row& row);
  void arrange(std::int64_t epoch);
  std::vector<std::uint32_t> shuffled(std::int64_t epoch) const;
  void pack(const std::vector<std::uint32_t>& order, std::int64_t epoch);
  void group(const std::vector<std::uint32_t>& order, std::int64_t epoch);

  std::string path_, sha256_;
  RowReader reader_;
  DatasetOptions options_;
  DatasetReport report_;
  base::Descriptor file_;
  std::vector<Row> rows_;

  std::int64_t arranged_ = -1;              ///< the epoch that these are of
  std::vector<std::uint32_t> order_;        ///< rows, one sequence behind another
  std::vector<std::size_t> sequence_ends_;  ///< into order_
};

/// Cuts an example to so many tokens. False where nothing supervised is left.
bool truncate(Example& example, std::int64_t max_tokens);

}  // namespace atelier::train::text_data
