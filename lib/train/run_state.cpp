#include "train/run_state.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "io/file_system.h"
#include "io/tensor_file.h"

namespace atelier::train {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;
using base::Json;

constexpr std::int64_t kFormat = 1;
constexpr std::string_view kPrefix = "checkpoint-", kPartial = ".checkpoint-";

struct Part {
  const char* file;
  TensorMap RunState::*tensors;
};
constexpr Part kParts[] = {{"weights.safetensors", &RunState::weights},
                           {"optimizer.safetensors", &RunState::optimizer},
                           {"ema.safetensors", &RunState::ema},
                           {"history.safetensors", &RunState::history},
                           {"random.safetensors", &RunState::random}};

std::string join(const std::string& folder, std::string_view name) { return (fs::path(folder) / name).native(); }

Json write_parts(const RunState& state, const std::string& folder) {
  Json files = Json::object();
  for (const Part& part : kParts) {
    const TensorMap& tensors = state.*part.tensors;
    if (tensors.empty()) continue;
    const std::string path = join(folder, part.file);
    io::write_tensors(path, tensors);
    files[part.file] = {{"bytes", fs::file_size(path)}, {"sha256", base::sha256_file(path)}};
  }
  return files;
}

void check_file(const std::string& path, const Json& facts) {
  const base::JsonFields fields(facts, path);
  std::error_code error;
  const auto bytes = fs::file_size(path, error);
  if (error) throw Error(ExitCode::data, fmt::format("{}: missing", path));
  if (bytes != static_cast<std::uintmax_t>(fields.integer("bytes", 0, INT64_MAX)) ||
      base::sha256_file(path) != fields.string("sha256")) {
    throw Error(ExitCode::data, fmt::format("{}: damaged: these are not the bytes that were saved", path));
  }
}

// Step of a name "checkpoint-N"; N as to_string writes it.
std::optional<std::int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t step = -1;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || stop != end || step < 0 || name != fmt::format("{}{}", kPrefix, step))
    return std::nullopt;
  return step;
}

// Renamed first, so that a checkpoint that is half deleted has not its name any more.
void remove_checkpoint(const std::string& folder, std::int64_t step) {
  const std::string path = join(folder, fmt::format("{}{}", kPrefix, step));
  const std::string hidden = join(folder, fmt::format("{}{}.old", kPartial, step));
  std::error_code ignored;
  fs::remove_all(hidden, ignored);
  io::file_system().rename(path, hidden);
  fs::remove_all(hidden, ignored);
}

std::string replaced(const std::string& folder, std::int64_t step) {
  return join(folder, fmt::format("{}{}.replaced", kPartial, step));
}

// Where a process died between the two renames of put_in_place, the old checkpoint comes back.
void bring_back_replaced(const std::string& folder) {
  std::error_code ignored;
  std::vector<fs::path> hidden;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() == ".replaced") hidden.push_back(entry.path());
  }
  for (const fs::path& path : hidden) {
    const std::string name = path.stem().native().substr(1);
    if (!step_of(name) || fs::exists(join(folder, name), ignored)) continue;
    io::file_system().rename(path.native(), join(folder, name));
  }
}

void put_in_place(const std::string& folder, const std::string& partial, const std::string& target, std::int64_t step) {
  io::FileSystem& files = io::file_system();
  std::error_code ignored;
  const std::string old = replaced(folder, step);
  const bool exists = fs::exists(target, ignored);
  if (exists) files.rename(target, old);
  try {
    files.rename(partial, target);
  } catch (...) {
    if (exists) bring_back_replaced(folder);
    throw;
  }
  files.sync_folder(folder);
  fs::remove_all(old, ignored);
}

void remove_leftovers(const std::string& folder) {
  bring_back_replaced(folder);
  std::error_code ignored;
  std::vector<fs::path> old;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().filename().native().starts_with(kPartial)) old.push_back(entry.path());
  }
  for (const fs::path& path : old) fs::remove_all(path, ignored);
}

at::Tensor state_of(at::Device device) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  return generator.get_state().clone();
}

}  // namespace

TensorMap capture_random() {
  TensorMap states{{"cpu", state_of(at::kCPU)}};
  if (at::hasCUDA()) {
    const auto count = at::globalContext().getAcceleratorHooksInterface(at::kCUDA).deviceCount();
    for (int i = 0; i < static_cast<int>(count); ++i) {
      states[fmt::format("cuda:{}", i)] = state_of({at::kCUDA, static_cast<at::DeviceIndex>(i)});
    }
  }
  return states;
}

void restore_random(const TensorMap& states) {
  for (const auto& [name, state] : states) {
    if (name != "cpu" && !at::hasCUDA()) continue;
    try {
      at::Generator generator = at::globalContext().defaultGenerator(at::Device(name));
      generator.set_state(state.clone());
    } catch (const c10::Error&) {
      throw Error(ExitCode::data, fmt::format("the saved random state of {} does not fit", base::in_quotes(name)));
    }
  }
}

