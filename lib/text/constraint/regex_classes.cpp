#include <array>
#include <string>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "text/constraint/regex_ast.h"

namespace atelier::text::constraint {
namespace {

// Blocks without decimal digits, and beyond ASCII: \D may stand for them under either reading.
const CodePoints digit_free = {{0x80, 0x5FF}, {0x1E00, 0xA61F}, {0xAC00, 0xD7A3}, {0x1F300, 0x1FAFF}};
// Beyond ASCII and no letter, digit or mark in any reading: punctuation, symbols, emoji.
const CodePoints wordless = {{0x2010, 0x2027}, {0x2030, 0x205E}, {0x20A0, 0x20BF}, {0x2190, 0x23FF},
                             {0x2500, 0x26FF}, {0x3001, 0x3004}, {0x3008, 0x3020}, {0x1F300, 0x1F5FF}};
const CodePoints ascii = {{0, 0x7F}};
const CodePoints spaces_anywhere = {{0x09, 0x0D},     {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                    {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                    {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};

const CodePoints upper_letters = {{'A', 'Z'},     {0xC0, 0xD6},   {0xD8, 0xDE},
                                  {0x391, 0x3A1}, {0x3A3, 0x3AB}, {0x400, 0x42F}};
const CodePoints lower_letters = {{'a', 'z'}, {0xDF, 0xF6}, {0xF8, 0xFF}, {0x3B1, 0x3CB}, {0x430, 0x45F}};
// Letters of the scripts that are written most.
const CodePoints other_letters = {{0x100, 0x1BA},   {0x388, 0x38A},   {0x5D0, 0x5EA},   {0x620, 0x64A},
                                  {0x905, 0x939},   {0xE01, 0xE30},   {0x3041, 0x3096}, {0x30A1, 0x30FA},
                                  {0x4E00, 0x9FFF}, {0xAC00, 0xD7A3}, {0x1E00, 0x1EFF}};
const CodePoints ascii_punctuation = {{'!', '#'}, {'%', '*'}, {',', '/'}, {':', ';'}, {'?', '@'},
                                      {'[', ']'}, {'_', '_'}, {'{', '{'}, {'}', '}'}};

CharacterClass letters(const CodePoints& in, const CodePoints& ascii_members) {
  return {in, ascii.intersected(ascii_members.inverted()).united(wordless)};
}

}  // namespace

CharacterClass class_of(const CodePoints& set) { return {set, set.inverted()}; }

CharacterClass shorthand_class(char letter) {
  const CodePoints digits = {{'0', '9'}}, word = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
  if (letter == 'd') return {digits, ascii.intersected(digits.inverted()).united(digit_free)};
  if (letter == 'w') return {word, ascii.intersected(word.inverted()).united(wordless)};
  return {{{0x09, 0x0D}, {' ', ' '}}, spaces_anywhere.inverted()};
}

CharacterClass property_class(std::string_view name) {
  const CodePoints ascii_letters = {{'A', 'Z'}, {'a', 'z'}}, digits = {{'0', '9'}};
  if (name == "Any") return class_of(CodePoints::all());
  if (name == "ASCII") return class_of(ascii);
  if (name == "L" || name == "Letter" || name == "Alphabetic")
    return letters(upper_letters.united(lower_letters).united(other_letters), ascii_letters);
  if (name == "Lu" || name == "Uppercase_Letter") return letters(upper_letters, {{'A', 'Z'}});
  if (name == "Ll" || name == "Lowercase_Letter") return letters(lower_letters, {{'a', 'z'}});
  if (name == "N" || name == "Nd" || name == "Number" || name == "Decimal_Number")
    return {digits, shorthand_class('d').out.intersected(letters({}, digits).out.united(other_letters))};
  if (name == "P" || name == "Punctuation")
    return {ascii_punctuation.united({{0x2010, 0x2027}, {0x3001, 0x3003}}),
            ascii.intersected(ascii_punctuation.inverted())
                .united(upper_letters)
                .united(lower_letters)
                .united(other_letters)};
  throw base::Error(base::ExitCode::data,
                    fmt::format("the Unicode property {} is not supported", base::in_quotes(std::string(name))),
                    "L, Lu, Ll, N, Nd, P, ASCII and Any are");
}

}  // namespace atelier::text::constraint
