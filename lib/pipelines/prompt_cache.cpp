#include "pipelines/prompt_cache.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>

#include <fcntl.h>
#include <sys/stat.h>

#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "io/file_system.h"
#include "io/mapped_file.h"
#include "io/weight_source.h"

namespace atelier::pipelines {
namespace {

namespace fs = std::filesystem;
using base::Error;
using text::TokenId;

constexpr const char* kFormat = "atelier-prompt-cache-1";

std::string_view view(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool is_hex(std::string_view text, std::size_t length) {
  return text.size() == length && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// Whether a file bears the name of an entry: DIR/<model>/<key>.safetensors. What else lies in the folder is not ours to delete.
bool is_entry(const std::filesystem::path& path) {
  return path.extension() == ".safetensors" && is_hex(path.stem().string(), 64) &&
         is_hex(path.parent_path().filename().string(), 32);
}

/// Hashing 5 GB at every start would cost more than the cache saves. The time of change guards against edits in place that the
/// samples miss.
std::string fingerprint(const std::string& path) {
  constexpr std::size_t samples = 256, page = 4096, head = 1u << 20;
  struct stat facts {};
  if (stat(path.c_str(), &facts) != 0) return path;
  const auto file = io::MappedFile::open(path);
  const std::string_view bytes = view(file->bytes());
  std::string text = fmt::format("{} {}.{:09} {}", bytes.size(), facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec,
                                 base::sha256_hex(bytes.substr(0, head)));
  std::string sampled;
  for (std::size_t i = 0; i < samples && bytes.size() > page; ++i)
    sampled += bytes.substr((bytes.size() - page) / (samples - 1) * i, page);
  return text + " " + base::sha256_hex(sampled);
}

/// The tensors of one block, layer by layer.
std::vector<nn::CachePart> parts_of(const TextModel& model) {
  const auto& c = model.network->config();
  std::vector<nn::CachePart> all;
  for (std::size_t layer = 0; layer < c.sliding.size(); ++layer)
    for (nn::CachePart part : nn::cache_parts(model.network->cache_format(), model.network->dtype(), c.head_dim)) {
      part.name = fmt::format("layers.{}.{}", layer, part.name);
      all.push_back(std::move(part));
    }
  return all;
}

std::span<const std::byte> bytes_of(const at::Tensor& t) {
  return {static_cast<const std::byte*>(t.const_data_ptr()), static_cast<std::size_t>(t.nbytes())};
}

std::string digest(const std::vector<at::Tensor>& tensors) {
  std::string all;
  for (const at::Tensor& t : tensors) all += base::sha256_hex(view(bytes_of(t)));
  return base::sha256_hex(all);
}

}  // namespace

/// Fills the cache from the folder, and the folder with what it lacked.
class PromptCache::State final : public PromptState {
 public:
  explicit State(PromptCache& cache) : cache_(cache) {}

  Entered enter(const TextModel& model, std::span<const TokenId> tokens, nn::KvCache& cache) override {
    const std::vector<Key> keys = cache_.keys_of(tokens);
    const auto count = static_cast<std::int64_t>(tokens.size());
    // The last token is always computed: the reply begins with its logits.
    const std::vector<Key> usable(keys.begin(), keys.begin() + std::min<std::int64_t>(std::ssize(keys), (count - 1) / block));
    cache = model.network->new_cache();
    const std::size_t known = cache_.load(model, usable, cache);
    const bool record = cache_.writable_ && known < keys.size();
    if (record)
      for (auto& layer : cache.layers) layer.start_recording();
    Entered entered;
    const std::int64_t begin = static_cast<std::int64_t>(known) * block;
    entered.logits = prefill_logits(model, tokens.subspan(begin), cache, block);
    entered.computed = count - begin;
    if (record) cache_.store(model, cache, keys, known);
    cache_.note_use(keys, keys.size());
    return entered;
  }

 private:
  PromptCache& cache_;
};

PromptCache::PromptCache(std::string folder, std::uint64_t limit, const TextModelFiles& files,
                         const std::vector<std::string>& adapters)
    : folder_(std::move(folder)), limit_(limit) {
  std::string all = fmt::format("{}\n{}\n{}\n{}\n", kFormat, base::dump_json(files.config_json),
                                c10::toString(files.dtype), files.device.str());
  if (files.quantisation) all += fmt::format("{} bits, groups of {}\n", files.quantisation.bits, files.quantisation.group);
  if (files.cache == nn::CacheFormat::int8) all += "int8\n";
  for (const auto& file : files.weights->files()) all += fingerprint(file.path) + "\n";
  for (const std::string& adapter : adapters) all += adapter + "\n";
  identity_ = base::sha256_hex(all).substr(0, 32);
  try {
    io::file_system().create_folders(folder_ + "/" + identity_);
    shrink();  // the limit may be a smaller one than before
  } catch (const Error& error) {
    stop_writing(error.what());
  }
}

std::shared_ptr<PromptState> PromptCache::state() { return std::make_shared<State>(*this); }

std::vector<PromptCache::Key> PromptCache::keys_of(std::span<const TokenId> tokens) const {
  std::vector<Key> keys;
  Key parent = identity_;
  for (std::size_t i = 0; i + block <= tokens.size(); i += block) {
    std::string content = parent;
    for (const TokenId id : tokens.subspan(i, block))
      for (int shift = 0; shift < 32; shift += 8) content += static_cast<char>(static_cast<std::uint32_t>(id) >> shift & 0xFF);
    parent = base::sha256_hex(content);
    keys.push_back(parent);
  }
  return keys;
}

std::string PromptCache::path_of(const Key& key) const { return folder_ + "/" + identity_ + "/" + key + ".safetensors"; }

std::vector<at::Tensor> PromptCache::read_block(const TextModel& model, const Key& key) {
  const std::string path = path_of(key);
  std::error_code failed;
  if (!fs::exists(path, failed)) return {};
  try {
    const std::int64_t heads = model.network->config().kv_heads;
    const auto file = io::MappedFile::open(path);
    const auto header = io::parse_safetensors(file->bytes(), path);
    const auto source = io::WeightSource::open(path);
    std::vector<at::Tensor> tensors;
    for (const nn::CachePart& part : parts_of(model)) {
      const auto& info = source->info(part.name);
      if (info.shape != std::vector<std::int64_t>{heads, block, part.width} || info.dtype != io::dtype_of(part.dtype))
        throw Error(base::ExitCode::data, fmt::format("{}: {} does not fit the model", path, info.name));
      tensors.push_back(source->load(info.name, part.dtype, at::kCPU));
    }
    const auto found = header.metadata.find("sha256");
    if (found == header.metadata.end() || found->second != digest(tensors))
      throw Error(base::ExitCode::data, fmt::format("{}: the data is not what was written", path));
    return tensors;
  } catch (const base::Stopped&) {
    throw;
  } catch (const Error& error) {
    if (!fs::exists(path, failed)) return {};  // another process made room
    base::log_warning(fmt::format("prompt cache: a damaged entry is ignored: {}", error.what()));
    return {};
  }
}

std::size_t PromptCache::load(const TextModel& model, const std::vector<Key>& keys, nn::KvCache& cache) {
  const std::size_t layers = cache.layers.size();
  std::vector<std::vector<at::Tensor>> blocks;  // by tensor, then by block
  std::size_t found = 0;
  for (; found < keys.size(); ++found) {
    auto tensors = read_block(model, keys[found]);
    if (tensors.empty()) break;
    blocks.resize(tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      blocks[i].push_back(std::move(tensors[i]));
      // Of a sliding layer only the blocks that its window reaches are wanted.
      const std::int64_t window = cache.layers[i * layers / tensors.size()].window();
      if (window > 0 && std::ssize(blocks[i]) * block >= window + block) blocks[i].erase(blocks[i].begin());
    }
  }
  if (found == 0) return 0;
  const std::int64_t positions = static_cast<std::int64_t>(found) * block;
  const std::size_t parts = blocks.size() / layers;
  for (std::size_t i = 0; i < layers; ++i) {
    nn::LayerCache::Parts joined;
    for (std::size_t part = 0; part < parts; ++part)
      joined.push_back(at::cat(blocks[i * parts + part], 1).to(model.network->device()));
    cache.layers[i].restore(positions, joined);
  }
  cache.positions = positions;
  return found;
}

void PromptCache::store(const TextModel& model, nn::KvCache& recorded, const std::vector<Key>& keys,
                        std::size_t known) {
  std::vector<at::Tensor> all;
  for (auto& layer : recorded.layers)
    for (const at::Tensor& part : layer.stop_recording()) all.push_back(part.cpu());
  try {
    for (std::size_t i = known; i < keys.size(); ++i) {
      std::vector<at::Tensor> tensors;
      for (const at::Tensor& t : all)
        tensors.push_back(t.narrow(1, static_cast<std::int64_t>(i - known) * block, block).contiguous());
      write_block(model, keys[i], tensors);
    }
    shrink();
  } catch (const base::Stopped&) {
    throw;
  } catch (const Error& error) {
    stop_writing(error.what());
  }
}

void PromptCache::write_block(const TextModel& model, const Key& key, const std::vector<at::Tensor>& tensors) {
  const auto parts = parts_of(model);
  std::vector<io::TensorBytes> list;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    io::TensorInfo info;
    info.name = parts[i].name;
    info.dtype = io::dtype_of(tensors[i].scalar_type());
    info.shape = tensors[i].sizes().vec();
    list.push_back({info, bytes_of(tensors[i])});
  }
  io::write_safetensors(path_of(key), list, {{"format", kFormat}, {"key", key}, {"sha256", digest(tensors)}});
}

/// Times of change say when a block was last used. The first blocks of a chain get the latest ones: without them the others are
/// of no use.
void PromptCache::note_use(const std::vector<Key>& keys, std::size_t count) const {
  for (std::size_t i = count; i-- > 0;) utimensat(AT_FDCWD, path_of(keys[i]).c_str(), nullptr, 0);
}

void PromptCache::shrink() const {
  struct Entry {
    fs::path path;
    fs::file_time_type used;
    std::uint64_t bytes;
  };
  std::vector<Entry> entries;
  std::uint64_t total = 0;
  std::error_code failed;
  for (fs::recursive_directory_iterator it(folder_, failed), end; !failed && it != end; it.increment(failed)) {
    std::error_code gone;  // other processes delete too
    if (!is_entry(it->path()) || !it->is_regular_file(gone)) continue;
    const Entry entry{it->path(), it->last_write_time(gone), it->file_size(gone)};
    if (gone) continue;
    total += entry.bytes;
    entries.push_back(entry);
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.used < b.used; });
  for (const Entry& entry : entries) {
    if (total <= limit_) return;
    fs::remove(entry.path, failed);
    total -= entry.bytes;
  }
}

void PromptCache::stop_writing(const std::string& why) {
  writable_ = false;
  if (!std::exchange(warned_, true)) base::log_warning(fmt::format("prompt cache: nothing is kept: {}", why));
}

}  // namespace atelier::pipelines
