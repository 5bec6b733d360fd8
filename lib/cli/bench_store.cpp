#include "cli/bench_store.h"

#include <filesystem>

#include "base/error.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "image/write.h"
#include "io/file_system.h"

namespace atelier::cli {

namespace fs = std::filesystem;
using base::Json;

BenchStore::BenchStore(std::string folder, bool fresh) : folder_(std::move(folder)), fresh_(fresh) {
  for (const char* part : {"pictures", "jobs", "figures"}) io::file_system().create_folders(folder_ + "/" + part);
}

std::string BenchStore::key(const Json& description) { return base::sha256_hex(description.dump()).substr(0, 32); }

/// A record that is there but cannot be read counts as none: what it was of is made again.
std::optional<Json> BenchStore::read(const std::string& path) const {
  std::error_code failed;
  if (!fs::is_regular_file(path, failed)) return std::nullopt;
  try {
    Json record = base::read_json_file(path, 16u << 20);
    return record.is_object() ? std::optional(std::move(record)) : std::nullopt;
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error&) {
    return std::nullopt;
  }
}

std::optional<Json> BenchStore::job(const std::string& key) const {
  if (fresh_ && !made_.contains(key)) return std::nullopt;
  auto record = read(folder_ + "/jobs/" + key + ".json");
  if (!record || !record->contains("picture") || !record->contains("sha256")) return std::nullopt;
  std::error_code failed;
  const std::string path = picture_path(*record);
  if (!fs::is_regular_file(path, failed) || base::sha256_file(path) != (*record)["sha256"]) return std::nullopt;
  return record;
}

Json BenchStore::put_job(const std::string& key, const image::Image& picture, const image::Metadata& text,
                         Json record) {
  record["picture"] = "pictures/" + key + ".png";
  record["sha256"] = base::sha256_hex(image::write_image(picture_path(record), picture, text));
  io::write_atomically(folder_ + "/jobs/" + key + ".json", base::dump_json(record) + "\n");
  made_.insert(key);
  return record;
}

std::optional<Json> BenchStore::figure(const std::string& key) const {
  return fresh_ ? std::nullopt : read(folder_ + "/figures/" + key + ".json");
}

void BenchStore::put_figure(const std::string& key, const Json& record) {
  io::write_atomically(folder_ + "/figures/" + key + ".json", base::dump_json(record) + "\n");
}

std::string BenchStore::picture_path(const Json& record) const {
  return folder_ + "/" + record["picture"].get<std::string>();
}

}  // namespace atelier::cli
