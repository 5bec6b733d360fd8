#pragma once

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include "io/weight_source.h"

namespace atelier::nn {

/// Values by name, in the order in which they were added.
template <typename Value>
class Named {
 public:
  class Entry {
   public:
    Entry(std::string key, Value value) : key_(std::move(key)), value_(std::move(value)) {}
    const std::string& key() const { return key_; }
    Value& value() { return value_; }
    const Value& value() const { return value_; }

   private:
    std::string key_;
    Value value_;
  };

  void add(std::string key, Value value) { entries_.emplace_back(std::move(key), std::move(value)); }
  auto begin() { return entries_.begin(); }
  auto end() { return entries_.end(); }
  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }
  const Entry& front() const { return entries_.front(); }
  std::size_t size() const { return entries_.size(); }
  const Entry& operator[](std::size_t index) const { return entries_[index]; }

  /// Null where there is none of that name.
  const Value* find(const std::string& key) const {
    for (const Entry& entry : entries_)
      if (entry.key() == key) return &entry.value();
    return nullptr;
  }
  bool contains(const std::string& key) const { return find(key) != nullptr; }
  /// A name that must be there.
  const Value& operator[](const std::string& key) const {
    if (const Value* value = find(key)) return *value;
    throw std::out_of_range(key);
  }

 private:
  std::vector<Entry> entries_;
};

/// Base of every layer. The module tree is the name map: children and parameters carry the names of the checkpoint. What
/// torch::nn::Module does beyond this is not needed, and its header takes longer to compile than all others together.
class Module {
 public:
  using Parameters = Named<at::Tensor>;
  using Modules = Named<std::shared_ptr<Module>>;

  virtual ~Module() = default;

  /// Own parameters first, then those of the children, "child.weight", in the order in which they were registered. The
  /// tensors are the module's own: set_data() changes them for it too.
  Parameters named_parameters() const;
  /// All modules below this one, "child" before "child.grandchild".
  Modules named_modules() const;
  const Modules& children() const { return children_; }

  /// This module as a layer of that kind, or null.
  template <typename Layer>
  Layer* as() {
    return dynamic_cast<Layer*>(this);
  }

 protected:
  Module() = default;
  Module(const Module&) = default;
  Module& operator=(const Module&) = default;

  /// Returns the child. Names are unique and hold no dot.
  template <typename Child>
  std::shared_ptr<Child> register_module(const std::string& name, std::shared_ptr<Child> child) {
    children_.add(name, child);
    return child;
  }

  at::Tensor register_parameter(const std::string& name, at::Tensor parameter, bool requires_grad = true);

 private:
  void collect(const std::string& prefix, Parameters& into) const;
  void collect(const std::string& prefix, Modules& into) const;

  Parameters parameters_;
  Modules children_;
};

/// A parameter that has a shape and no memory yet: load_parameters() puts the checkpoint's tensor in its place, so that a
/// mapped weight is never copied and a model of any size is built in no time.
at::Tensor placeholder(at::IntArrayRef shape);

/// Where a module's parameters lie in a checkpoint.
struct NameMap {
  virtual ~NameMap() = default;
  /// The checkpoint's name of a parameter of the module tree.
  virtual std::string stored(const std::string& name) const { return name; }
};

/// Called for a parameter of the module tree and its checkpoint's name; true where it has seen to the tensor itself.
using LoadOne = std::function<bool(const std::string& name, const std::string& stored)>;

/// Lets go of the memory of all parameters, which keep their shapes: the module cannot compute any more.
void drop_parameters(Module& module);

/// Fills every parameter of the tree from the checkpoint. Error(data) where one is missing (all missing ones are counted,
/// the first is named) or has another shape. Looks at the stop flag between tensors.
void load_parameters(Module& module, io::WeightSource& source, const NameMap& names, at::ScalarType dtype,
                     at::Device device, const LoadOne& load_one = {});

/// The accounting of --plan without loading: marks what would be read, and checks shapes. Missing names are only noted.
void account_parameters(Module& module, io::WeightSource& source, const NameMap& names);

}  // namespace atelier::nn
