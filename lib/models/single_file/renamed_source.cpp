#include "models/single_file/renamed_source.h"

#include <map>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"

namespace atelier::models::single_file {
namespace {

class RenamedSource final : public io::WeightSource {
 public:
  RenamedSource(std::shared_ptr<io::WeightSource> file, std::string prefix)
      : file_(std::move(file)), prefix_(std::move(prefix)) {}

  /// Adds a tensor where the file has it.
  void add(const std::string& name, Stored stored) {
    stored.name = prefix_ + stored.name;
    if (!file_->has(stored.name)) return;
    io::TensorInfo info = file_->info(stored.name);
    auto& shape = info.shape;
    // A shape that the change does not fit is left as it is: the model refuses it by name.
    if (stored.change == Change::third_of_rows && !shape.empty() && shape[0] % 3 == 0) {
      shape[0] /= 3;
    } else if (stored.change == Change::transpose && shape.size() == 2) {
      std::swap(shape[0], shape[1]);
    } else if (stored.change == Change::flatten && shape.size() == 4 && shape[2] == 1 && shape[3] == 1) {
      shape.resize(2);
    } else {
      stored.change = Change::none;
    }
    info.name = name;
    entries_.emplace(name, Entry{std::move(stored), std::move(info)});
  }

  bool has(const std::string& name) const override { return entries_.contains(name); }
  const io::TensorInfo& info(const std::string& name) const override { return find(name).info; }
  const std::vector<io::WeightFile>& files() const override { return file_->files(); }

  std::vector<std::string> names() const override {
    std::vector<std::string> result;
    for (const auto& [name, entry] : entries_) result.push_back(name);
    return result;
  }

  at::Tensor load(const std::string& name, c10::ScalarType dtype, c10::Device device) override {
    if (!has(name)) note_missing(name);
    const Entry& entry = find(name);
    const at::Tensor stored = file_->load(entry.stored.name, dtype, device);
    switch (entry.stored.change) {
      case Change::third_of_rows: {
        const std::int64_t rows = stored.size(0) / 3;
        return stored.narrow(0, entry.stored.index * rows, rows);
      }
      case Change::transpose: return stored.t().contiguous();
      case Change::flatten: return stored.view({stored.size(0), stored.size(1)});
      case Change::none: break;
    }
    return stored;
  }

  void note_missing(const std::string& name) override { missing_.push_back(name); }
  void release(const std::string& name) override {
    if (const auto place = entries_.find(name); place != entries_.end()) file_->release(place->second.stored.name);
  }
  void note_used(const std::string& name) override {
    if (const auto place = entries_.find(name); place != entries_.end()) file_->note_used(place->second.stored.name);
  }
  std::vector<std::string> missing() const override { return missing_; }
  std::vector<std::string> unused() const override {
    std::vector<std::string> result;
    for (const auto& name : file_->unused())
      if (name.starts_with(prefix_)) result.push_back(name);
    return result;
  }

 private:
  struct Entry {
    Stored stored;
    io::TensorInfo info;
  };

  const Entry& find(const std::string& name) const {
    const auto place = entries_.find(name);
    if (place != entries_.end()) return place->second;
    throw base::Error(
        base::ExitCode::data,
        fmt::format("{}: the tensor that stands for {} is missing",
                    file_->files().empty() ? "checkpoint" : file_->files().front().path, base::in_quotes(name)));
  }

  std::shared_ptr<io::WeightSource> file_;
  std::string prefix_;
  std::map<std::string, Entry> entries_;
  std::vector<std::string> missing_;
};

}  // namespace

std::shared_ptr<io::WeightSource> renamed_source(std::shared_ptr<io::WeightSource> file, const std::string& prefix,
                                                 const std::vector<std::string>& names,
                                                 const std::function<Stored(const std::string&)>& locate) {
  auto source = std::make_shared<RenamedSource>(std::move(file), prefix);
  for (const auto& name : names)
    if (Stored stored = locate(name); !stored.name.empty()) source->add(name, std::move(stored));
  return source;
}

}  // namespace atelier::models::single_file
