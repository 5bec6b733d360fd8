#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/common.h"
#include "cli/output.h"

namespace atelier::cli {

/// What a run would need, found out from headers alone.
struct Plan {
  std::string family;              ///< "gemma2", ...
  std::vector<std::string> files;  ///< weight files
  std::uint64_t tensors = 0;       ///< in those files
  std::uint64_t parameters = 0;    ///< elements of the tensors that the model uses
  std::vector<std::string> missing, unused;
  std::uint64_t weights = 0, cache = 0, activations = 0;  ///< bytes
  std::uint64_t optimizer = 0;                            ///< bytes of gradients and optimiser states, of a training
  std::optional<std::uint64_t> max_ram;                   ///< bytes; nothing: no limit was set

  std::uint64_t total() const;  ///< all of these; saturates
  bool fits() const;            ///< within max_ram; without a limit always
};

/// The object that --plan prints. `bytes` has "optimizer" where there is one.
base::Json plan_json(const Plan& plan);

/// For --plan: 0, or 71 where the run would not fit.
int plan_exit_code(const Plan& plan);

/// Without --plan: refuses to start a run over --max-ram. Error(out_of_memory) "the run needs about 5.9 GiB, --max-ram
/// is 4.0 GiB".
void require_fit(const Plan& plan);

/// What --plan and --max-ram ask for. With --plan the plan is printed, and the exit code that the tool ends with returned; with
/// --max-ram alone a run that would not fit is refused (require_fit). `make` is called where one of them was given.
std::optional<int> answer_plan(const CommonOptions& options, Output& output, const std::function<Plan()>& make);

/// "5.9 GiB", "512 MiB", "17 bytes".
std::string human_bytes(std::uint64_t bytes);

}  // namespace atelier::cli
