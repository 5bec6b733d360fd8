#include "text/constraint/numbers.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <numeric>
#include <tuple>

#include <fmt/format.h>

namespace atelier::text::constraint {
namespace {

constexpr std::size_t whole_digits = 18, significant_digits = 15;
constexpr std::int64_t largest_divisor = 5000;  // of a remainder automaton
constexpr std::int64_t most_listed = 20000;

int digit_at(const std::string& digits, std::size_t at) { return at < digits.size() ? digits[at] - '0' : 0; }

bool zeros_from(const std::string& digits, std::size_t at) {
  return at >= digits.size() || digits.find_first_not_of('0', at) == std::string::npos;
}

int compare_magnitudes(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() < b.whole.size() ? -1 : 1;
  if (const int order = a.whole.compare(b.whole); order != 0) return order < 0 ? -1 : 1;
  const std::size_t n = std::max(a.fraction.size(), b.fraction.size());
  for (std::size_t i = 0; i < n; ++i)
    if (const int d = digit_at(a.fraction, i) - digit_at(b.fraction, i); d != 0) return d < 0 ? -1 : 1;
  return 0;
}

Expr digit_range(Regular& r, unsigned first, unsigned last) { return r.bytes(ByteSet::range('0' + first, '0' + last)); }

/// Numbers of at least 0 between two bounds, digit by digit: as long as the digits are those of a bound, the next one is held
/// by it ("tight").
class Magnitudes {
 public:
  Magnitudes(Regular& r, const NumberRange& range, std::int64_t divisor) : r_(r), range_(range), divisor_(divisor) {}

  Expr all() {
    const std::size_t plenty = range_.whole ? whole_digits : significant_digits;
    const std::size_t shortest = range_.low->whole.size();
    std::size_t longest = std::max(plenty, shortest + 1);
    if (range_.high) longest = std::min(longest, range_.high->whole.size());
    std::vector<Expr> parts;
    for (length_ = shortest; length_ <= longest; ++length_) {
      known_.clear();
      const bool tight_high = range_.high && range_.high->whole.size() == length_;
      parts.push_back(whole({0, 0, length_ == shortest, tight_high, 0}));
    }
    return r_.alt(parts);
  }

 private:
  struct State {
    std::size_t at = 0;           ///< digits so far, of the whole part or the fraction
    std::size_t significant = 0;  ///< digits from the first that is not 0
    bool low = false, high = false;
    std::int64_t rest = 0;
    auto operator<=>(const State&) const = default;
  };

  int low_digit(const State& s, bool fraction) const {
    return digit_at(fraction ? range_.low->fraction : range_.low->whole, s.at);
  }
  int high_digit(const State& s, bool fraction) const {
    return digit_at(fraction ? range_.high->fraction : range_.high->whole, s.at);
  }

  bool digit_fits(const State& s, int d, bool fraction) const {
    if (s.low && d < low_digit(s, fraction)) return false;
    if (s.high && d > high_digit(s, fraction)) return false;
    if (range_.whole || s.significant < significant_digits) return true;
    if (!fraction && d == 0) return true;
    return (s.low && d == low_digit(s, fraction)) || (s.high && d == high_digit(s, fraction));  // only the bound itself
  }

  State after(const State& s, int d, bool fraction) const {
    return {s.at + 1, s.significant + (s.significant > 0 || d > 0 ? 1 : 0), s.low && d == low_digit(s, fraction),
            s.high && d == high_digit(s, fraction), divisor_ > 0 ? (s.rest * 10 + d) % divisor_ : 0};
  }

  /// Whether a number may end here. `digits`: of the fraction.
  bool may_end(const State& s, std::size_t digits) const {
    const bool at_low = s.low && zeros_from(range_.low->fraction, digits);
    const bool at_high = s.high && zeros_from(range_.high->fraction, digits);
    if (s.low && !at_low) return false;
    if ((at_low && range_.low_open) || (at_high && range_.high_open)) return false;
    if (!range_.whole && s.significant > significant_digits && digits > 0 && !at_low && !at_high) return false;
    return s.rest == 0;
  }

  template <typename Next>
  Expr digits(const State& s, unsigned first, bool fraction, Next next, std::vector<Expr> parts) {
    std::map<Expr, ByteSet> targets;
    for (unsigned d = first; d <= 9; ++d)
      if (digit_fits(s, static_cast<int>(d), fraction))
        targets[next(after(s, static_cast<int>(d), fraction))].add('0' + d);
    for (const auto& [target, set] : targets) parts.push_back(r_.seq(r_.bytes(set), target));
    return r_.alt(parts);
  }

  Expr whole(const State& s) {
    if (s.at == length_) {
      std::vector<Expr> parts;
      if (may_end(s, 0)) parts.push_back(Regular::end);
      if (!range_.whole) {
        State start = s;
        start.at = 0;
        parts.push_back(r_.seq(r_.literal("."), fraction(start)));
      }
      return r_.alt(parts);
    }
    const auto [place, fresh] = known_.try_emplace({false, s}, Regular::nothing);
    if (!fresh) return place->second;
    const unsigned first = s.at == 0 && length_ > 1 ? 1 : 0;
    const Expr e = digits(s, first, false, [this](const State& next) { return whole(next); }, {});
    return known_[{false, s}] = e;
  }

