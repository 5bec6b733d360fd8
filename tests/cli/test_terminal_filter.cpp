// Model output on a terminal (cli/terminal_filter.h).
#include <doctest/doctest.h>
#include <random>

#include "cli/terminal_filter.h"

using atelier::cli::TerminalFilter;

namespace {

std::string filtered(std::string_view text) {
  TerminalFilter filter;
  std::string out = filter.feed(text);
  return out + filter.finish();
}

// Pieces that matter, whole and broken, in random order.
std::string random_stream(std::mt19937_64& random) {
  static const std::string pieces[] = {"word ",
                                       "\n",
                                       "\t",
                                       "é",
                                       "漢字",
                                       "😀",
                                       "\x1b",
                                       "\x1b[",
                                       "\x1b[31m",
                                       "\x1b[?25l",
                                       "\x1b]0;t\x07",
                                       "\x1b]8;;http://x\x1b\\",
                                       "\x1bP1$q\x1b\\",
                                       "\x1b_apc\x1b\\",
                                       "\x1b^pm\x1b\\",
                                       "\x1bXsos\x1b\\",
                                       "\xc2\x9b"
                                       "1m",
                                       "\xc2\x9d"
                                       "0;t\xc2\x9c",
                                       "\xc2\x90q\xc2\x9c",
                                       "\xc2\x85",
                                       "\x7f",
                                       "\x08",
                                       "\r",
                                       "\x9b",
                                       "\xff",
                                       "\xc2",
                                       "\xe2\x80",
                                       "\xe2\x80\xae",
                                       "\xe2\x81\xa6",
                                       "\xf0\x9f",
                                       "\xed\xa0\x80",
                                       "\xc0\xaf",
                                       "\x1b(B",
                                       "\x1b#8",
                                       "\x1b"
                                       "c",
                                       "\x18",
                                       "\x1a",
                                       "\x07",
                                       "\\",
                                       "m",
                                       "]",
                                       "[",
                                       std::string(1, '\0'),
                                       "\x1b\x1b",
                                       "\x1b]\x1b[2J",
                                       "\xe2\x80\xa8"};
  std::string text;
  for (std::size_t n = 1 + random() % 14; n > 0; --n) text += pieces[random() % std::size(pieces)];
  return text;
}

bool harmless(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto b = static_cast<unsigned char>(text[i]);
    if ((b < 0x20 && b != '\n' && b != '\t') || b == 0x7F) return false;
    if (b == 0xC2 && static_cast<unsigned char>(text[i + 1]) < 0xA0) return false;
    if (text.substr(i, 2) == "\xe2\x80" && static_cast<unsigned char>(text[i + 2]) >= 0xAA &&
        static_cast<unsigned char>(text[i + 2]) <= 0xAE)
      return false;
    if (text.substr(i, 2) == "\xe2\x81" && static_cast<unsigned char>(text[i + 2]) >= 0xA6 &&
        static_cast<unsigned char>(text[i + 2]) <= 0xA9)
      return false;
  }
  return true;
}

}  // namespace

TEST_CASE("ordinary text passes unchanged") {
  for (const char* text : {"", "plain\n\ttext", "é ñ 漢字 😀 \xc2\xa0", "[31m ]0; \\ ~", "\xe2\x80\xa8\xe2\x80\x8b"})
    CHECK(filtered(text) == text);
}

TEST_CASE("sequences vanish as a whole") {
  CHECK(filtered("a\x1b[31mb\x1b[0mc") == "abc");
  CHECK(filtered("a\x1b[38;5;1;2 qb") == "ab");
  CHECK(filtered("a\xc2\x9b"
                 "31mb") == "ab");
  CHECK(filtered("a\x1b]0;title\x07"
                 "b") == "ab");
  CHECK(filtered("a\x1b]52;c;ZXZpbA==\x1b\\b") == "ab");
  CHECK(filtered("a\xc2\x9d"
                 "0;t\xc2\x9c"
                 "b") == "ab");
  CHECK(filtered("a\x1bP1;2|xx\x1b\\b\x1b_x\x1b\\c\x1b^x\x1b\\d\x1bXx\x1b\\e") == "abcde");
  CHECK(filtered("a\x1b(Bb\x1b#8c\x1b"
                 "cd") == "abcd");
  CHECK(filtered("a\x1b[3\x1b[31mb") == "ab");
  CHECK(filtered("a\x1b]t\x1b[31mb") == "ab");
}

TEST_CASE("controls and reordering characters vanish, broken UTF-8 shows") {
  CHECK(filtered("a\rb\bc\x7f"
                 "d\x07"
                 "e\x0e") == "abcde");
  CHECK(filtered("a\xc2\x85"
                 "b\xc2\x9f\n"
                 "c") == "ab\nc");
  CHECK(filtered("\xe2\x80\xaa\xe2\x80\xae"
                 "a\xe2\x81\xa6\xe2\x81\xa9") == "a");
  CHECK(filtered("a\xff"
                 "b\xc2") ==
        "a\xEF\xBF\xBD"
        "b\xEF\xBF\xBD");
  CHECK(filtered("\x9b"
                 "31m") ==
        "\xEF\xBF\xBD"
        "31m");
  CHECK(filtered("\xed\xa0\x80"
                 "\xc0\xaf") == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST_CASE("an unfinished sequence takes no more than its line") {
  CHECK(filtered("a\x1b]0;never ended\nb") == "a\nb");
  CHECK(filtered("a\x1b[12\nb") == "a\nb");
  CHECK(filtered("a\x1b") == "a");
}

TEST_CASE("1,000 streams, split at every byte, give what they give whole") {
  std::mt19937_64 random(7);
  for (int i = 0; i < 1000; ++i) {
    const std::string text = random_stream(random);
    const std::string whole = filtered(text);
    CHECK(harmless(whole));
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      TerminalFilter filter;
      std::string out = filter.feed(std::string_view(text).substr(0, cut));
      out += filter.feed(std::string_view(text).substr(cut));
      REQUIRE(out + filter.finish() == whole);
    }
    TerminalFilter filter;
    std::string out;
    for (const char c : text) out += filter.feed({&c, 1});
    REQUIRE(out + filter.finish() == whole);
  }
}
