// Features of folders, and the files that keep them.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>

#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/sha256.h"
#include "io/file_system.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"
#include "io/weight_source.h"
#include "metrics/metrics.h"

namespace atelier::metrics {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;

constexpr const char* kFormat = "atelier-inception-features";
constexpr std::int64_t kBatch = 32;

io::TensorBytes bytes_of(const char* name, const at::Tensor& tensor) {
  return {{name, io::dtype_of(tensor.scalar_type()), tensor.sizes().vec()},
          {static_cast<const std::byte*>(tensor.const_data_ptr()), static_cast<std::size_t>(tensor.nbytes())}};
}

std::string listed(const std::vector<Unreadable>& files) {
  base::Json list = base::Json::array();
  for (const auto& [file, reason] : files) list.push_back({file, reason});
  return base::dump_json(list);
}

std::vector<Unreadable> from_list(const std::string& text, const std::string& what) {
  std::vector<Unreadable> files;
  const base::Json list = base::parse_json(text, what);
  for (const base::Json& entry : list) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_string())
      throw Error(ExitCode::data, fmt::format("{}: its list of unreadable files is damaged", what));
    files.emplace_back(entry[0].get<std::string>(), entry[1].get<std::string>());
  }
  return files;
}

/// `__metadata__` of a features file, its format checked.
std::map<std::string, std::string> metadata_of(const std::string& path) {
  const auto file = io::MappedFile::open(path);
  auto metadata = io::parse_safetensors(file->bytes(), path).metadata;
  if (metadata["format"] != kFormat)
    throw Error(ExitCode::data, fmt::format("{}: is no file of Inception features", path));
  return metadata;
}

void check_made_by(const std::string& path, const std::map<std::string, std::string>& metadata, const char* key,
                   const std::string& wanted) {
  const auto found = metadata.find(key);
  if (found == metadata.end() || found->second != wanted)
    throw Error(ExitCode::data,
                fmt::format("{}: was made with {} {}, not {}", path, key,
                            found == metadata.end() ? "(unknown)" : base::in_quotes(found->second), wanted));
}

std::int64_t count_of(const std::string& path, const std::string& text) {
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 2)
    throw Error(ExitCode::data, fmt::format("{}: has no number of pictures", path));
  return count;
}

at::Tensor load_finite(io::WeightSource& source, const std::string& path, const char* name, at::ScalarType type,
                       at::IntArrayRef shape) {
  const at::Tensor tensor = source.load(name, type, at::kCPU);
  if (tensor.sizes() != shape)
    throw Error(ExitCode::data, fmt::format("{}: \"{}\" has another shape than Inception's features", path, name));
  if (!tensor.isfinite().all().item<bool>())
    throw Error(ExitCode::data, fmt::format("{}: \"{}\" holds numbers that are not finite", path, name));
  return tensor.clone();  // not the mapped pages: the file may be replaced
}

std::string cache_file(const std::string& folder, const std::string& pictures, const std::string& weights,
                       InceptionVariant variant) {
  const std::string key =
      base::sha256_hex(fmt::format("{}\n{}\n{}\n{}", kFormat, pictures, weights, variant_name(variant)));
  return (fs::path(folder) / fmt::format("inception-{}.safetensors", key.substr(0, 32))).native();
}

/// From the cache, where it has them whole.
bool take_cached(const std::string& path, const Inception& network, InceptionVariant variant, InceptionFeatures& into) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return false;
  try {
    into = load_features(path, network.weights_sha256(), variant);
    return into.features.defined();
  } catch (const Error& error) {
    if (error.code() != ExitCode::data && error.code() != ExitCode::no_input) throw;
    base::log_warning(fmt::format("{}; it is made anew", error.what()));
    return false;
  }
}

}  // namespace

