#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "io/file_system.h"

namespace atelier::train {

/// A TensorBoard event file: TFRecords (length u64, its masked CRC-32C, bytes, theirs) of tensorflow.Event messages. A
/// resumed run writes another file beside the first; its opening tells TensorBoard to drop what the first has from that
/// step on (SessionLog.START). References: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto.
class EventFile {
 public:
  /// Creates `folder/events.out.tfevents.SECONDS.PID.COUNT`. `first_step`: the first one that this run will write.
  /// Error(cannot_create), Error(io), as each of the others.
  EventFile(const std::string& folder, std::int64_t first_step);

  using Scalar = std::pair<std::string_view, double>;
  /// One event with these scalars (tag and value), written through.
  void scalars(std::int64_t step, std::span<const Scalar> values);

  const std::string& path() const { return path_; }

 private:
  void record(const std::string& event);

  std::string path_;
  std::unique_ptr<io::OutputFile> file_;
};

}  // namespace atelier::train
