#include "nn/quantised_loading.h"

#include <map>
#include <memory>
#include <numeric>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/parameters.h"

namespace atelier::nn {
namespace {

constexpr const char* suffixes[] = {GroupQuantisedWeight::codes_suffix, GroupQuantisedWeight::scales_suffix,
                                    GroupQuantisedWeight::units_suffix};

/// The modules whose weights can be packed, by the name of the weight.
struct Packable {
  std::map<std::string, Linear*> linears;
  std::map<std::string, Embedding*> embeddings;

  explicit Packable(const Module& module) {
    for (const auto& entry : module.named_modules()) {
      if (auto* linear = entry.value()->as<Linear>()) linears.emplace(entry.key() + ".weight", linear);
      if (auto* table = entry.value()->as<Embedding>()) embeddings.emplace(entry.key() + ".weight", table);
    }
  }
  bool has(const std::string& parameter) const { return linears.contains(parameter) || embeddings.contains(parameter); }
  void hold(const std::string& parameter, std::shared_ptr<const GroupQuantisedWeight> weight, at::ScalarType dtype) const {
    if (const auto linear = linears.find(parameter); linear != linears.end())
      linear->second->quantise(std::move(weight));
    else
      embeddings.at(parameter)->quantise(std::move(weight), dtype);
  }
};

std::shared_ptr<const GroupQuantisedWeight> load_parts(io::WeightSource& source, const std::string& stored,
                                               const at::Tensor& shape) {
  const auto part = [&](const char* suffix) {
    if (!source.has(stored + suffix)) {
      source.note_missing(stored + suffix);
      throw base::Error(base::ExitCode::data, fmt::format("tensor \"{}{}\" is missing beside \"{}{}\"", stored, suffix,
                                                          stored, GroupQuantisedWeight::codes_suffix));
    }
    return source.load(stored + suffix, io::scalar_type(source.info(stored + suffix).dtype), at::kCPU);
  };
  GroupQuantisedWeight::Parts parts{part(GroupQuantisedWeight::codes_suffix), part(GroupQuantisedWeight::scales_suffix),
                            part(GroupQuantisedWeight::units_suffix)};
  return std::make_shared<const GroupQuantisedWeight>(std::move(parts), shape.size(0), shape.size(1),
                                              fmt::format("tensor \"{}\"", stored));
}

}  // namespace

bool has_quantised(const io::WeightSource& source, const std::string& stored) {
  return source.has(stored + GroupQuantisedWeight::codes_suffix);
}

int quantised_bits(const io::WeightSource& source, const std::string& stored) {
  if (!source.has(stored + GroupQuantisedWeight::scales_suffix)) return 0;
  const auto& shape = source.info(stored + GroupQuantisedWeight::scales_suffix).shape;
  if (shape.size() != 3) return 0;
  return shape[2] == 2 * kernels::packed_rows ? 4 : shape[2] == kernels::packed_rows ? 8 : 0;
}

void load_quantised(Module& module, io::WeightSource& source, const NameMap& names, at::ScalarType dtype,
                 const GroupQuantisation& quantisation) {
  const at::NoGradGuard no_grad;
  const Packable packable(module);
  const auto parameters = module.named_parameters();
  load_parameters(module, source, names, dtype, at::kCPU, [&](const std::string& parameter, const std::string& stored) {
    if (!packable.has(parameter)) return false;
    const at::Tensor& shape = parameters[parameter];
    if (has_quantised(source, stored)) {
      packable.hold(parameter, load_parts(source, stored, shape), dtype);
      return true;
    }
    if (!quantisation || !has_parameter(stored, shape, source)) return false;
    const auto own = io::scalar_type(source.info(stored).dtype);
    const auto release = [&] { source.release(stored); };
    packable.hold(parameter,
                  GroupQuantisedWeight::quantise(source.load(stored, own, at::kCPU), quantisation,
                                         fmt::format("tensor \"{}\"", stored), {}, release),
                  dtype);
    release();
    return true;
  });
}

std::int64_t account_quantised(Module& module, io::WeightSource& source, const NameMap& names, at::ScalarType dtype,
                            const GroupQuantisation& quantisation) {
  const Packable packable(module);
  std::int64_t bytes = 0;
  const auto parameters = module.named_parameters();
  account_parameters(module, source, names, [&](const std::string& parameter, const std::string& stored) {
    const at::Tensor& shape = parameters[parameter];
    if (packable.has(parameter) && has_quantised(source, stored)) {
      for (const char* suffix : suffixes) {
        if (!source.has(stored + suffix)) {
          source.note_missing(stored + suffix);
          continue;
        }
        source.note_used(stored + suffix);
        bytes += static_cast<std::int64_t>(source.info(stored + suffix).bytes());
      }
      return true;
    }
    bytes += quantisation && packable.has(parameter) ? GroupQuantisedWeight::quantised_bytes(shape.size(0), shape.size(1), quantisation)
                                                : shape.numel() * static_cast<std::int64_t>(c10::elementSize(dtype));
    return false;
  });
  return bytes;
}

}  // namespace atelier::nn
