#pragma once

#include <map>
#include <string>
#include <vector>

#include "io/weight_source.h"

namespace atelier::test {

/// A checkpoint in memory.
class TensorSource : public io::WeightSource {
 public:
  std::map<std::string, at::Tensor> tensors;

  bool has(const std::string& name) const override { return tensors.contains(name); }
  const io::TensorInfo& info(const std::string& name) const override {
    auto& info = infos_[name];
    info = {
        .name = name, .dtype = io::dtype_of(tensors.at(name).scalar_type()), .shape = tensors.at(name).sizes().vec()};
    return info;
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> result;
    for (const auto& [name, tensor] : tensors) result.push_back(name);
    return result;
  }
  const std::vector<io::WeightFile>& files() const override { return files_; }
  at::Tensor load(const std::string& name, c10::ScalarType dtype, c10::Device device) override {
    return tensors.at(name).to(device, dtype);
  }
  void note_missing(const std::string&) override {}
  void note_used(const std::string&) override {}
  std::vector<std::string> missing() const override { return {}; }
  std::vector<std::string> unused() const override { return {}; }

 private:
  mutable std::map<std::string, io::TensorInfo> infos_;
  std::vector<io::WeightFile> files_{{"memory", 0}};
};

}  // namespace atelier::test
