#include "train/launch.h"

#include <cctype>
#include <charconv>
#include <cstdlib>
#include <optional>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"

namespace atelier::train {
namespace {

using base::Error;
using base::ExitCode;

constexpr int kMostProcesses = 4096;

std::string text_of(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// A variable's number, or nothing where it is not set.
std::optional<int> number_of(const char* name) {
  const std::string text = text_of(name);
  if (text.empty()) return std::nullopt;
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0 || value > kMostProcesses)
    throw Error(ExitCode::usage, fmt::format("{}={}: not a number of processes", name, base::printable(text)));
  return value;
}

/// The names under which a launcher tells what it has to tell; those that it does not tell are null.
struct Names {
  const char *rank, *size, *local_rank, *local_size;
  const char* keys[3];
};

constexpr Names kLaunchers[] = {
    {"RANK",
     "WORLD_SIZE",
     "LOCAL_RANK",
     "LOCAL_WORLD_SIZE",
     {"TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT"}},
    {"OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE",
     {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", nullptr}},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", {"PMI_JOBID", nullptr, nullptr}},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr, {"SLURM_JOB_ID", "SLURM_STEP_ID", nullptr}}};

std::string key_of(const Names& names) {
  std::string key;
  for (const char* name : names.keys) {
    if (name == nullptr) continue;
    for (const char c : text_of(name)) key += std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' ? c : '-';
    key += '-';
  }
  return key + "run";
}

}  // namespace

Launch launch_from_environment() {
  for (const Names& names : kLaunchers) {
    const auto rank = number_of(names.rank), size = number_of(names.size);
    if (!rank || !size) continue;
    if (*rank >= *size)
      throw Error(ExitCode::usage, fmt::format("{}={} of {}={} processes", names.rank, *rank, names.size, *size));
    Launch launch{
        .rank = *rank, .size = *size, .local_rank = number_of(names.local_rank).value_or(0), .key = key_of(names)};
    launch.one_machine = names.local_size != nullptr && number_of(names.local_size).value_or(0) == *size;
    launch.address = text_of("MASTER_ADDR");
    return launch;
  }
  return {};
}

}  // namespace atelier::train
