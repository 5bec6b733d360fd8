#include "io/gguf_source.h"

#include <algorithm>
#include <map>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/TensorOptions.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/stop.h"
#include "io/gguf_blocks.h"

namespace atelier::io {
namespace {

using base::Error;
using base::ExitCode;
using base::in_quotes;

/// Numbers that are decoded before they are rounded: they stay in the nearest memory.
constexpr std::int64_t piece_elements = 1 << 14;
/// Fewer than this are not worth a thread.
constexpr std::int64_t least_share = 1 << 20;

DType dtype_of_blocks(std::uint32_t type) { return type == 0 ? DType::F32 : type == 1 ? DType::F16 : DType::BF16; }

template <typename T>
void round_to(const float* from, std::int64_t count, float less, T* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<T>(from[i] - less);
}

class GgufSource final : public WeightSource {
 public:
  GgufSource(std::shared_ptr<const GgufFile> file, const std::function<GgufName(const std::string&)>& name_of)
      : file_(std::move(file)), files_{{file_->file->path(), file_->file->bytes().size()}} {
    std::vector<const GgufTensor*> tensors;
    for (const GgufTensor& tensor : file_->header.tensors) tensors.push_back(&tensor);
    std::sort(tensors.begin(), tensors.end(), [](auto* a, auto* b) { return a->begin < b->begin; });
    for (const GgufTensor* tensor : tensors) {
      const GgufName name = name_of(tensor->name);
      const TensorInfo info{name.name, dtype_of_blocks(tensor->type), tensor->shape, tensor->begin, tensor->end};
      const auto [place, fresh] = entries_.try_emplace(name.name, Entry{tensor, info, name.less, false});
      if (!fresh)
        throw Error(ExitCode::data, fmt::format("{}: two tensors are {}", files_[0].path, in_quotes(name.name)));
      order_.push_back(name.name);
    }
  }

  bool has(const std::string& name) const override { return entries_.contains(name); }
  const TensorInfo& info(const std::string& name) const override { return find(name).info; }
  std::vector<std::string> names() const override { return order_; }
  const std::vector<WeightFile>& files() const override { return files_; }
  std::vector<std::string> missing() const override { return missing_; }

  void release(const std::string& name) override {
    if (const auto place = entries_.find(name); place != entries_.end())
      file_->file->release(place->second.info.begin, place->second.info.end);
  }
  void note_used(const std::string& name) override {
    if (const auto place = entries_.find(name); place != entries_.end()) place->second.used = true;
  }
  void note_missing(const std::string& name) override {
    if (std::find(missing_.begin(), missing_.end(), name) == missing_.end()) missing_.push_back(name);
  }
  std::vector<std::string> unused() const override {
    std::vector<std::string> result;
    for (const std::string& name : order_)
      if (!entries_.at(name).used) result.push_back(name);
    return result;
  }

  at::Tensor load(const std::string& name, c10::ScalarType dtype, c10::Device device) override {
    base::throw_if_stopped();
    if (!has(name)) note_missing(name);
    note_used(name);
    const Entry& entry = find(name);
    const GgufBlocks& blocks = *find_gguf_blocks(entry.tensor->type);
    at::Tensor found;
    if (blocks.elements == 1 && entry.less == 0) {
      found = mapped(entry);
    } else if (dtype == c10::ScalarType::BFloat16) {
      found = decoded<c10::BFloat16>(entry, blocks, dtype);
    } else {
      found = decoded<float>(entry, blocks, c10::ScalarType::Float);
    }
    if (found.scalar_type() == dtype && device.is_cpu()) return found;
    return found.to(at::TensorOptions().dtype(dtype).device(device));
  }

 private:
  struct Entry {
    const GgufTensor* tensor;
    TensorInfo info;
    float less;
    bool used;
  };

  const Entry& find(const std::string& name) const {
    const auto place = entries_.find(name);
    if (place != entries_.end()) return place->second;
    const std::string close = base::nearest(name, order_);
    throw Error(ExitCode::data, fmt::format("{}: tensor {} is missing", files_[0].path, in_quotes(name)),
                close.empty() ? "" : fmt::format("the file has {}", in_quotes(close)));
  }

  const std::byte* bytes_of(const Entry& entry) const { return file_->file->bytes().data() + entry.tensor->begin; }

  /// On the mapped pages. A file with a small alignment is copied.
  at::Tensor mapped(const Entry& entry) const {
    const auto type = scalar_type(entry.info.dtype);
    const auto options = at::TensorOptions().dtype(type);
    auto* const data = const_cast<std::byte*>(bytes_of(entry));
    if (reinterpret_cast<std::uintptr_t>(data) % c10::elementSize(type) != 0) {
      at::Tensor copy = at::empty(entry.info.shape, options);
      std::copy_n(data, entry.info.bytes(), static_cast<std::byte*>(copy.mutable_data_ptr()));
      return copy;
    }
    return at::from_blob(data, entry.info.shape, [file = file_](void*) {}, options);
  }

  template <typename T>
  at::Tensor decoded(const Entry& entry, const GgufBlocks& blocks, c10::ScalarType dtype) const {
    at::Tensor result = at::empty(entry.info.shape, at::TensorOptions().dtype(dtype));
    T* const to = result.mutable_data_ptr<T>();
    const std::int64_t count = entry.tensor->elements() / blocks.elements, piece = piece_elements / blocks.elements;
    const auto share = [&](std::int64_t first, std::int64_t last) {
      std::vector<float> numbers(static_cast<std::size_t>(piece * blocks.elements));
      for (std::int64_t i = first; i < last; i += piece) {
        const std::int64_t n = std::min(piece, last - i);
        blocks.decode(bytes_of(entry) + i * blocks.bytes, n, numbers.data());
        round_to(numbers.data(), n * blocks.elements, entry.less, to + i * blocks.elements);
      }
    };
    const std::int64_t threads =
        std::clamp<std::int64_t>(entry.tensor->elements() / least_share, 1, std::max(1, at::get_num_threads()));
    std::vector<std::jthread> others;  // they end before this does
    for (std::int64_t t = 1; t < threads; ++t)
      others.emplace_back(share, count * t / threads, count * (t + 1) / threads);
    share(0, count / threads);
    others.clear();
    return result;
  }

  std::shared_ptr<const GgufFile> file_;
  std::vector<WeightFile> files_;
  std::unordered_map<std::string, Entry> entries_;
  std::vector<std::string> order_;  ///< by offset
  std::vector<std::string> missing_;
};

}  // namespace

std::shared_ptr<WeightSource> open_gguf_source(std::shared_ptr<const GgufFile> file,
                                               const std::function<GgufName(const std::string&)>& name_of) {
  return std::make_shared<GgufSource>(std::move(file), name_of);
}

}  // namespace atelier::io
