#include "io/tensor_file.h"

#include <cstddef>
#include <vector>

#include <ATen/core/grad_mode.h>

#include "io/safetensors.h"
#include "io/weight_source.h"

namespace atelier::io {

void write_tensors(const std::string& path, const TensorMap& tensors,
                   const std::map<std::string, std::string>& metadata) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> held;  // what had to be copied to be written
  std::vector<TensorBytes> entries;
  for (const auto& [name, tensor] : tensors) {
    held.push_back(tensor.detach().to(at::kCPU).contiguous());
    const at::Tensor& here = held.back();
    entries.push_back(
        {{name, dtype_of(here.scalar_type()), here.sizes().vec()},
         {static_cast<const std::byte*>(here.const_data_ptr()), static_cast<std::size_t>(here.nbytes())}});
  }
  write_safetensors(path, entries, metadata);
}

TensorMap read_tensors(const std::string& path) {
  const auto source = WeightSource::open(path);
  TensorMap tensors;
  for (const std::string& name : source->names())
    tensors[name] = source->load(name, scalar_type(source->info(name).dtype), at::kCPU);
  return tensors;
}

}  // namespace atelier::io
