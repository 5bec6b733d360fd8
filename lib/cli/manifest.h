#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace atelier::cli {

/// What ran, for CI to diff. Files are named here and hashed when the manifest is made, after the run.
struct Manifest {
  std::string tool, version;
  std::vector<std::string> command;           ///< argv
  base::Json options = base::Json::object();  ///< effective value of every flag, by its long name
  std::string model_path;
  std::vector<std::string> model_files;       ///< weights, config and tokenizer, as paths
  base::Json adapters = base::Json::array();  ///< one object per adapter, at least {"path"}; "sha256" is added
  std::vector<std::uint64_t> seeds;           ///< one per result
  std::vector<std::string> outputs;           ///< paths of written files
  base::Json timings = base::Json::object();  ///< seconds by phase
  std::string device;                         ///< "cpu", "cuda:0"; empty until chosen
  int exit_code = 0;
};

/// The contract's object, its keys in the contract's order. `hash` false (a stopped run, which must end at once) or a
/// file that cannot be read leaves its "bytes" and "sha256" null. A run that named no model has "model": null, and
/// likewise "device".
base::Json manifest_json(const Manifest& manifest, bool hash = true);

/// Written whole or not at all, indented by two blanks. Error(cannot_create), Error(io).
void write_manifest(const std::string& path, const Manifest& manifest, bool hash = true);

}  // namespace atelier::cli