Checkpoints::Checkpoints(std::string folder) : folder_(std::move(folder)) {}

std::string Checkpoints::path(std::int64_t step) const { return join(folder_, fmt::format("{}{}", kPrefix, step)); }

std::string Checkpoints::save(const RunState& state, const std::function<void(const std::string&)>& add) const {
  const base::StopPostponed whole;
  io::FileSystem& files = io::file_system();
  files.create_folders(folder_);
  remove_leftovers(folder_);
  const std::string target = path(state.step);
  const std::string partial = join(folder_, fmt::format("{}{}.partial", kPartial, state.step));
  try {
    files.create_folders(partial);
    if (add) add(partial);
    Json facts{{"format", kFormat},          {"step", state.step}, {"files", write_parts(state, partial)},
               {"position", state.position}, {"loop", state.loop}, {"settings", state.settings}};
    facts["sha256"] = base::sha256_hex(base::dump_json(facts));  // of all that stands before it
    io::write_atomically(join(partial, "state.json"), base::dump_json(facts) + "\n");
    put_in_place(folder_, partial, target, state.step);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(partial, ignored);
    throw;
  }
  return target;
}

void Checkpoints::prune(std::int64_t newest, std::int64_t keep, std::optional<std::int64_t> best) const {
  std::vector<std::int64_t> all = steps();
  for (; !all.empty() && all.back() > newest; all.pop_back()) remove_checkpoint(folder_, all.back());
  const std::size_t kept = static_cast<std::size_t>(std::max<std::int64_t>(1, keep));
  for (std::size_t i = 0; i + kept < all.size(); ++i) {
    if (best != all[i]) remove_checkpoint(folder_, all[i]);
  }
}

void Checkpoints::clear() const {
  for (const std::int64_t step : steps()) remove_checkpoint(folder_, step);
  remove_leftovers(folder_);
}

std::vector<std::int64_t> Checkpoints::steps() const {
  std::vector<std::int64_t> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder_, ignored)) {
    if (const auto step = step_of(entry.path().filename().native())) found.push_back(*step);
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::optional<RunState> Checkpoints::load_newest() const {
  bring_back_replaced(folder_);
  std::vector<std::int64_t> left = steps();
  const bool none = left.empty();
  for (; !left.empty(); left.pop_back()) {
    try {
      return load(path(left.back()));
    } catch (const base::Stopped&) {
      throw;
    } catch (const Error& error) {
      base::log_warning(fmt::format("checkpoint-{} is left out: {}", left.back(), error.what()));
    }
  }
  if (none) return std::nullopt;
  throw Error(ExitCode::data, fmt::format("{}: no checkpoint is whole", folder_), "--overwrite begins anew");
}

RunState Checkpoints::load(const std::string& checkpoint) {
  const std::string path = join(checkpoint, "state.json");
  Json facts = base::read_json_file(path);
  if (!facts.is_object()) throw Error(ExitCode::data, fmt::format("{}: is not an object", path));
  const base::JsonFields fields(facts, path);
  fields.integer("format", kFormat, kFormat);
  const std::string sha256 = fields.string("sha256");
  facts.erase("sha256");
  if (base::sha256_hex(base::dump_json(facts)) != sha256) {
    throw Error(ExitCode::data, fmt::format("{}: damaged: this is not what was saved", path));
  }
  const Json* files = fields.find("files");
  if (files == nullptr || !files->is_object())
    throw Error(ExitCode::data, fmt::format("{}: \"files\" is missing", path));
  RunState state;
  state.step = fields.integer("step", 0, INT64_MAX);
  for (const auto& [name, of_file] : files->items()) {
    const auto part = std::find_if(std::begin(kParts), std::end(kParts), [&](const Part& p) { return p.file == name; });
    if (part == std::end(kParts) || !of_file.is_object()) {
      throw Error(ExitCode::data, fmt::format("{}: unknown file {}", path, base::in_quotes(name)));
    }
    const std::string file = join(checkpoint, part->file);
    check_file(file, of_file);
    state.*part->tensors = io::read_tensors(file);
  }
  for (const auto& [key, member] : {std::pair{"position", &RunState::position}, std::pair{"loop", &RunState::loop},
                                    std::pair{"settings", &RunState::settings}}) {
    if (facts.contains(key)) state.*member = facts[key];
  }
  return state;
}

void take_weights(const std::vector<Parameter>& parameters, const std::string& checkpoint) {
  const at::NoGradGuard no_grad;
  const RunState state = Checkpoints::load(checkpoint);
  const TensorMap& saved = state.ema.empty() ? state.weights : state.ema;
  for (const Parameter& parameter : parameters) parameter.tensor.copy_(saved.at(parameter.name));
}

}  // namespace atelier::train
