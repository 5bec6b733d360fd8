#include "nn/module.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include "base/stop.h"
#include "nn/parameters.h"

namespace atelier::nn {
namespace {

std::string shape_text(at::IntArrayRef shape) {
  std::string text = "[";
  for (const auto n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}

}  // namespace

bool has_parameter(const std::string& stored, const at::Tensor& parameter, io::WeightSource& source) {
  if (!source.has(stored)) {
    source.note_missing(stored);
    return false;
  }
  const auto& info = source.info(stored);
  if (at::IntArrayRef(info.shape) != parameter.sizes())
    throw base::Error(base::ExitCode::data, fmt::format("tensor \"{}\" has shape {}, the configuration wants {}", stored,
                                                        shape_text(info.shape), shape_text(parameter.sizes())));
  return true;
}

Module::Parameters Module::named_parameters() const {
  Parameters all;
  collect({}, all);
  return all;
}

Module::Modules Module::named_modules() const {
  Modules all;
  collect({}, all);
  return all;
}

void Module::collect(const std::string& prefix, Parameters& into) const {
  for (const auto& own : parameters_) into.add(prefix + own.key(), own.value());
  for (const auto& child : children_) child.value()->collect(prefix + child.key() + ".", into);
}

void Module::collect(const std::string& prefix, Modules& into) const {
  for (const auto& child : children_) {
    into.add(prefix + child.key(), child.value());
    child.value()->collect(prefix + child.key() + ".", into);
  }
}

at::Tensor Module::register_parameter(const std::string& name, at::Tensor parameter, bool requires_grad) {
  parameter.set_requires_grad(requires_grad);
  parameters_.add(name, parameter);
  return parameter;
}

at::Tensor placeholder(at::IntArrayRef shape) { return at::empty({}).expand(shape); }

void drop_parameters(Module& module) {
  for (auto& entry : module.named_parameters()) entry.value().set_data(placeholder(entry.value().sizes()));
}

void load_parameters(Module& module, io::WeightSource& source, const NameMap& names, at::ScalarType dtype,
                     at::Device device, const LoadOne& load_one) {
  std::string first_missing;
  int missing = 0;
  for (auto& entry : module.named_parameters()) {
    base::throw_if_stopped();
    const std::string name = names.stored(entry.key());
    if (load_one && load_one(entry.key(), name)) continue;
    if (has_parameter(name, entry.value(), source)) {
      entry.value().set_data(source.load(name, dtype, device));
      if (source.info(name).dtype != io::dtype_of(dtype) || !device.is_cpu()) source.release(name);  // it was copied
    } else if (missing++ == 0) {
      first_missing = name;
    }
  }
  if (missing > 0)
    throw base::Error(base::ExitCode::data, fmt::format("the weights lack {} tensor{}, first \"{}\"", missing,
                                                        missing == 1 ? "" : "s", first_missing));
}

void account_parameters(Module& module, io::WeightSource& source, const NameMap& names) {
  account_parameters(module, source, names, {});
}

void account_parameters(Module& module, io::WeightSource& source, const NameMap& names, const LoadOne& account_one) {
  for (const auto& entry : module.named_parameters()) {
    const std::string name = names.stored(entry.key());
    if (account_one && account_one(entry.key(), name)) continue;
    if (has_parameter(name, entry.value(), source)) source.note_used(name);
  }
}

}  // namespace atelier::nn
