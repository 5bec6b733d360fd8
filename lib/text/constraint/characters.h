#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "text/constraint/regular.h"

namespace atelier::text::constraint {

/// A set of Unicode scalar values: sorted ranges that do not touch.
class CodePoints {
 public:
  using Range = std::pair<std::uint32_t, std::uint32_t>;  ///< both ends belong to it

  CodePoints() = default;
  CodePoints(std::initializer_list<Range> ranges);
  static CodePoints all();  ///< without surrogates

  const std::vector<Range>& ranges() const { return ranges_; }
  bool empty() const { return ranges_.empty(); }
  CodePoints united(const CodePoints& other) const;
  CodePoints inverted() const;
  CodePoints intersected(const CodePoints& other) const { return inverted().united(other.inverted()).inverted(); }

 private:
  void normalise();
  std::vector<Range> ranges_;
};

/// How characters are spelled in bytes.
enum class Spelling {
  plain,  ///< UTF-8
  json,  ///< inside a JSON string: UTF-8, but \" \\ \b \f \n \r \t and \u00XX where JSON wants an escape, so that every text has one
         ///< spelling (Python's json.dumps(ensure_ascii=False), nlohmann::json::dump)
};

/// One character of the set.
Expr character_of(Regular& regular, const CodePoints& set, Spelling spelling);

}  // namespace atelier::text::constraint
