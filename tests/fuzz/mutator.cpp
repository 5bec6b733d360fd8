// Inputs of fuzz_safetensors: headers, files, JSON and shard indices, nearly right.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <random>
#include <string>
#include <string_view>

#include "fuzz/inputs.h"

namespace {

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  std::string input() {
    const std::size_t kind = below(8);
    std::string text;
    switch (kind) {
      case 0: text = below(2) == 0 ? header() : json(0); break;
      case 1: text = index(); break;
      default: text = header(); break;
    }
    const bool random_bytes = below(50) == 0;
    if (random_bytes) {
      text.clear();
      for (std::size_t i = below(200); i > 0; --i) text += static_cast<char>(below(256));
    }
    for (std::size_t i = below(4); i > 0; --i) mutate(text);
    if (kind > 1 && below(60) != 0) text = file(text);
    return static_cast<char>(kind) + text;
  }

 private:
  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }

  template <std::size_t N>
  std::string_view pick(const char* const (&choices)[N]) {
    return choices[below(N)];
  }

  std::string header() {
    static constexpr const char* kNames[] = {"a",       "b",        "c.weight",       "",
                                             "\\u0061", "\xC3\xA9", "\\ud83d\\ude00", "__metadata__"};
    static constexpr struct {
      const char* name;
      std::size_t bits;
    } kTypes[] = {{"F32", 32}, {"BF16", 16}, {"F4", 4},      {"F6_E2M3", 6},
                  {"BOOL", 8}, {"U64", 64},  {"F8_E8M0", 8}, {"C64", 64}};
    data_ = 0;
    std::string text = "{";
    for (std::size_t count = below(5), i = 0; i < count; ++i) {
      const auto& type = kTypes[below(std::size(kTypes))];
      std::size_t bits = type.bits;
      std::string shape;
      for (std::size_t rank = below(4); rank > 0; --rank) {
        const std::size_t size = below(9) == 0 ? 0 : 4 * below(3) + 4;
        bits *= size;
        shape += (shape.empty() ? "" : ",") + std::to_string(size);
      }
      const std::size_t end = data_ + bits / 8;
      if (text.size() > 1) text += ',';
      text += '"' + std::string(below(2) == 0 ? pick(kNames) : "n" + std::to_string(i)) + R"(":{"dtype":")" +
              type.name + R"(","shape":[)" + shape + R"(],"data_offsets":[)" + std::to_string(data_) + ',' +
              std::to_string(end) + "]}";
      data_ = end;
    }
    if (below(4) == 0) text += std::string(text.size() > 1 ? "," : "") + R"("__metadata__":{"format":"pt","k":"v"})";
    return text + '}';
  }

  std::string json(int depth) {
    switch (depth > 5 ? below(4) : below(6)) {
      case 0: return std::string(pick(kTokens));
      case 1: return std::to_string(random_());
      case 2: return "\"" + std::string(pick(kTokens)) + "\"";
      case 3: return std::to_string(std::uniform_real_distribution<double>(-1e9, 1e9)(random_));
      case 4: return "[" + json(depth + 1) + "," + json(depth + 1) + "]";
      default: return "{\"a\":" + json(depth + 1) + ",\"b\":" + json(depth + 1) + "}";
    }
  }

  std::string index() {
    static constexpr const char* kShards[] = {
        "a.safetensors",    "../a.safetensors", "/etc/passwd", ".", "x/a.safetensors", "a.safetensors\\u0000", "",
        "none.safetensors", "a.safetensors\\n"};
    std::string text = R"({"metadata":{"total_size":1},"weight_map":{)";
    for (std::size_t count = below(4), i = 0; i < count; ++i) {
      text += (i > 0 ? ",\"t" : "\"t") + std::to_string(i) + "\":\"" +
              std::string(below(3) == 0 ? pick(kShards) : kShards[0]) + '"';
    }
    return text + "}}";
  }

  // Puts the length before the header and the data after it; both are sometimes wrong.
  std::string file(const std::string& text) {
    std::uint64_t length = text.size();
    if (below(20) == 0) length += below(3) - 1;
    if (below(40) == 0) length = random_() >> below(64);
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i));
    bytes += text;
    const std::size_t data = below(10) == 0 ? below(64) : data_;
    for (std::size_t i = 0; i < data; ++i) bytes += static_cast<char>(below(2));
    return bytes;
  }

  void mutate(std::string& text) {
    const std::size_t at = below(text.size() + 1);
    const std::size_t end = std::min(text.size(), at + 1 + below(8));
    switch (below(8)) {
      case 0: text.erase(at, end - at); break;
      case 1: text.insert(at, pick(kTokens)); break;
      case 2: text.insert(at, text.substr(at, end - at)); break;
      case 3: text.insert(at, 1, static_cast<char>(below(256))); break;
      case 4:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 5: replace_number(text, at); break;
      case 6: text.resize(at); break;
      default: text.insert(at, std::string(1 + below(below(20) == 0 ? 5000 : 3), "[{\"\\,0 "[below(7)])); break;
    }
  }

  void replace_number(std::string& text, std::size_t at) {
    const std::size_t first = text.find_first_of("0123456789", at);
    if (first == std::string::npos) return;
    const std::size_t last = std::min(text.find_first_not_of("0123456789", first), text.size());
    text.replace(first, last - first, pick(kNumbers));
  }

  static constexpr const char* kNumbers[] = {"0",
                                             "1",
                                             "-1",
                                             "-0",
                                             "1.0",
                                             "1e3",
                                             "1e999",
                                             "2147483648",
                                             "4294967296",
                                             "9223372036854775807",
                                             "9223372036854775808",
                                             "18446744073709551615",
                                             "18446744073709551616",
                                             "18446744073709551608",
                                             "2305843009213693952",
                                             "99999999999999999999999",
                                             "00",
                                             "0x1"};
  static constexpr const char* kTokens[] = {"null",
                                            "true",
                                            "{}",
                                            "[]",
                                            "{",
                                            "}",
                                            "[",
                                            "]",
                                            ",",
                                            ":",
                                            "\"",
                                            "\\",
                                            "\\u0000",
                                            "\\ud800",
                                            "\\udc00",
                                            "\"dtype\":",
                                            "\"shape\":",
                                            "\"data_offsets\":",
                                            "__metadata__",
                                            "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},",
                                            "\xEF\xBB\xBF",
                                            "\xFF",
                                            "\xC0\x80",
                                            "\xED\xA0\x80",
                                            "\n",
                                            "\t ",
                                            "-",
                                            "1e5",
                                            "\"x\":1,",
                                            "weight_map"};

  std::mt19937_64 random_;
  std::size_t data_ = 0;  // bytes that the header last made describes
};

}  // namespace

namespace atelier::test {

std::string fuzz_input(std::uint64_t seed) { return Mutator(seed).input(); }

}  // namespace atelier::test