  Expr fraction(const State& s) {
    const std::size_t held = std::max(range_.low->fraction.size(), range_.high ? range_.high->fraction.size() : 0);
    const std::size_t most = std::max(held + 1, significant_digits > length_ ? significant_digits - length_ : 0);
    std::vector<Expr> parts;
    if (s.at > 0 && may_end(s, s.at)) parts.push_back(Regular::end);
    if (s.at >= most) return r_.alt(parts);
    const auto [place, fresh] = known_.try_emplace({true, s}, Regular::nothing);
    if (!fresh) return place->second;
    const Expr e = digits(
        s, 0, true, [this](const State& next) { return fraction(next); }, std::move(parts));
    return known_[{true, s}] = e;
  }

  Regular& r_;
  const NumberRange& range_;
  std::int64_t divisor_;
  std::size_t length_ = 0;
  std::map<std::pair<bool, State>, Expr> known_;
};

Decimal negated(Decimal d) {
  d.negative = !d.negative && !d.zero();
  return d;
}

/// The numbers of at least 0 of a range, and the magnitudes of those below 0.
std::optional<NumberRange> upper_half(NumberRange range) {
  if (range.high && (range.high->negative || (range.high->zero() && range.high_open))) return std::nullopt;
  if (!range.low || range.low->negative) {
    range.low = Decimal{};
    range.low_open = false;
  }
  return range;
}

std::optional<NumberRange> lower_half(const NumberRange& range) {
  NumberRange mirrored = range;
  mirrored.low.reset();
  mirrored.high.reset();
  if (range.high) mirrored.low = negated(*range.high);
  if (range.low) mirrored.high = negated(*range.low);
  mirrored.low_open = range.high_open;
  mirrored.high_open = range.low_open;
  mirrored.raise_low(Decimal{}, true);
  if (mirrored.high && (mirrored.high->negative || mirrored.high->zero())) return std::nullopt;
  return mirrored;
}

Expr walk(Regular& r, const NumberRange& range, std::int64_t divisor) {
  std::vector<Expr> parts;
  if (const auto half = upper_half(range)) parts.push_back(Magnitudes(r, *half, divisor).all());
  if (const auto half = lower_half(range)) parts.push_back(r.seq(r.literal("-"), Magnitudes(r, *half, divisor).all()));
  return r.alt(parts);
}

double as_double(const Decimal& d) {
  return std::strtod(
      fmt::format("{}{}.{}", d.negative ? "-" : "", d.whole, d.fraction.empty() ? "0" : d.fraction).c_str(), nullptr);
}

std::string text_of(const Decimal& d) {
  return (d.negative ? "-" : "") + d.whole + (d.fraction.empty() ? "" : "." + d.fraction);
}

Decimal scaled(std::int64_t value, std::size_t places) {
  Decimal d;
  d.negative = value < 0;
  std::string digits = std::to_string(value < 0 ? -value : value);
  if (digits.size() <= places) digits.insert(0, places + 1 - digits.size(), '0');
  d.whole = digits.substr(0, digits.size() - places);
  d.fraction = digits.substr(digits.size() - places);
  d.fraction.erase(d.fraction.find_last_not_of('0') + 1);
  return d;
}

/// By repeated division, as validators that compute in doubles do it.
bool divides(const Decimal& value, const Decimal& step) {
  const double quotient = as_double(value) / as_double(step);
  return quotient == std::trunc(quotient);
}

/// Literals with common beginnings joined, which a plain union of thousands would not be.
Expr join(Regular& r, const std::vector<std::string>& sorted, std::size_t from, std::size_t to, std::size_t depth) {
  std::vector<Expr> parts;
  while (from < to && sorted[from].size() == depth) {
    parts.push_back(Regular::end);
    ++from;
  }
  while (from < to) {
    const char c = sorted[from][depth];
    std::size_t last = from;
    while (last < to && sorted[last][depth] == c) ++last;
    parts.push_back(r.seq(r.literal({&c, 1}), join(r, sorted, from, last, depth + 1)));
    from = last;
  }
  return r.alt(parts);
}

Expr list_multiples(Regular& r, const NumberRange& range) {
  const Decimal& step = *std::ranges::max_element(range.multiples_of,
                                                  [](const Decimal& a, const Decimal& b) { return compare(a, b) < 0; });
  const std::size_t places = step.fraction.size();
  const std::string digits = step.whole + step.fraction;
  if (digits.size() > whole_digits) return Regular::nothing;
  const std::int64_t unit = std::stoll(digits);
  const double size = as_double(step);
  const auto quotient = [&](const Decimal& d) { return std::clamp(as_double(d) / size, -4e18, 4e18); };
  // From the bound that lies nearer to 0, or from 0 in both directions.
  std::int64_t first = -most_listed / 2, last = most_listed / 2;
  if (range.low && !range.low->negative) {
    first = static_cast<std::int64_t>(std::floor(quotient(*range.low)));
    last = first + most_listed;
  } else if (range.high && (range.high->negative || range.high->zero())) {
    last = static_cast<std::int64_t>(std::ceil(quotient(*range.high)));
    first = last - most_listed;
  } else if (range.low) {
    first = std::max(first, static_cast<std::int64_t>(std::floor(quotient(*range.low))));
  }
  std::vector<std::string> texts;
  for (std::int64_t k = first; k <= last; ++k) {
    std::int64_t value = 0;
    if (__builtin_mul_overflow(k, unit, &value)) continue;
    const Decimal d = scaled(value, places);
    if ((range.whole && !d.is_whole()) || !range.has(d)) continue;
    texts.push_back(text_of(d));
  }
  std::sort(texts.begin(), texts.end());
  return join(r, texts, 0, texts.size(), 0);
}

Expr any_number(Regular& r, bool whole) {
  const Expr digit = digit_range(r, 0, 9), sign = r.repeat(r.literal("-"), 0, 1);
  const auto positive = [&](std::uint32_t most) { return r.seq(digit_range(r, 1, 9), r.repeat(digit, 0, most - 1)); };
  if (whole) return r.alt({r.literal("0"), r.seq(sign, positive(whole_digits))});
  const Expr fraction = r.repeat(r.seq(r.literal("."), r.repeat(digit, 1, 17)), 0, 1);
  const Expr exponent =
      r.repeat(r.seq({r.alt({r.literal("e"), r.literal("E")}), r.repeat(r.alt({r.literal("+"), r.literal("-")}), 0, 1),
                      r.repeat(digit, 1, 2)}),
               0, 1);
  return r.seq({sign, r.alt({r.literal("0"), positive(significant_digits)}), fraction, exponent});
}

}  // namespace

Decimal Decimal::from(const base::Json& number) {
  std::string text = number.is_number_float() ? fmt::format("{}", number.get<double>()) : number.dump();
  Decimal d;
  d.negative = text[0] == '-';
  if (d.negative) text.erase(0, 1);
  long exponent = 0;
  if (const std::size_t e = text.find('e'); e != std::string::npos) {
    exponent = std::strtol(text.c_str() + e + 1, nullptr, 10);
    text.resize(e);
  }
  const std::size_t point = std::min(text.find('.'), text.size());
  d.whole = text.substr(0, point);
  d.fraction = point < text.size() ? text.substr(point + 1) : "";
  for (; exponent > 0; --exponent) {
    d.whole += d.fraction.empty() ? '0' : d.fraction[0];
    if (!d.fraction.empty()) d.fraction.erase(0, 1);
  }
  for (; exponent < 0; ++exponent) {
    d.fraction.insert(0, 1, d.whole.empty() ? '0' : d.whole.back());
    if (!d.whole.empty()) d.whole.pop_back();
  }
  d.whole.erase(0, std::min(d.whole.find_first_not_of('0'), d.whole.size()));
  if (d.whole.empty()) d.whole = "0";
  d.fraction.erase(d.fraction.find_last_not_of('0') + 1);
  if (d.zero()) d.negative = false;
  return d;
}

int compare(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) return a.negative ? -1 : 1;
  return a.negative ? compare_magnitudes(b, a) : compare_magnitudes(a, b);
}