InceptionFeatures inception_features(const PictureSet& set, const Inception& network, InceptionVariant variant,
                                     const FolderOptions& options) {
  InceptionFeatures result;
  result.variant = variant;
  result.weights_sha256 = network.weights_sha256();
  result.unreadable = set.unreadable;
  std::vector<at::Tensor> parts;
  const auto unreadable = read_batches(
      set.files, options.batch_size > 0 ? options.batch_size : kBatch,
      [&](const image::Image& rgb) { return Inception::prepare(rgb, variant); },
      [&](const PictureBatch& batch) { parts.push_back(network.features(batch.pictures, variant)); }, options.progress);
  result.unreadable.insert(result.unreadable.end(), unreadable.begin(), unreadable.end());
  const std::size_t readable = set.files.size() - unreadable.size();
  if (readable < 2)
    throw Error(ExitCode::data, fmt::format("{} pictures can be read of {}: too few for a distance of distributions",
                                            readable, set.files.size() + set.unreadable.size()));
  result.features = at::cat(parts, 0);
  result.statistics = feature_statistics(result.features);
  return result;
}

void save_features(const std::string& path, const InceptionFeatures& f) {
  std::vector<at::Tensor> tensors{f.statistics.mean.contiguous(), f.statistics.covariance.contiguous()};
  std::vector<io::TensorBytes> entries{bytes_of("mean", tensors[0]), bytes_of("covariance", tensors[1])};
  if (f.features.defined()) {
    tensors.push_back(f.features.contiguous());
    entries.push_back(bytes_of("features", tensors.back()));
  }
  io::write_safetensors(path, entries,
                        {{"format", kFormat},
                         {"variant", variant_name(f.variant)},
                         {"weights_sha256", f.weights_sha256},
                         {"count", std::to_string(f.statistics.count)},
                         {"unreadable", listed(f.unreadable)}});
}

InceptionFeatures load_features(const std::string& path, const std::string& weights_sha256, InceptionVariant variant) {
  auto metadata = metadata_of(path);
  check_made_by(path, metadata, "variant", variant_name(variant));
  check_made_by(path, metadata, "weights_sha256", weights_sha256);
  InceptionFeatures result{{}, {}, variant, weights_sha256, {}};
  const auto source = io::WeightSource::open(path);
  constexpr std::int64_t d = Inception::dimension;
  result.statistics.count = count_of(path, metadata["count"]);
  result.statistics.mean = load_finite(*source, path, "mean", at::kDouble, {d});
  result.statistics.covariance = load_finite(*source, path, "covariance", at::kDouble, {d, d});
  if (source->has("features"))
    result.features = load_finite(*source, path, "features", at::kFloat, {result.statistics.count, d});
  if (const auto list = metadata.find("unreadable"); list != metadata.end())
    result.unreadable = from_list(list->second, path);
  return result;
}

std::string pictures_sha256(const PictureSet& set) {
  std::string all;
  for (const std::string& file : set.files)
    all += fmt::format("{}  {}\n", base::sha256_file(file), fs::path(file).filename().native());
  for (const auto& [file, reason] : set.unreadable) all += fmt::format("-  {}\n", fs::path(file).filename().native());
  return base::sha256_hex(all);
}

InceptionFeatures features_of(const std::string& source, const Inception& network, InceptionVariant variant,
                              const FolderOptions& options, const std::string& cache) {
  if (source.ends_with(".safetensors")) return load_features(source, network.weights_sha256(), variant);
  const PictureSet set = list_pictures(source);
  if (cache.empty()) return inception_features(set, network, variant, options);
  const std::string path = cache_file(cache, pictures_sha256(set), network.weights_sha256(), variant);
  InceptionFeatures result;
  if (take_cached(path, network, variant, result)) return result;
  result = inception_features(set, network, variant, options);
  try {
    io::file_system().create_folders(cache);
    save_features(path, result);
  } catch (const Error& error) {
    if (error.code() != ExitCode::cannot_create && error.code() != ExitCode::io) throw;
    base::log_warning(fmt::format("the features are not kept: {}", error.what()));
  }
  return result;
}

}  // namespace atelier::metrics
