#include "io/pickle.h"

#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/stop.h"

namespace atelier::io {

using Kind = PickleValue::Kind;

namespace {

constexpr std::size_t kMaxValues = 4'000'000, kMaxRank = 64;

struct StorageType {
  std::string_view name;
  DType dtype;
};
constexpr std::array<StorageType, 10> kStorages{{{"torch FloatStorage", DType::F32},
                                                 {"torch HalfStorage", DType::F16},
                                                 {"torch BFloat16Storage", DType::BF16},
                                                 {"torch DoubleStorage", DType::F64},
                                                 {"torch LongStorage", DType::I64},
                                                 {"torch IntStorage", DType::I32},
                                                 {"torch ShortStorage", DType::I16},
                                                 {"torch CharStorage", DType::I8},
                                                 {"torch ByteStorage", DType::U8},
                                                 {"torch BoolStorage", DType::BOOL}}};

// What torch.save calls to put tensors together again, and harmless containers.
constexpr std::array<std::string_view, 7> kCallables{{"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor",
                                                      "torch._utils _rebuild_parameter", "collections OrderedDict",
                                                      "torch Size", "torch.nn.modules.container ParameterDict",
                                                      "torch.nn.parameter Parameter"}};

std::optional<DType> storage_dtype(std::string_view name) {
  for (const StorageType& type : kStorages)
    if (type.name == name) return type.dtype;
  return std::nullopt;
}

bool is_known(std::string_view name) {
  for (const std::string_view callable : kCallables)
    if (callable == name) return true;
  return storage_dtype(name).has_value();
}

}  // namespace

const PickleValue* PickleValue::find(std::string_view key) const {
  const PickleValue* found = nullptr;
  for (const auto& [k, v] : entries)
    if (k->kind == Kind::text && k->text == key) found = v;
  return found;
}

/// The stack machine that a pickle is a program for (pickletools.py), with the opcodes that data need.
class PickleMachine {
 public:
  PickleMachine(std::span<const std::byte> bytes, const std::string& what, Pickle& pickle)
      : bytes_(bytes), what_(what), pickle_(pickle) {}

  const PickleValue* run() {
    for (std::size_t steps = 0;; ++steps) {
      if (steps % 65536 == 0) base::throw_if_stopped();
      const auto code = byte();
      if (code == '.') return pop();
      step(code);
    }
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw base::Error(base::ExitCode::data, fmt::format("{}: {}", what_, why));
  }
  [[noreturn]] void damaged() const { fail("the pickle is damaged"); }

