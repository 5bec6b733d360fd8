#pragma once

#include <map>
#include <string>

#include <ATen/core/Tensor.h>

namespace atelier::test {

/// A tiny SD 1 of the smallest sizes that the original layout can say (32 groups, 8 heads, levels of two blocks), as a folder
/// and as single files of the same weights.
class SingleFileModel {
 public:
  SingleFileModel();

  const std::map<std::string, at::Tensor>& original() const { return original_; }  ///< names of the original layout
  /// The diffusers folder, its tokenizer tests/data/clip_text/small.
  void write_folder(const std::string& path) const;

 private:
  std::map<std::string, std::map<std::string, at::Tensor>> parts_;  ///< by component, diffusers' names
  std::map<std::string, at::Tensor> original_;
};

/// A torch.save file of these, as a state_dict.
void write_checkpoint(const std::string& path, const std::map<std::string, at::Tensor>& tensors);

std::string small_tokenizer();

}  // namespace atelier::test
