#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/safetensors.h"

namespace atelier::io {

/// A tensor as a pickle describes it: a view of a storage.
struct PickledTensor {
  std::string storage;  ///< name of the file in the archive's data folder
  DType dtype = DType::F32;
  std::int64_t storage_elements = 0, offset = 0;  ///< in elements
  std::vector<std::int64_t> shape, strides;
};

/// What a pickle holds. Values lie in their Pickle and may refer to one another in circles.
struct PickleValue {
  enum class Kind : std::uint8_t {
    none,
    boolean,
    integer,
    real,
    text,
    bytes,
    sequence,
    dictionary,
    tensor,
    name,
    storage,
    mark
  };

  Kind kind = Kind::none;
  std::int64_t integer = 0;  ///< also of booleans
  double real = 0;
  std::string text;                                            ///< of text, bytes, and names ("torch FloatStorage")
  std::vector<PickleValue*> items;                             ///< of lists and tuples
  std::vector<std::pair<PickleValue*, PickleValue*>> entries;  ///< of dictionaries
  PickledTensor tensor;                                        ///< of tensors; of storages its first three fields

  /// The value of a dictionary's text key, or null.
  const PickleValue* find(std::string_view key) const;
};

/// A pickle that has been read. No code is ever run: the few names that torch.save writes for tensors are known here, every
/// other name is an error.
class Pickle {
 public:
  /// Reads protocols 2 to 5 as far as torch.save uses them. Error(data) naming `what`: a name that is not on the list
  /// (`posix system`), an opcode that is not, a pickle that is damaged or needs more than 4 million values.
  Pickle(std::span<const std::byte> bytes, const std::string& what);

  const PickleValue& root() const { return *root_; }

 private:
  friend class PickleMachine;
  std::vector<std::unique_ptr<PickleValue>> values_;  // flat, so that no depth of nesting can exhaust the stack
  const PickleValue* root_ = nullptr;
};

}  // namespace atelier::io
