#include "io/shards.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"

namespace atelier::io {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;
using base::in_quotes;
using base::Json;

constexpr std::string_view kSuffix = ".safetensors";
constexpr std::uint64_t kMaxIndexBytes = 16u << 20;
constexpr std::size_t kMaxNameBytes = 255;

bool is_hash(const std::string& name) {
  return (name.size() == 40 || name.size() == 64) && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// A Hugging Face hub cache keeps snapshots/REVISION/[SUBFOLDER/]NAME as links to blobs/HASH beside snapshots/. `folder`
// is free of links; `real` is where `link` leads in the end.
bool is_hub_link(const fs::path& folder, const fs::path& link, const fs::path& real) {
  fs::path root = folder, below;
  std::string expected;
  for (std::string_view rest = link.native(); rest.starts_with("../"); rest.remove_prefix(3)) {
    below = root.filename();
    root = root.parent_path();
    expected += "../";
  }
  const std::string hash = real.filename().native();
  return below == "snapshots" && is_hash(hash) && real == root / "blobs" / hash &&
         link.native() == expected + "blobs/" + hash;
}

void check_shard_name(const std::string& name, const std::string& index) {
  const auto refuse = [&](const char* why) {
    return Error(ExitCode::data, fmt::format("{}: shard name {} {}", index, in_quotes(name), why));
  };
  if (name.empty() || name.size() > kMaxNameBytes) throw refuse("is not a file name");
  if (name.find_first_of("/\\") != std::string::npos) throw refuse("is a path; shards must lie beside the index");
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  if (std::any_of(name.begin(), name.end(), is_control)) throw refuse("holds a control character");
  if (name.starts_with('.')) throw refuse("starts with a dot");
  if (!name.ends_with(kSuffix) || name.size() == kSuffix.size()) throw refuse("does not end in .safetensors");
}

// Where the shard really lies. A link may stay in the folder or lead into a hub cache's blobs, and nowhere else.
std::string shard_path(const fs::path& folder, const std::string& name, const std::string& index) {
  std::error_code error;
  const fs::path path = folder / name;
  const fs::file_status status = fs::symlink_status(path, error);
  if (!fs::exists(status)) {
    throw Error(ExitCode::no_input, fmt::format("{}: the shard {} is missing", index, in_quotes(name)));
  }
  if (!fs::is_symlink(status)) return path.native();
  const fs::path link = fs::read_symlink(path, error);
  const fs::path real = fs::canonical(path, error);
  if (error) throw Error(ExitCode::no_input, fmt::format("{}: the shard {} is a broken link", index, in_quotes(name)));
  if (real.parent_path() != folder && !is_hub_link(folder, link, real)) {
    throw Error(ExitCode::data,
                fmt::format("{}: the shard {} is a symbolic link that leaves the folder", index, in_quotes(name)));
  }
  return real.native();
}

CheckpointFiles read_index(const fs::path& folder, const std::string& index) {
  const Json document = base::read_json_file(index, kMaxIndexBytes);
  const auto map = document.is_object() ? document.find("weight_map") : document.end();
  if (!document.is_object() || map == document.end() || !map->is_object() || map->empty()) {
    throw Error(ExitCode::data,
                fmt::format("{}: expected an object with a \"weight_map\" of tensors and their files", index));
  }
  CheckpointFiles files;
  std::vector<std::string> names;
  std::map<std::string, std::size_t> place;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) {
      throw Error(ExitCode::data, fmt::format("{}: the file of tensor {} is not a string", index, in_quotes(tensor)));
    }
    const auto& name = shard.get_ref<const std::string&>();
    const auto [known, fresh] = place.try_emplace(name, names.size());
    if (fresh) {
      check_shard_name(name, index);
      names.push_back(name);
    }
    files.owner.emplace(tensor, known->second);
  }
  for (const std::string& name : names) files.paths.push_back(shard_path(folder, name, index));
  return files;
}

// The index of a checkpoint's shards. Of a variant, "model.fp16", diffusers and transformers write the name behind:
// model.safetensors.index.fp16.json. "" where there is none.
std::string index_of(const fs::path& folder, const std::string& stem) {
  std::error_code error;
  std::vector<std::string> names = {stem + ".safetensors.index.json"};
  if (const std::size_t dot = stem.rfind('.'); dot != std::string::npos)
    names.push_back(stem.substr(0, dot) + ".safetensors.index" + stem.substr(dot) + ".json");
  for (const std::string& name : names)
    if (fs::exists(folder / name, error)) return (folder / name).native();
  return {};
}

// The only safetensors file of a folder that follows no naming convention.
std::string only_file(const fs::path& folder, const std::string& stem) {
  std::vector<std::string> found;
  bool other_format = false;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const fs::path& path = entry->path();
    const std::string extension = path.extension().native();
    if (extension == kSuffix && path.filename().native().front() != '.') found.push_back(path.native());
    other_format |= extension == ".bin" || extension == ".ckpt" || extension == ".pt" || extension == ".gguf";
  }
  if (error) throw Error(ExitCode::no_input, fmt::format("{}: {}", folder.native(), error.message()));
  if (found.size() == 1) return found.front();
  if (!found.empty()) {
    throw Error(ExitCode::no_input,
                fmt::format("{}: {} .safetensors files, but neither {}.safetensors nor {}.safetensors.index.json",
                            folder.native(), found.size(), stem, stem));
  }
  throw Error(ExitCode::no_input, fmt::format("{}: no .safetensors file in this folder", folder.native()),
              other_format ? "weights in other formats have to be converted to safetensors first" : "");
}

}  // namespace

CheckpointFiles find_checkpoint(const std::string& path, const std::string& stem) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    throw Error(ExitCode::no_input, fmt::format("{}: {}", path, error ? error.message() : "no such file or folder"));
  }
  if (!fs::is_directory(status)) return {{path}, {}};

  const fs::path shown(path);
  const fs::path single = shown / (stem + ".safetensors");
  if (fs::exists(single, error)) return {{single.native()}, {}};
  const std::string index = index_of(shown, stem);
  if (index.empty()) return {{only_file(shown, stem)}, {}};
  const fs::path folder = fs::canonical(shown, error);
  if (error) throw Error(ExitCode::no_input, fmt::format("{}: {}", path, error.message()));
  return read_index(folder, index);
}

bool has_checkpoint(const std::string& folder, const std::string& stem) {
  std::error_code error;
  return fs::exists(fs::path(folder) / (stem + ".safetensors"), error) || !index_of(folder, stem).empty();
}

}  // namespace atelier::io
