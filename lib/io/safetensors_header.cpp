#include "io/safetensors_header.h"

#include <limits>
#include <set>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"

namespace atelier::io {
namespace {

using base::Error;
using base::ExitCode;
using base::in_quotes;
using base::Json;

// A state machine over the parser's events. Everything that the format does not know is refused at once, so nesting
// deeper than the format's three levels cannot happen.
class HeaderReader {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  explicit HeaderReader(std::string_view file) : file_(file) {}

  bool null() { unexpected("null"); }
  bool boolean(bool value) { unexpected(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) { unexpected(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) { unexpected(text.substr(0, 40)); }
  bool binary(binary_t&) { unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) {
    if (where_ == At::shape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        unexpected(std::to_string(value));
      if (tensor_.shape.size() == kMaxRank)
        fail(fmt::format("tensor {} has more than {} dimensions", name(), kMaxRank));
      tensor_.shape.push_back(static_cast<std::int64_t>(value));
    } else if (where_ == At::offsets && offsets_ < 2) {
      (offsets_++ == 0 ? tensor_.begin : tensor_.end) = value;
    } else {
      unexpected(std::to_string(value));
    }
    return true;
  }

  bool string(string_t& value) {
    if (where_ == At::metadata_value) {
      header_.metadata[std::exchange(key_, {})] = std::move(value);
      where_ = At::metadata;
    } else if (where_ == At::dtype) {
      const std::optional<DType> dtype = find_dtype(value);
      if (!dtype) fail(fmt::format("tensor {} has the unknown dtype {}", name(), in_quotes(value)));
      tensor_.dtype = *dtype;
      where_ = At::tensor;
    } else {
      unexpected(in_quotes(value));
    }
    return true;
  }

  bool key(string_t& value) {
    switch (where_) {
      case At::top: return top_key(value);
      case At::metadata: return metadata_key(value);
      default: return field_key(value);
    }
  }

  bool start_object(std::size_t) {
    switch (where_) {
      case At::start: where_ = At::top; return true;
      case At::metadata_start: where_ = At::metadata; return true;
      case At::tensor_start: where_ = At::tensor; return true;
      default: unexpected("an object");
    }
  }

  bool end_object() {
    switch (where_) {
      case At::top: where_ = At::done; return true;
      case At::metadata: where_ = At::top; return true;
      default: return end_tensor();
    }
  }

  bool start_array(std::size_t) {
    if (where_ != At::shape_start && where_ != At::offsets_start) unexpected("a list");
    where_ = where_ == At::shape_start ? At::shape : At::offsets;
    return true;
  }

  bool end_array() {
    if (where_ == At::offsets && offsets_ != 2) fail(fmt::format("tensor {}: data_offsets needs two numbers", name()));
    where_ = At::tensor;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) {
    fail(base::json_syntax_message(error.what()));
  }

  SafetensorsHeader take() { return std::move(header_); }

 private:
  // What the reader stands in, or waits for.
  enum class At {
    start,
    top,
    metadata_start,
    metadata,
    metadata_value,
    tensor_start,
    tensor,
    dtype,
    shape_start,
    shape,
    offsets_start,
    offsets,
    done
  };

  std::string name() const { return in_quotes(tensor_.name); }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ExitCode::data, fmt::format("{}: {}", file_, what));
  }

  [[noreturn]] void unexpected(const std::string& found) const {
    switch (where_) {
      case At::start: fail(fmt::format("the header is {}, expected an object", found));
      case At::metadata_start: fail(fmt::format("__metadata__ is {}, expected an object", found));
      case At::metadata_value: fail(fmt::format("__metadata__ {} is {}, expected a string", in_quotes(key_), found));
      case At::tensor_start: fail(fmt::format("tensor {} is {}, expected an object", name(), found));
      case At::dtype: fail(fmt::format("tensor {}: dtype is {}, expected a string", name(), found));
      case At::shape_start: fail(fmt::format("tensor {}: shape is {}, expected a list", name(), found));
      case At::shape:
        fail(fmt::format("tensor {}: shape holds {}, expected an integer from 0 to 2^63-1", name(), found));
      case At::offsets_start: fail(fmt::format("tensor {}: data_offsets is {}, expected a list", name(), found));
      default:
        fail(offsets_ < 2 ? fmt::format("tensor {}: data_offsets holds {}, expected an unsigned integer", name(), found)
                          : fmt::format("tensor {}: data_offsets needs two numbers", name()));
    }
  }

  bool top_key(string_t& value) {
    if (!names_.insert(value).second) fail(fmt::format("key {} stands twice in the header", in_quotes(value)));
    if (value == "__metadata__") {
      where_ = At::metadata_start;
      return true;
    }
    tensor_ = TensorInfo{};
    tensor_.name = std::move(value);
    has_dtype_ = has_shape_ = has_offsets_ = false;
    offsets_ = 0;
    where_ = At::tensor_start;
    return true;
  }

  bool metadata_key(string_t& value) {
    if (header_.metadata.contains(value)) fail(fmt::format("key {} stands twice in __metadata__", in_quotes(value)));
    key_ = std::move(value);
    where_ = At::metadata_value;
    return true;
  }

  bool field_key(const string_t& value) {
    const auto enter = [&](bool& seen, At next) {
      if (std::exchange(seen, true)) fail(fmt::format("tensor {}: {} stands twice", name(), value));
      where_ = next;
      return true;
    };
    if (value == "dtype") return enter(has_dtype_, At::dtype);
    if (value == "shape") return enter(has_shape_, At::shape_start);
    if (value == "data_offsets") return enter(has_offsets_, At::offsets_start);
    fail(fmt::format("tensor {} has the unknown field {}", name(), in_quotes(value)));
  }

  bool end_tensor() {
    const char* missing = !has_dtype_ ? "dtype" : !has_shape_ ? "shape" : !has_offsets_ ? "data_offsets" : nullptr;
    if (missing != nullptr) fail(fmt::format("tensor {} has no {}", name(), missing));
    header_.tensors.push_back(std::move(tensor_));
    where_ = At::top;
    return true;
  }

  std::string_view file_;
  SafetensorsHeader header_;
  At where_ = At::start;
  std::set<std::string, std::less<>> names_;  // a tree: no choice of names makes it slow
  std::string key_;
  TensorInfo tensor_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  int offsets_ = 0;
};

}  // namespace

SafetensorsHeader read_header_json(std::string_view text, std::string_view file) {
  // The JSON library takes a zero byte for the end of the text, and skips a byte order mark.
  if (text.find('\0') != std::string_view::npos) {
    throw Error(ExitCode::data, fmt::format("{}: the header holds a zero byte", file));
  }
  if (text.starts_with("\xEF\xBB\xBF")) {
    throw Error(ExitCode::data, fmt::format("{}: the header starts with a byte order mark", file));
  }
  HeaderReader reader(file);
  Json::sax_parse(text.begin(), text.end(), &reader);
  return reader.take();
}

}  // namespace atelier::io
