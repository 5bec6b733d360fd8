#include <algorithm>
#include <cmath>
#include <cstdio>

#include <fmt/format.h>

#include "text/jinja/budget.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace atelier::text::jinja {
namespace {

constexpr std::int64_t kMaxWidth = 10'000;
constexpr std::int64_t kMaxPrecision = 100;

struct Conversion {
  std::string flags, key;
  bool has_key = false;
  std::int64_t width = 0;
  std::optional<std::int64_t> precision;
  char type = '%';
};

class PercentFormatter {
 public:
  PercentFormatter(const TrackedText& format, const Value& values) : format_(format), values_(values) {}

  TrackedText run() {
    const std::string& text = format_.bytes();
    while (at_ < text.size()) {
      const std::size_t percent = std::min(text.find('%', at_), text.size());
      out_.append(format_, at_, percent - at_);
      at_ = percent;
      if (at_ == text.size()) break;
      const Conversion conversion = parse();
      if (conversion.type == '%') {
        out_.append(format_, at_ - 1, 1);
      } else {
        put(conversion, conversion.has_key ? by_key(conversion.key) : next_value());
      }
    }
    const bool tuple = is_tuple();
    if (!values_.is_dict() && used_ < (tuple ? values_.as_list().items.size() : 1))
      throw Failure("not all values were used in the format");
    return std::move(out_);
  }

 private:
  bool is_tuple() const { return values_.is_list() && values_.as_list().kind == List::Kind::tuple; }

  char peek() const { return at_ < format_.size() ? format_.bytes()[at_] : '\0'; }

  std::int64_t number(std::int64_t limit) {
    std::int64_t value = 0;
    while (peek() >= '0' && peek() <= '9') {
      value = value * 10 + (format_.bytes()[at_++] - '0');
      if (value > limit) throw Failure("a format's width or precision is too large");
    }
    return value;
  }

  Conversion parse() {
    Conversion conversion;
    ++at_;
    if (peek() == '(') {
      const std::size_t end = format_.bytes().find(')', at_);
      if (end == std::string::npos) throw Failure("incomplete format");
      conversion.key = format_.bytes().substr(at_ + 1, end - at_ - 1);
      conversion.has_key = true;
      at_ = end + 1;
    }
    while (std::string_view("-+ #0").find(peek()) != std::string_view::npos && peek() != '\0')
      conversion.flags += format_.bytes()[at_++];
    conversion.width = number(kMaxWidth);
    if (peek() == '.') ++at_, conversion.precision = number(kMaxPrecision);
    while (peek() == 'l' || peek() == 'h' || peek() == 'L') ++at_;
    conversion.type = peek();
    if (conversion.type == '\0') throw Failure("incomplete format");
    ++at_;
    return conversion;
  }

  const Value& by_key(const std::string& key) const {
    const Value* found = values_.is_dict() ? values_.as_dict().find(key) : nullptr;
    if (!found) throw Failure(fmt::format("the format needs a value '{}'", key));
    return *found;
  }

  const Value& next_value() {
    const std::size_t index = used_++;
    if (is_tuple()) {
      if (index >= values_.as_list().items.size()) throw Failure("not enough values for the format");
      return values_.as_list().items[index];
    }
    if (index > 0) throw Failure("not enough values for the format");
    return values_;
  }

  void put(const Conversion& conversion, const Value& value) {
    const bool left = conversion.flags.find('-') != std::string::npos;
    const TrackedText text = convert(conversion, value);
    const auto size = static_cast<std::int64_t>(character_count(text.bytes()));
    const std::string padding(static_cast<std::size_t>(std::max<std::int64_t>(0, conversion.width - size)), ' ');
    if (!left) out_.append(padding, true);
    out_.append(text);
    if (left) out_.append(padding, true);
  }

  TrackedText convert(const Conversion& conversion, const Value& value) const {
    switch (conversion.type) {
      case 's':
      case 'r': {
        TrackedText text = conversion.type == 'r' ? quoted(value) : to_text(value);
        if (!conversion.precision) return text;
        const auto all = characters(text);
        const auto keep = static_cast<std::size_t>(*conversion.precision);
        return keep < all.size() ? text.substr(0, all[keep].offset) : text;
      }
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o': return integer(conversion, value);
      case 'f':
      case 'F':
      case 'e':
      case 'E':
      case 'g':
      case 'G': return real(conversion, value);
      case 'c':
        if (value.is_text() && character_count(value.as_text().bytes()) == 1) return value.as_text();
        throw Failure("%c needs a character");
      default: throw Failure(fmt::format("unsupported format character '{}'", conversion.type));
    }
  }

  /// repr() of one value, by way of a one-element list.
  static TrackedText quoted(const Value& value) {
    const TrackedText list = to_text(Value::list({value}));
    return list.substr(1, list.size() - 2);
  }

  static std::string specification(const Conversion& conversion, std::string_view size) {
    std::string spec = "%" + conversion.flags + std::to_string(conversion.width);
    if (conversion.precision) spec += "." + std::to_string(*conversion.precision);
    return spec.append(size) + conversion.type;
  }

  template <typename T>
  static TrackedText print(const std::string& specification, T number, bool trusted) {
    std::string buffer(static_cast<std::size_t>(kMaxWidth) + 512, '\0');
    const int size = std::snprintf(buffer.data(), buffer.size(), specification.c_str(), number);
    return TrackedText(std::string_view(buffer).substr(0, static_cast<std::size_t>(std::max(size, 0))), trusted);
  }

  static TrackedText integer(const Conversion& conversion, const Value& value) {
    if (!value.is_number() || (value.is_real() && !(std::abs(value.as_real()) < 9e18))) {
      throw Failure(fmt::format("%{} needs a number, not {}", conversion.type, value.type_name()));
    }
    const std::int64_t number = value.is_real() ? static_cast<std::int64_t>(value.as_real()) : value.as_integer();
    const bool decimal = std::string_view("diu").find(conversion.type) != std::string_view::npos;
    if (number < 0 && !decimal) throw Failure("negative numbers have no hexadecimal or octal format here");
    Conversion signed_conversion = conversion;
    if (conversion.type == 'u') signed_conversion.type = 'd';
    return print(specification(signed_conversion, "ll"), static_cast<long long>(number), value.trusted());
  }

  static TrackedText real(const Conversion& conversion, const Value& value) {
    if (!value.is_number())
      throw Failure(fmt::format("%{} needs a number, not {}", conversion.type, value.type_name()));
    return print(specification(conversion, ""), value.as_real(), value.trusted());
  }

  const TrackedText& format_;
  const Value& values_;
  TrackedText out_;
  std::size_t at_ = 0, used_ = 0;
};

}  // namespace

TrackedText format_percent(const TrackedText& format, const Value& values) {
  return PercentFormatter(format, values).run();
}

}  // namespace atelier::text::jinja
