#include "io/weight_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/TensorOptions.h>
#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/stop.h"
#include "io/mapped_file.h"
#include "io/shards.h"

namespace atelier::io {
namespace {

using base::Error;
using base::ExitCode;
using base::in_quotes;

struct TypePair {
  DType dtype;
  c10::ScalarType type;
};

// What both sides know. LibTorch packs two F4 values into one element, so shapes would differ; it has no F6.
constexpr std::array<TypePair, 19> kTypes{{
    {DType::BOOL, c10::ScalarType::Bool},
    {DType::U8, c10::ScalarType::Byte},
    {DType::I8, c10::ScalarType::Char},
    {DType::F8_E5M2, c10::ScalarType::Float8_e5m2},
    {DType::F8_E4M3, c10::ScalarType::Float8_e4m3fn},
    {DType::F8_E8M0, c10::ScalarType::Float8_e8m0fnu},
    {DType::F8_E4M3FNUZ, c10::ScalarType::Float8_e4m3fnuz},
    {DType::F8_E5M2FNUZ, c10::ScalarType::Float8_e5m2fnuz},
    {DType::I16, c10::ScalarType::Short},
    {DType::U16, c10::ScalarType::UInt16},
    {DType::F16, c10::ScalarType::Half},
    {DType::BF16, c10::ScalarType::BFloat16},
    {DType::I32, c10::ScalarType::Int},
    {DType::U32, c10::ScalarType::UInt32},
    {DType::F32, c10::ScalarType::Float},
    {DType::C64, c10::ScalarType::ComplexFloat},
    {DType::F64, c10::ScalarType::Double},
    {DType::I64, c10::ScalarType::Long},
    {DType::U64, c10::ScalarType::UInt64},
}};

class SafetensorsSource final : public WeightSource {
 public:
  explicit SafetensorsSource(const CheckpointFiles& checkpoint) {
    for (std::size_t i = 0; i < checkpoint.paths.size(); ++i) {
      base::throw_if_stopped();
      add_file(checkpoint, i);
    }
    for (const auto& [tensor, file] : checkpoint.owner) {
      if (entries_.find(tensor) == entries_.end()) {
        throw Error(ExitCode::data, fmt::format("{}: tensor {}, which the index places here, is not in this file",
                                                checkpoint.paths[file], in_quotes(tensor)));
      }
    }
  }

  bool has(const std::string& name) const override { return entries_.contains(name); }
  const TensorInfo& info(const std::string& name) const override { return find(name).info; }
  const std::vector<WeightFile>& files() const override { return files_; }
  std::vector<std::string> missing() const override { return missing_; }

  void release(const std::string& name) override {
    const auto place = entries_.find(name);
    if (place != entries_.end()) mapped_[place->second.file]->release(place->second.info.begin, place->second.info.end);
  }

  void note_used(const std::string& name) override {
    if (const auto place = entries_.find(name); place != entries_.end()) place->second.used = true;
  }

  void note_missing(const std::string& name) override {
    if (missing_set_.insert(name).second) missing_.push_back(name);
  }

  std::vector<std::string> names() const override {
    return select([](const Entry&) { return true; });
  }

  std::vector<std::string> unused() const override {
    return select([](const Entry& entry) { return !entry.used; });
  }

  at::Tensor load(const std::string& name, c10::ScalarType dtype, c10::Device device) override {
    base::throw_if_stopped();
    if (!has(name)) note_missing(name);
    note_used(name);
    const Entry& entry = find(name);
    const at::Tensor stored = read(entry);
    if (stored.is_complex() && !c10::isComplexType(dtype)) {
      throw Error(ExitCode::data, fmt::format("{}: tensor {} holds complex numbers", path(entry), in_quotes(name)));
    }
    if (stored.scalar_type() == dtype && device.is_cpu()) return stored;
    return stored.to(at::TensorOptions().dtype(dtype).device(device));
  }

 private:
  struct Entry {
    TensorInfo info;
    std::size_t file = 0;
    bool used = false;
  };

  void add_file(const CheckpointFiles& checkpoint, std::size_t place) {
    std::shared_ptr<const MappedFile> file = MappedFile::open(checkpoint.paths[place]);
    SafetensorsHeader header = parse_safetensors(file->bytes(), file->path());
    for (TensorInfo& tensor : header.tensors) {
      const auto owner = checkpoint.owner.find(tensor.name);
      if (owner != checkpoint.owner.end() && owner->second != place) continue;  // another shard's copy counts
      const auto [entry, fresh] = entries_.try_emplace(tensor.name);
      if (!fresh) {
        throw Error(ExitCode::data, fmt::format("{}: tensor {} is in {} as well, and the index names neither",
                                                file->path(), in_quotes(tensor.name), files_[entry->second.file].path));
      }
      entry->second = Entry{std::move(tensor), place, false};
      order_.push_back(&entry->first);
    }
    files_.push_back({file->path(), file->bytes().size()});
    mapped_.push_back(std::move(file));
  }

