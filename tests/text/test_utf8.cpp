#include <doctest/doctest.h>

#include "goldens.h"
#include "text/utf8.h"

using namespace atelier;

namespace {

struct Row {
  const char* hex;
  bool valid;
  int maximal_parts;  ///< U+FFFDs of replace_invalid; -1: it is valid
  int complete;       ///< complete_prefix
};

// Unicode's table 3-7 at its edges, and examples of its section 3.9.
constexpr Row kRows[] = {{"", true, -1, 0},
                         {"00", true, -1, 1},
                         {"7f", true, -1, 1},
                         {"c280", true, -1, 2},
                         {"dfbf", true, -1, 2},
                         {"e0a080", true, -1, 3},
                         {"ecbfbf", true, -1, 3},
                         {"ed9fbf", true, -1, 3},
                         {"ee8080", true, -1, 3},
                         {"efbfbf", true, -1, 3},
                         {"f0908080", true, -1, 4},
                         {"f48fbfbf", true, -1, 4},
                         {"61c3a962", true, -1, 4},
                         {"efbfbd", true, -1, 3},
                         {"80", false, 1, 1},
                         {"bf", false, 1, 1},
                         {"c0", false, 1, 1},
                         {"c1", false, 1, 1},
                         {"c080", false, 2, 2},
                         {"c1bf", false, 2, 2},
                         {"c2", false, 1, 0},
                         {"df", false, 1, 0},
                         {"e0", false, 1, 0},
                         {"e080", false, 2, 2},
                         {"e09fbf", false, 3, 3},
                         {"e0a0", false, 1, 0},
                         {"eda080", false, 3, 3},
                         {"edbfbf", false, 3, 3},
                         {"ed80", false, 1, 0},
                         {"ef", false, 1, 0},
                         {"efbf", false, 1, 0},
                         {"f0", false, 1, 0},
                         {"f090", false, 1, 0},
                         {"f09080", false, 1, 0},
                         {"f08f8080", false, 4, 4},
                         {"f080", false, 2, 2},
                         {"f4908080", false, 4, 4},
                         {"f48f", false, 1, 0},
                         {"f5808080", false, 4, 4},
                         {"ff", false, 1, 1},
                         {"fe", false, 1, 1},
                         {"f8888080", false, 4, 4},
                         {"61f1808062", false, 1, 5},
                         {"61f18080e180c262806380bf64", false, 6, 13},
                         {"c3c3a9", false, 1, 3},
                         {"e29661", false, 1, 3},
                         {"61e296", false, 1, 1},
                         {"6162c3", false, 1, 2},
                         {"808080", false, 3, 3},
                         {"61808080", false, 3, 4},
                         {"f09f98f09f9880", false, 1, 7},
                         {"e0a0e0", false, 2, 2},
                         {"ed9f", false, 1, 0},
                         {"eda0", false, 2, 2}};

int replacements(const std::string& text) {
  int count = 0;
  for (std::size_t at = 0; (at = text.find("\xEF\xBF\xBD", at)) != std::string::npos; at += 3) ++count;
  return count;
}

}  // namespace

TEST_CASE("UTF-8: valid and invalid sequences") {
  for (const Row& row : kRows) {
    CAPTURE(row.hex);
    const std::string bytes = test::from_hex(row.hex);
    CHECK(text::is_utf8(bytes) == row.valid);
    CHECK(text::complete_prefix(bytes) == static_cast<std::size_t>(row.complete));
    const std::string replaced = text::replace_invalid(bytes), each = text::replace_invalid_bytes(bytes);
    CHECK(text::is_utf8(replaced));
    CHECK(text::is_utf8(each));
    if (row.valid) {
      CHECK(replaced == bytes);
      CHECK(each == bytes);
    } else {
      CHECK(replacements(replaced) == row.maximal_parts);
      CHECK(replacements(each) >= row.maximal_parts);
    }
  }
  CHECK(text::replace_invalid(test::from_hex("61f1808062")) ==
        "a\xEF\xBF\xBD"
        "b");
  CHECK(replacements(text::replace_invalid_bytes(test::from_hex("61f1808062"))) == 3);
}

TEST_CASE("UTF-8: every code point goes there and back") {
  for (std::uint32_t c = 0; c <= 0x10FFFF; c += c < 0x3000 ? 1 : 97) {
    std::string bytes;
    text::append_utf8(bytes, c);
    const text::Utf8Step step = text::decode_utf8(bytes);
    const bool surrogate = c >= 0xD800 && c <= 0xDFFF;
    REQUIRE(step.valid);
    REQUIRE(step.length == bytes.size());
    REQUIRE(step.code_point == (surrogate ? 0xFFFD : c));
    for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
      const text::Utf8Step part = text::decode_utf8(std::string_view(bytes).substr(0, cut));
      REQUIRE_FALSE(part.valid);
      REQUIRE(part.truncated);
      REQUIRE(text::complete_prefix("ab" + bytes.substr(0, cut)) == 2);
    }
  }
  std::string beyond;
  text::append_utf8(beyond, 0x110000);
  CHECK(beyond == "\xEF\xBF\xBD");
}
