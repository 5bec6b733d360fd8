#include "io/torch_checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/stop.h"
#include "io/mapped_file.h"
#include "io/pickle.h"
#include "io/zip_archive.h"

namespace atelier::io {
namespace {

using base::Error;
using base::ExitCode;
using base::in_quotes;
using Entries = std::map<std::string, std::span<const std::byte>>;

constexpr int kMaxDepth = 16;
constexpr std::size_t kMaxTensors = 1'000'000, kMaxVisits = 4'000'000, kMaxPickle = 256u << 20;

class TorchSource final : public WeightSource {
 public:
  explicit TorchSource(const std::string& path) : file_(MappedFile::open(path)) {
    files_.push_back({file_->path(), file_->bytes().size()});
    const Entries entries = read_zip(file_->bytes(), path);
    const std::string root = find_root(entries);
    check_byte_order(entries, root);
    const auto pickle_bytes = entries.at(root + "data.pkl");
    if (pickle_bytes.size() > kMaxPickle) fail("its pickle is too large");
    const Pickle pickle(pickle_bytes, path);
    const PickleValue* top = &pickle.root();
    if (const PickleValue* state = top->find("state_dict");
        state != nullptr && state->kind == PickleValue::Kind::dictionary)
      top = state;
    collect(*top, "", 0);
    for (auto& [name, entry] : tensors_) place(entry, entries, root);
  }

  bool has(const std::string& name) const override { return tensors_.contains(name); }
  const TensorInfo& info(const std::string& name) const override { return find(name).info; }
  const std::vector<WeightFile>& files() const override { return files_; }
  std::vector<std::string> names() const override { return order_; }
  std::vector<std::string> missing() const override { return missing_; }
  void note_used(const std::string& name) override { used_.insert(name); }
  void note_missing(const std::string& name) override {
    if (std::find(missing_.begin(), missing_.end(), name) == missing_.end()) missing_.push_back(name);
  }
  std::vector<std::string> unused() const override {
    std::vector<std::string> names;
    for (const std::string& name : order_)
      if (!used_.contains(name)) names.push_back(name);
    return names;
  }

  at::Tensor load(const std::string& name, c10::ScalarType dtype, c10::Device device) override {
    base::throw_if_stopped();
    if (!has(name)) note_missing(name);
    note_used(name);
    const Entry& entry = find(name);
    const auto options = at::TensorOptions(scalar_type(entry.info.dtype));
    if (entry.info.elements() == 0) return at::empty(entry.info.shape, options).to(device, dtype);
    if (entry.info.dtype == DType::BOOL) check_bool(entry);
    const auto file = file_;
    // A storage begins at a multiple of 64 bytes in torch's files; elsewhere it is copied first.
    const auto address = reinterpret_cast<std::uintptr_t>(entry.data);
    if (address % c10::elementSize(options.dtype().toScalarType()) != 0) return copied(entry).to(device, dtype);
    const at::Tensor view = at::from_blob(
        const_cast<std::byte*>(entry.data), entry.info.shape, entry.tensor.strides, [file](void*) {}, options);
    return view.contiguous().to(device, dtype);
  }

 private:
  struct Entry {
    TensorInfo info;
    PickledTensor tensor;
    const std::byte* data = nullptr;  ///< its first element
    std::int64_t span = 0;            ///< elements from the first to the last
  };

  [[noreturn]] void fail(const std::string& why) const {
    throw Error(ExitCode::data, fmt::format("{}: {}", file_->path(), why));
  }

  /// "archive/", whatever the folder in the archive is called.
  std::string find_root(const Entries& entries) const {
    for (const auto& [name, data] : entries)
      if (name.ends_with("/data.pkl") && std::count(name.begin(), name.end(), '/') == 1)
        return name.substr(0, name.size() - 8);
    fail("no checkpoint of torch.save: it has no data.pkl");
  }

  void check_byte_order(const Entries& entries, const std::string& root) const {
    const auto order = entries.find(root + "byteorder");
    if (order == entries.end()) return;
    const std::string_view text(reinterpret_cast<const char*>(order->second.data()), order->second.size());
    if (text != "little") fail("its numbers are not little-endian");
  }

