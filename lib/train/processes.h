#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "train/launch.h"

namespace atelier::train {

/// The processes of one run, which compute their parts of each step and agree on what comes of it. They meet through a file in the
/// run's folder, which all must see, and talk over TCP: each with the process of rank 0. Sums are made in the order of the ranks, so
/// that they are the same bits in every process and in every run.
///
/// All processes make the same calls in the same order. Error(io) where another one has ended; base::Stopped where this one was told
/// to end, too.
class Processes {
 public:
  /// A process of its own: every call returns what it was given.
  Processes();
  /// Waits until all have come, at most `patience_s` seconds: then Error(unavailable). Looks at the stop flag. The folder is made.
  Processes(const Launch& launch, const std::string& folder, double patience_s = 300);
  ~Processes();
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  int rank() const { return launch_.rank; }
  int size() const { return launch_.size; }
  bool alone() const { return launch_.size == 1; }
  /// The one that writes files and says how it goes.
  bool first() const { return launch_.rank == 0; }

  /// Puts the sum over all processes in the place of a tensor of f32 or f64.
  void sum(at::Tensor& tensor);
  /// The largest of all processes' numbers.
  std::int64_t largest(std::int64_t number);
  /// What the first process has, in all of them.
  std::int64_t from_first(std::int64_t number);
  void from_first(std::vector<std::uint8_t>& bytes);
  /// Returns when all have come here.
  void wait() { largest(0); }
  /// The first process does it, then all others: what it has written to the disk they need not compute.
  void in_turn(const std::function<void()>& work);

 private:
  struct Connection;
  void meet_as_first(const std::string& folder, double patience_s);
  void meet_first(const std::string& folder, double patience_s);

  Launch launch_;
  std::vector<std::unique_ptr<Connection>>
      others_;  ///< of the first process: by rank, from 1; of another one: to the first
};

}  // namespace atelier::train