  // --- input
  std::string_view take(std::uint64_t size) {
    if (size > bytes_.size() - at_) damaged();
    const auto* data = reinterpret_cast<const char*>(bytes_.data() + at_);
    at_ += static_cast<std::size_t>(size);
    return {data, static_cast<std::size_t>(size)};
  }
  unsigned char byte() { return static_cast<unsigned char>(take(1)[0]); }
  std::uint64_t little(std::size_t size) {
    const std::string_view raw = take(size);
    std::uint64_t value = 0;
    for (std::size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(raw[i]);
    return value;
  }
  std::string_view line() {
    const auto* data = reinterpret_cast<const char*>(bytes_.data() + at_);
    const void* end = std::memchr(data, '\n', bytes_.size() - at_);
    if (end == nullptr) damaged();
    const auto text = take(static_cast<std::size_t>(static_cast<const char*>(end) - data));
    ++at_;
    return text;
  }

  // --- stack
  PickleValue* make(Kind kind) {
    if (pickle_.values_.size() == kMaxValues) fail("the pickle holds too many values");
    pickle_.values_.push_back(std::make_unique<PickleValue>());
    pickle_.values_.back()->kind = kind;
    return pickle_.values_.back().get();
  }
  PickleValue* push(PickleValue* value) {
    stack_.push_back(value);
    return value;
  }
  PickleValue* pop() {
    if (stack_.empty()) damaged();
    PickleValue* value = stack_.back();
    stack_.pop_back();
    if (value->kind == Kind::mark) damaged();
    return value;
  }
  PickleValue* top() {
    if (stack_.empty() || stack_.back()->kind == Kind::mark) damaged();
    return stack_.back();
  }
  std::vector<PickleValue*> pop_to_mark() {
    std::size_t at = stack_.size();
    while (at > 0 && stack_[at - 1]->kind != Kind::mark) --at;
    if (at == 0) damaged();
    std::vector<PickleValue*> values(stack_.begin() + static_cast<std::ptrdiff_t>(at), stack_.end());
    stack_.resize(at - 1);
    return values;
  }

  void push_integer(std::int64_t value) { push(make(Kind::integer))->integer = value; }
  void push_text(Kind kind, std::string_view text) { push(make(kind))->text = text; }
  void push_sequence(std::vector<PickleValue*> items) { push(make(Kind::sequence))->items = std::move(items); }
  void push_last(std::size_t count) {
    std::vector<PickleValue*> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    push_sequence(std::move(items));
  }

  void remember(std::uint64_t place) { memo_[place] = top(); }
  void recall(std::uint64_t place) {
    const auto found = memo_.find(place);
    if (found == memo_.end()) damaged();
    push(found->second);
  }

  void push_long(std::uint64_t size) {
    if (size > 8) fail("the pickle holds a number beyond 64 bits");
    std::uint64_t value = little(static_cast<std::size_t>(size));
    if (size > 0 && size < 8 && (value >> (8 * size - 1) & 1) != 0) value |= ~std::uint64_t{0} << (8 * size);
    push_integer(static_cast<std::int64_t>(value));
  }

  void push_real() {
    const std::string_view raw = take(8);
    std::uint64_t bits = 0;
    for (const char c : raw) bits = bits << 8 | static_cast<unsigned char>(c);  // the one big-endian number
    push(make(Kind::real))->real = std::bit_cast<double>(bits);
  }

  void push_name(const std::string& module, const std::string& name) {
    const std::string whole = module + " " + name;
    if (!is_known(whole))
      throw base::Error(
          base::ExitCode::data,
          fmt::format("{}: the pickle calls {}, which is refused", what_, base::in_quotes(module + "." + name)),
          "pickles can run programs; only tensors are read from them");
    push_text(Kind::name, whole);
  }

  void set_items(const std::vector<PickleValue*>& values) {
    PickleValue* target = top();
    if (target->kind != Kind::dictionary || values.size() % 2 != 0) damaged();
    for (std::size_t i = 0; i < values.size(); i += 2) target->entries.emplace_back(values[i], values[i + 1]);
  }

  void append(const std::vector<PickleValue*>& values) {
    PickleValue* target = top();
    if (target->kind != Kind::sequence) damaged();
    target->items.insert(target->items.end(), values.begin(), values.end());
  }

  // --- what names mean
  std::vector<std::int64_t> integers(const PickleValue& value) const {
    if (value.kind != Kind::sequence || value.items.size() > kMaxRank) damaged();
    std::vector<std::int64_t> numbers;
    for (const PickleValue* item : value.items) {
      if (item->kind != Kind::integer || item->integer < 0) damaged();
      numbers.push_back(item->integer);
    }
    return numbers;
  }

  void rebuild_tensor(const std::vector<PickleValue*>& args) {
    const bool right = args.size() >= 4 && args[0]->kind == Kind::storage && args[1]->kind == Kind::integer;
    if (!right || args[1]->integer < 0) damaged();
    PickleValue* result = push(make(Kind::tensor));
    result->tensor = args[0]->tensor;
    result->tensor.offset = args[1]->integer;
    result->tensor.shape = integers(*args[2]);
    result->tensor.strides = integers(*args[3]);
    if (result->tensor.shape.size() != result->tensor.strides.size()) damaged();
  }

  void ordered_dictionary(const std::vector<PickleValue*>& args) {
    PickleValue* result = push(make(Kind::dictionary));
    if (args.empty()) return;
    if (args[0]->kind != Kind::sequence) damaged();
    for (const PickleValue* pair : args[0]->items) {
      if (pair->kind != Kind::sequence || pair->items.size() != 2) damaged();
      result->entries.emplace_back(pair->items[0], pair->items[1]);
    }
  }

  void call(const PickleValue& callable, const PickleValue& arguments) {
    if (callable.kind != Kind::name || arguments.kind != Kind::sequence) damaged();
    const auto& args = arguments.items;
    const std::string& name = callable.text;
    if (name.starts_with("torch._utils _rebuild_tensor")) return rebuild_tensor(args);
    if (name == "torch._utils _rebuild_parameter" || name == "torch.nn.parameter Parameter") {
      if (args.empty() || args[0]->kind != Kind::tensor) damaged();
      push(args[0]);
    } else if (name == "collections OrderedDict") {
      ordered_dictionary(args);
    } else if (name == "torch Size") {
      if (args.empty() || args[0]->kind != Kind::sequence) damaged();
      push(args[0]);
    } else if (name == "torch.nn.modules.container ParameterDict") {
      push(make(Kind::dictionary));
    } else {
      damaged();
    }
  }

  /// BUILD: the state of a ParameterDict are its parameters; an OrderedDict's (`_metadata`) says nothing about tensors.
  void build() {
    const PickleValue* state = pop();
    PickleValue* object = top();
    if (object->kind == Kind::tensor) return;  // a tensor's attributes
    if (object->kind != Kind::dictionary) damaged();
    const PickleValue* parameters = state->kind == Kind::dictionary ? state->find("_parameters") : nullptr;
    if (parameters != nullptr && parameters->kind == Kind::dictionary && object->entries.empty())
      object->entries = parameters->entries;
  }

  /// ("storage", torch.FloatStorage, key, location, elements)
  void persistent_id() {
    const PickleValue* id = pop();
    const bool right = id->kind == Kind::sequence && id->items.size() == 5 && id->items[0]->kind == Kind::text &&
                       id->items[0]->text == "storage" && id->items[1]->kind == Kind::name &&
                       id->items[2]->kind == Kind::text && id->items[4]->kind == Kind::integer &&
                       id->items[4]->integer >= 0;
    const auto dtype = right ? storage_dtype(id->items[1]->text) : std::nullopt;
    if (!dtype) damaged();
    PickleValue* storage = push(make(Kind::storage));
    storage->tensor.storage = id->items[2]->text;
    storage->tensor.dtype = *dtype;
    storage->tensor.storage_elements = id->items[4]->integer;
  }

  void step(unsigned char code) {
    if (!scalar(code) && !container(code) && !object(code))
      fail(fmt::format("the pickle uses opcode 0x{:02x}, which is refused", code));
  }

  bool scalar(unsigned char code) {
    switch (code) {
      case 'N': push(make(Kind::none)); return true;
      case 0x88: push(make(Kind::boolean))->integer = 1; return true;
      case 0x89: push(make(Kind::boolean)); return true;
      case 'K': push_integer(static_cast<std::int64_t>(little(1))); return true;
      case 'M': push_integer(static_cast<std::int64_t>(little(2))); return true;
      case 'J': push_integer(static_cast<std::int32_t>(little(4))); return true;
      case 0x8a: push_long(little(1)); return true;
      case 'G': push_real(); return true;
      case 'X': push_text(Kind::text, take(little(4))); return true;
      case 0x8c: push_text(Kind::text, take(little(1))); return true;
      case 0x8d: push_text(Kind::text, take(little(8))); return true;
      case 'U': push_text(Kind::text, take(little(1))); return true;
      case 'T': push_text(Kind::text, take(little(4))); return true;
      case 'C': push_text(Kind::bytes, take(little(1))); return true;
      case 'B': push_text(Kind::bytes, take(little(4))); return true;
      default: return false;
    }
  }

  bool container(unsigned char code) {
    switch (code) {
      case '(': push(make(Kind::mark)); return true;
      case ')':
      case ']': push_sequence({}); return true;
      case '}': push(make(Kind::dictionary)); return true;
      case 't':
      case 'l': push_sequence(pop_to_mark()); return true;
      case 0x85: push_last(1); return true;
      case 0x86: push_last(2); return true;
      case 0x87: push_last(3); return true;
      case 'a': append({pop()}); return true;
      case 'e': append(pop_to_mark()); return true;
      case 's': {
        PickleValue* value = pop();
        PickleValue* key = pop();
        set_items({key, value});
        return true;
      }
      case 'u': set_items(pop_to_mark()); return true;
      case '0': pop(); return true;
      case 'q': remember(little(1)); return true;
      case 'r': remember(little(4)); return true;
      case 0x94: remember(memo_.size()); return true;
      case 'h': recall(little(1)); return true;
      case 'j': recall(little(4)); return true;
      default: return false;
    }
  }

  bool object(unsigned char code) {
    switch (code) {
      case 0x80:
        if (const auto protocol = byte(); protocol < 2 || protocol > 5) fail("the pickle's protocol is not known");
        return true;
      case 0x95: little(8); return true;  // a frame's length
      case 'c': {
        const std::string module(line());
        push_name(module, std::string(line()));
        return true;
      }
      case 0x93: {
        const PickleValue* name = pop();
        const PickleValue* module = pop();
        if (name->kind != Kind::text || module->kind != Kind::text) damaged();
        push_name(module->text, name->text);
        return true;
      }
      case 'R':
      case 0x81: {
        const PickleValue* arguments = pop();
        const PickleValue* callable = pop();
        call(*callable, *arguments);
        return true;
      }
      case 'b': build(); return true;
      case 'Q': persistent_id(); return true;
      default: return false;
    }
  }

  std::span<const std::byte> bytes_;
  const std::string& what_;
  Pickle& pickle_;
  std::size_t at_ = 0;
  std::vector<PickleValue*> stack_;
  std::unordered_map<std::uint64_t, PickleValue*> memo_;
};

Pickle::Pickle(std::span<const std::byte> bytes, const std::string& what) {
  root_ = PickleMachine(bytes, what, *this).run();
}

}  // namespace atelier::io
