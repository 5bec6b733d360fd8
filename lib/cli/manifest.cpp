#include "cli/manifest.h"

#include <filesystem>

#include "base/error.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "io/file_system.h"

namespace atelier::cli {

using base::Json;

namespace {

Json hash_of(const std::string& path, bool hash) {
  if (!hash) return nullptr;
  try {
    return base::sha256_file(path);
  } catch (const base::Error&) {
    return nullptr;  // a manifest also tells of runs that failed because of this very file
  }
}

Json size_of(const std::string& path) {
  std::error_code failed;
  const auto size = std::filesystem::file_size(path, failed);
  return failed ? Json(nullptr) : Json(size);
}

Json model_json(const Manifest& manifest, bool hash) {
  if (manifest.model_path.empty()) return nullptr;
  Json files = Json::array();
  for (const std::string& path : manifest.model_files) {
    files.push_back({{"path", path}, {"bytes", size_of(path)}, {"sha256", hash_of(path, hash)}});
  }
  return {{"path", manifest.model_path}, {"files", std::move(files)}};
}

Json adapters_json(const Manifest& manifest, bool hash) {
  Json adapters = manifest.adapters;
  for (Json& adapter : adapters) {
    if (!adapter.is_object() || !adapter.contains("path") || adapter.contains("sha256")) continue;
    adapter["sha256"] = hash_of(adapter["path"].get<std::string>(), hash);
  }
  return adapters;
}

}  // namespace

Json manifest_json(const Manifest& manifest, bool hash) {
  Json outputs = Json::array();
  for (const std::string& path : manifest.outputs) outputs.push_back({{"path", path}, {"sha256", hash_of(path, hash)}});
  Json json = Json::object();
  json["tool"] = manifest.tool;
  json["version"] = manifest.version;
  json["command"] = manifest.command;
  json["options"] = manifest.options;
  json["model"] = model_json(manifest, hash);
  json["adapters"] = adapters_json(manifest, hash);
  json["seeds"] = manifest.seeds;
  json["outputs"] = std::move(outputs);
  json["timings"] = manifest.timings;
  json["peak_rss_bytes"] = base::peak_rss_bytes();
  json["device"] = manifest.device.empty() ? Json(nullptr) : Json(manifest.device);
  json["exit_code"] = manifest.exit_code;
  return json;
}

void write_manifest(const std::string& path, const Manifest& manifest, bool hash) {
  io::write_atomically(path, manifest_json(manifest, hash).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace atelier::cli