  const Entry& find(const std::string& name) const {
    const auto place = entries_.find(name);
    if (place != entries_.end()) return place->second;
    const std::string close = base::nearest(name, names());
    throw Error(ExitCode::data, fmt::format("{}: tensor {} is missing", files_.front().path, in_quotes(name)),
                close.empty() ? "" : fmt::format("the file has {}", in_quotes(close)));
  }

  const std::string& path(const Entry& entry) const { return files_[entry.file].path; }

  template <typename Predicate>
  std::vector<std::string> select(Predicate wanted) const {
    std::vector<std::string> result;
    for (const std::string* name : order_) {
      if (wanted(entries_.at(*name))) result.push_back(*name);
    }
    return result;
  }

  // The tensor as it is stored, on the mapped pages where its address suits its type.
  at::Tensor read(const Entry& entry) const {
    const TensorInfo& info = entry.info;
    const c10::ScalarType type = type_of(entry);
    const auto options = at::TensorOptions().dtype(type);
    if (info.bytes() == 0) return empty(entry, options);
    const std::shared_ptr<const MappedFile> file = mapped_[entry.file];
    const std::byte* data = file->bytes().data() + info.begin;
    if (info.dtype == DType::BOOL) check_bool(entry, data);
    if (reinterpret_cast<std::uintptr_t>(data) % c10::elementSize(type) == 0) {
      return at::from_blob(
          const_cast<std::byte*>(data), info.shape, [file](void*) {}, options);
    }
    at::Tensor copy = at::empty(info.shape, options);
    std::memcpy(copy.mutable_data_ptr(), data, info.bytes());
    return copy;
  }

  // A shape with a 0 in it passes every check of size, whatever its other numbers; strides have to fit all the same.
  at::Tensor empty(const Entry& entry, const at::TensorOptions& options) const {
    std::optional<std::int64_t> stride = 8;
    for (const std::int64_t size : entry.info.shape) {
      if (stride) stride = base::checked_mul(*stride, std::max<std::int64_t>(size, 1));
    }
    if (stride) return at::empty(entry.info.shape, options);
    throw Error(ExitCode::data, fmt::format("{}: tensor {} has a shape that no memory could hold", path(entry),
                                            in_quotes(entry.info.name)));
  }

  c10::ScalarType type_of(const Entry& entry) const {
    try {
      return scalar_type(entry.info.dtype);
    } catch (const Error& error) {
      throw Error(ExitCode::data,
                  fmt::format("{}: tensor {}: {}", path(entry), in_quotes(entry.info.name), error.what()));
    }
  }

  // A bool with any other bits is undefined behaviour in every kernel that reads it.
  void check_bool(const Entry& entry, const std::byte* data) const {
    if (std::all_of(data, data + entry.info.bytes(), [](std::byte b) { return b <= std::byte{1}; })) return;
    throw Error(ExitCode::data, fmt::format("{}: tensor {} is BOOL and holds a byte that is neither 0 nor 1",
                                            path(entry), in_quotes(entry.info.name)));
  }

  std::unordered_map<std::string, Entry> entries_;
  std::vector<const std::string*> order_;  // keys of entries_, by file and offset
  std::vector<WeightFile> files_;
  std::vector<std::shared_ptr<const MappedFile>> mapped_;
  std::vector<std::string> missing_;
  std::unordered_set<std::string> missing_set_;
};

}  // namespace

std::shared_ptr<WeightSource> WeightSource::open(const std::string& path, const std::string& stem) {
  return std::make_shared<SafetensorsSource>(find_checkpoint(path, stem));
}

c10::ScalarType scalar_type(DType dtype) {
  for (const TypePair& pair : kTypes) {
    if (pair.dtype == dtype) return pair.type;
  }
  throw Error(ExitCode::data, fmt::format("dtype {} cannot be loaded: LibTorch has no such type", dtype_name(dtype)));
}

DType dtype_of(c10::ScalarType type) {
  for (const TypePair& pair : kTypes) {
    if (pair.type == type) return pair.dtype;
  }
  throw Error(ExitCode::data, fmt::format("type {} cannot be stored in a safetensors file", c10::toString(type)));
}

}  // namespace atelier::io
