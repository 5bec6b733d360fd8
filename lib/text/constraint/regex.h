#pragma once

#include <string_view>

#include "text/constraint/characters.h"
#include "text/constraint/regular.h"

namespace atelier::text::constraint {

/// The part of ECMA-262's regular expressions that is regular: characters, classes, escapes, groups (named or not, captures
/// mean nothing), alternatives, greedy and lazy quantifiers (the same language), ^ and $ for the text's ends.
/// Error(data) for the rest: look-around, back-references, \b, \B, flags, possessive quantifiers, unknown escapes.
///
/// ECMAScript and Python disagree on what \d, \w, \s and `.` hold beyond ASCII; here they hold what both agree on, and so do
/// \D, \W and \S.

/// The texts that match as a whole.
Expr whole_match(Regular& regular, std::string_view pattern, Spelling spelling);

/// The texts that hold a match somewhere: what JSON Schema's `pattern` means.
Expr search_match(Regular& regular, std::string_view pattern, Spelling spelling);

}  // namespace atelier::text::constraint
