#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/constraint/regular.h"

namespace atelier::text::constraint {

/// A number as it is written: exact, unlike a double.
struct Decimal {
  bool negative = false;
  std::string whole = "0";  ///< without leading zeros
  std::string fraction;     ///< without trailing zeros

  /// The shortest decimal that reads back as the same number.
  static Decimal from(const base::Json& number);
  bool zero() const { return whole == "0" && fraction.empty(); }
  bool is_whole() const { return fraction.empty(); }
};
/// -1, 0 or 1.
int compare(const Decimal& a, const Decimal& b);

/// Which numbers are meant.
struct NumberRange {
  std::optional<Decimal> low = std::nullopt, high = std::nullopt;
  bool low_open = false, high_open = false;  ///< the bound itself is outside
  std::vector<Decimal> multiples_of;         ///< positive
  bool whole = false;                        ///< integers

  void raise_low(const Decimal& bound, bool open);
  void lower_high(const Decimal& bound, bool open);
  bool bounded() const { return low || high; }
  bool has(const Decimal& value) const;
  /// Whether no number lies in both ranges; false where that is not seen.
  bool apart_from(const NumberRange& other) const;
};

/// The JSON texts of the numbers in a range, written plainly: integers of up to 18 digits or what the bounds ask for; others
/// with up to 15 significant digits, so that readers who take them for doubles find them on the same side of every bound.
/// Without bounds exponents of two digits are allowed too. Multiples of a fraction are listed (20,000 of them, nearest the
/// range's beginning or 0), only those that divide without a rest in double arithmetic too.
Expr numbers_in(Regular& regular, const NumberRange& range);

}  // namespace atelier::text::constraint