  void collect(const PickleValue& value, const std::string& name, int depth) {
    if (depth > kMaxDepth || ++visits_ > kMaxVisits) fail("its content is nested too deeply");
    if (value.kind == PickleValue::Kind::tensor) {
      add(value.tensor, name);
      return;
    }
    if (value.kind != PickleValue::Kind::dictionary) return;
    for (const auto& [key, item] : value.entries)
      if (key->kind == PickleValue::Kind::text)
        collect(*item, name.empty() ? key->text : name + "." + key->text, depth + 1);
  }

  void add(const PickledTensor& tensor, const std::string& name) {
    if (order_.size() == kMaxTensors) fail("it has too many tensors");
    Entry entry;
    entry.tensor = tensor;
    entry.info.name = name;
    entry.info.dtype = tensor.dtype;
    entry.info.shape = tensor.shape;
    if (tensors_.insert_or_assign(name, std::move(entry)).second) order_.push_back(name);
  }

  /// Finds the tensor's bytes and checks that all of its elements lie in its storage.
  void place(Entry& entry, const Entries& entries, const std::string& root) {
    const PickledTensor& t = entry.tensor;
    const auto storage = entries.find(root + "data/" + t.storage);
    if (storage == entries.end()) fail(fmt::format("tensor {}: its storage is missing", in_quotes(entry.info.name)));
    const auto bits = static_cast<std::int64_t>(dtype_bits(t.dtype));
    const auto available = static_cast<std::int64_t>(storage->second.size()) * 8 / bits;
    std::optional<std::int64_t> last = t.offset, elements = 1, bytes;
    bool empty = false;
    for (std::size_t i = 0; i < t.shape.size(); ++i) {
      empty = empty || t.shape[i] == 0;
      if (elements) elements = base::checked_mul(*elements, std::max<std::int64_t>(t.shape[i], 1));
      const auto reach =
          t.shape[i] > 0 ? base::checked_mul(t.shape[i] - 1, t.strides[i]) : std::optional<std::int64_t>(0);
      if (last) last = reach ? base::checked_add(*last, *reach) : std::nullopt;
    }
    if (elements) bytes = base::checked_mul(*elements, bits / 8);
    if (!bytes || !last || (!empty && *last >= std::min(available, t.storage_elements)))
      fail(fmt::format("tensor {} reaches beyond its storage", in_quotes(entry.info.name)));
    // Strides of 0 would let a small file ask for any amount of memory.
    if (*elements > std::max<std::int64_t>(available, 1))
      fail(fmt::format("tensor {} has more elements than its storage", in_quotes(entry.info.name)));
    if (empty) return;
    entry.data = storage->second.data() + t.offset * (bits / 8);
    entry.span = *last - t.offset + 1;
    entry.info.begin = static_cast<std::uint64_t>(entry.data - file_->bytes().data());
    entry.info.end = entry.info.begin + static_cast<std::uint64_t>(*bytes);
  }

  at::Tensor copied(const Entry& entry) const {
    at::Tensor flat = at::empty({entry.span}, at::TensorOptions(scalar_type(entry.info.dtype)));
    std::copy_n(entry.data, static_cast<std::size_t>(flat.nbytes()), static_cast<std::byte*>(flat.mutable_data_ptr()));
    return flat.as_strided(entry.info.shape, entry.tensor.strides).contiguous();
  }

  void check_bool(const Entry& entry) const {
    const auto good = [](std::byte b) { return b <= std::byte{1}; };
    if (!std::all_of(entry.data, entry.data + entry.span, good))
      fail(fmt::format("tensor {} is of bools and holds a byte that is neither 0 nor 1", in_quotes(entry.info.name)));
  }

  const Entry& find(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found != tensors_.end()) return found->second;
    const std::string close = base::nearest(name, order_);
    throw Error(ExitCode::data, fmt::format("{}: tensor {} is missing", file_->path(), in_quotes(name)),
                close.empty() ? "" : fmt::format("the file has {}", in_quotes(close)));
  }

  std::shared_ptr<const MappedFile> file_;
  std::vector<WeightFile> files_;
  std::unordered_map<std::string, Entry> tensors_;
  std::vector<std::string> order_, missing_;
  std::unordered_set<std::string> used_;
  std::size_t visits_ = 0;
};

}  // namespace

bool is_torch_checkpoint(const std::string& path) {
  std::string ending = std::filesystem::path(path).extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return std::tolower(c); });
  return ending == ".ckpt" || ending == ".pt" || ending == ".pth" || ending == ".bin";
}

std::shared_ptr<WeightSource> open_torch_checkpoint(const std::string& path) {
  return std::make_shared<TorchSource>(path);
}

}  // namespace atelier::io
