#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/checked.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/nearest.h"
#include "base/seed.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "support/errors.h"
#include "support/scratch.h"

using namespace atelier::base;
using atelier::test::contains;
using atelier::test::error_of;

TEST_CASE("checked arithmetic") {
  CHECK(checked_add<std::uint64_t>(UINT64_MAX - 1, 1) == UINT64_MAX);
  CHECK(!checked_add<std::uint64_t>(UINT64_MAX, 1));
  CHECK(checked_mul<std::uint64_t>(1ull << 32, (1ull << 32) - 1) == 0xFFFFFFFF00000000ull);
  CHECK(!checked_mul<std::uint64_t>(1ull << 32, 1ull << 32));
  CHECK(!checked_mul<std::int64_t>(INT64_MIN, -1));
}

TEST_CASE("printable escapes what could drive a terminal and keeps all other text") {
  using namespace std::string_literals;
  CHECK(printable("plain, \u00fcml\u00e4ut \u4e2d\U0001F600") == "plain, \u00fcml\u00e4ut \u4e2d\U0001F600");
  CHECK(printable("a\x1b[31m\r\n\t\0\x7f"s) == "a\\x1B[31m\\x0D\\x0A\\x09\\x00\\x7F");
  CHECK(printable("\xC2\x9B"
                  "2J") == "\\x9B2J");
  CHECK(printable("\xC2\xA0") == "\xC2\xA0");
  for (const char* bad : {"\x80", "\xC1\xBF", "\xE2\x82", "\xED\xA0\x80", "\xE0\x80\xAF", "\xF0\x80\x80\xAF",
                          "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80", "\xFF"}) {
    const std::string shown = printable(bad);
    CAPTURE(shown);
    CHECK(shown.size() == 4 * std::string(bad).size());
    for (const char c : shown) CHECK(static_cast<unsigned char>(c) < 0x7F);
  }
  CHECK(printable(printable("\x1b")) == printable("\x1b"));
}

TEST_CASE("in_quotes cuts long names") {
  CHECK(in_quotes("a\nb") == "\"a\\x0Ab\"");
  CHECK(in_quotes(std::string(5000, 'x')).size() < 200);
}

TEST_CASE("sha256") {
  CHECK(sha256_hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256_hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const atelier::test::Scratch scratch;
  atelier::test::put_file(scratch.file("m"), std::string(1'000'000, 'a'));
  CHECK(sha256_file(scratch.file("m")) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  CHECK(contains(error_of(ExitCode::no_input, [&] { sha256_file(scratch.file("none")); }), "none: No such file"));
  CHECK(contains(error_of(ExitCode::no_input, [&] { sha256_file(scratch.path()); }), "Is a directory"));
  request_stop(15);
  CHECK(contains(error_of(ExitCode::terminated, [&] { sha256_file(scratch.file("m")); }), "SIGTERM"));
  clear_stop();
}

TEST_CASE("parse_bytes") {
  CHECK(parse_bytes("0") == 0);
  CHECK(parse_bytes("800000000") == 800'000'000);
  CHECK(parse_bytes("4G") == 4ull << 30);
  CHECK(parse_bytes("512M") == 512ull << 20);
  CHECK(parse_bytes("1.5GiB") == 3ull << 29);
  CHECK(parse_bytes("2 GB") == 2'000'000'000);
  CHECK(parse_bytes("2TB") == 2'000'000'000'000);
  CHECK(parse_bytes("3kb") == 3000);
  CHECK(parse_bytes("7 B") == 7);
  CHECK(parse_bytes("1T") == 1ull << 40);
  CHECK(parse_bytes("18446744073709551615") == UINT64_MAX);
  for (const char* bad : {"", " ", "G", "-1", "+1", "4X", "4GG", "4 G B", "1.2.3", ".", "1e3", "0x10", "nan", "inf",
                          "4G ", "  4", "18446744073709551616", "16777216T", "99999999999.5T"}) {
    CAPTURE(bad);
    CHECK(contains(error_of(ExitCode::usage, [&] { parse_bytes(bad); }), "4G, 512M"));
  }
}

TEST_CASE("peak_rss_bytes grows with the memory touched") {
  const std::uint64_t before = peak_rss_bytes();
  CHECK(before > 1 << 20);
  const std::vector<char> block(64 << 20, 1);
  CHECK(peak_rss_bytes() >= static_cast<std::uint64_t>(block.size()));
}

TEST_CASE("nearest") {
  const std::vector<std::string> flags{"--temperature", "--top-k", "--top-p", "--max-tokens", "--seed"};
  CHECK(nearest("--temprature", flags) == "--temperature");
  CHECK(nearest("--max-token", flags) == "--max-tokens");
  CHECK(nearest("--sede", flags) == "--seed");
  CHECK(nearest("esed", std::vector<std::string>{"seed"}) == "seed");  // one swap, but two substitutions
  CHECK(nearest("--top-x", flags) == "--top-k");  // the first of equals
  CHECK(nearest("--verbose", flags).empty());
  CHECK(nearest("", flags).empty());
  CHECK(nearest("x", flags).empty());
  CHECK(nearest("--seed", {}).empty());
}

TEST_CASE("seeds fit 53 bits, and uniform draws are the same everywhere") {
  for (int i = 0; i < 1000; ++i) CHECK(draw_seed() < 1ull << 53);
  CHECK(draw_seed() != draw_seed());
  Generator generator(1);
  CHECK(uniform(generator) == static_cast<double>(Generator(1)() >> 11) / 9007199254740992.0);
  for (int i = 0; i < 1000; ++i) {
    const double u = uniform(generator);
    CHECK((u >= 0 && u < 1));
  }
}