void NumberRange::raise_low(const Decimal& bound, bool open) {
  const int order = low ? compare(bound, *low) : 1;
  if (order < 0) return;
  low_open = open || (order == 0 && low_open);
  low = bound;
}

void NumberRange::lower_high(const Decimal& bound, bool open) {
  const int order = high ? compare(bound, *high) : -1;
  if (order > 0) return;
  high_open = open || (order == 0 && high_open);
  high = bound;
}

bool NumberRange::has(const Decimal& value) const {
  if (low && compare(value, *low) < (low_open ? 1 : 0)) return false;
  if (high && compare(value, *high) > (high_open ? -1 : 0)) return false;
  return std::ranges::all_of(multiples_of, [&](const Decimal& step) { return divides(value, step); });
}

bool NumberRange::apart_from(const NumberRange& other) const {
  const auto below = [](const NumberRange& a, const NumberRange& b) {
    if (!a.high || !b.low) return false;
    const int order = compare(*a.high, *b.low);
    return order < 0 || (order == 0 && (a.high_open || b.low_open));
  };
  return below(*this, other) || below(other, *this);
}

Expr numbers_in(Regular& r, const NumberRange& range) {
  if (range.low && range.high && compare(*range.low, *range.high) > 0) return Regular::nothing;
  if (range.multiples_of.empty()) return range.bounded() ? walk(r, range, 0) : any_number(r, range.whole);
  std::int64_t divisor = 1;
  for (const Decimal& step : range.multiples_of) {
    if (!step.is_whole() || step.whole.size() > 6) return list_multiples(r, range);
    divisor = std::lcm(divisor, std::stoll(step.whole));
    if (divisor > largest_divisor) return list_multiples(r, range);
  }
  NumberRange integers = range;
  integers.whole = true;
  return walk(r, integers, divisor);
}

}  // namespace atelier::text::constraint
