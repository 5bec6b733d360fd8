#include "io/safetensors.h"

#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "base/stop.h"
#include "io/mapped_file.h"
#include "io/safetensors_file.h"
#include "support/errors.h"
#include "support/scratch.h"

using namespace atelier::io;
using namespace atelier::test;
using atelier::base::ExitCode;
using namespace std::string_literals;

namespace {

SafetensorsHeader parse(const std::string& file) { return parse_safetensors(as_bytes(file), "m.safetensors"); }

std::string refusal(const std::string& file) {
  return error_of(ExitCode::data, [&] { parse(file); });
}

// One F32 tensor of 4 bytes with one of its fields replaced.
std::string tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return fmt::format(R"({{"a":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets);
}

struct Reject {
  std::string file;
  std::string message;
};

const std::string kTwo64 = "18446744073709551615";

std::vector<Reject> rejected_lengths() {
  return {
      {"", "0 bytes are too few"},
      {"1234567", "7 bytes are too few"},
      {safetensors_file(""), "unexpected end of input"},
      {safetensors_file("{}", 0, 3), "the header ends at byte 11, the file at 10"},
      {safetensors_file("{}", 0, 100'000'001), "claims 100000001 bytes, more than 100000000"},
      {safetensors_file("{}", 0, 100'000'000), "the header ends at byte 100000008"},
      {safetensors_file("{}", 0, UINT64_MAX - 1), "more than 100000000"},
      {safetensors_file("{}", 0, UINT64_MAX - 7), "more than 100000000"},
      {safetensors_file("{}", 0, 1), "malformed JSON"},
      {safetensors_file("{}", 1), "the tensors end at byte 10, the file at 11"},
      {std::string(16, '\0'), "unexpected end of input"},
      {"\x80\x02\x8a\nl\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"s, "more than 100000000"},  // a pickle
      {"PK\x03\x04\x14\x00\x08\x08\x00\x00"s, "more than 100000000"},                   // a torch zip
  };
}

std::vector<Reject> rejected_json() {
  const std::string bom = "\xEF\xBB\xBF{}";
  return {
      {safetensors_file("{}x"), "malformed JSON: line 1, column 3"},
      {safetensors_file("{} {}"), "malformed JSON"},
      {safetensors_file("{}\0"s), "zero byte"},
      {safetensors_file("{}\0\0\0\0\0\0"s), "zero byte"},
      {safetensors_file("{\"\0\":1}"s), "zero byte"},
      {safetensors_file(bom), "byte order mark"},
      {safetensors_file("{\"\xFF\":{}}"), "ill-formed UTF-8"},
      {safetensors_file("{\"\xED\xA0\x80\":{}}"), "ill-formed UTF-8"},
      {safetensors_file("{\"\\ud800\":{}}"), "malformed JSON"},
      {safetensors_file("{\"\n\":{}}"), "control character"},
      {safetensors_file("[]"), "the header is a list, expected an object"},
      {safetensors_file("null"), "the header is null"},
      {safetensors_file("1"), "the header is 1,"},
      {safetensors_file("\"a\""), "the header is \"a\""},
      {safetensors_file("true"), "the header is true"},
      {safetensors_file("{\"a\":1}"), "tensor \"a\" is 1, expected an object"},
      {safetensors_file("{\"a\":null}"), "tensor \"a\" is null"},
      {safetensors_file("{\"a\":[\"F32\",[1],[0,4]]}", 4), "tensor \"a\" is a list"},
      {safetensors_file("{\"a\":{\"dtype\":\"F32\""), "malformed JSON"},
      {safetensors_file("{,}"), "malformed JSON"},
  };
}

std::vector<Reject> rejected_keys() {
  const std::string good = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  return {
      {safetensors_file("{\"a\":{}}"), "tensor \"a\" has no dtype"},
      {safetensors_file(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4), "tensor \"a\" has no shape"},
      {safetensors_file(R"({"a":{"dtype":"F32","shape":[1]}})", 4), "tensor \"a\" has no data_offsets"},
      {safetensors_file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4), "unknown field \"x\""},
      {safetensors_file(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
       "dtype stands twice"},
      {safetensors_file(R"({"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", 4),
       "shape stands twice"},
      {safetensors_file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"data_offsets":[0,4]}})", 4),
       "data_offsets stands twice"},
      {safetensors_file("{\"a\":" + good + ",\"a\":" + good + "}", 4), "key \"a\" stands twice"},
      {safetensors_file("{\"a\":" + good + ",\"\\u0061\":" + good + "}", 4), "key \"a\" stands twice"},
      {safetensors_file(R"({"__metadata__":{},"__metadata__":{}})"), "key \"__metadata__\" stands twice"},
      {safetensors_file(R"({"__metadata__":{"k":"1","k":"2"}})"), "key \"k\" stands twice in __metadata__"},
      {safetensors_file(R"({"__metadata__":null})"), "__metadata__ is null, expected an object"},
      {safetensors_file(R"({"__metadata__":[]})"), "__metadata__ is a list"},
      {safetensors_file(R"({"__metadata__":"x"})"), "__metadata__ is \"x\""},
      {safetensors_file(R"({"__metadata__":{"k":1}})"), "__metadata__ \"k\" is 1, expected a string"},
      {safetensors_file(R"({"__metadata__":{"k":{}}})"), "__metadata__ \"k\" is an object"},
      {safetensors_file(R"({"__metadata__":{"k":null}})"), "__metadata__ \"k\" is null"},
  };
}

std::vector<Reject> rejected_fields() {
  return {
      {safetensors_file(tensor("\"F33\"", "[1]", "[0,4]"), 4), "unknown dtype \"F33\""},
      {safetensors_file(tensor("\"f32\"", "[1]", "[0,4]"), 4), "unknown dtype \"f32\""},
      {safetensors_file(tensor("1", "[1]", "[0,4]"), 4), "dtype is 1, expected a string"},
      {safetensors_file(tensor("{\"F32\":null}", "[1]", "[0,4]"), 4), "dtype is an object"},
      {safetensors_file(tensor("\"F32\"", "1", "[0,4]"), 4), "shape is 1, expected a list"},
      {safetensors_file(tensor("\"F32\"", "null", "[0,4]"), 4), "shape is null"},
      {safetensors_file(tensor("\"F32\"", "[-1]", "[0,4]"), 4), "shape holds -1"},
      {safetensors_file(tensor("\"F32\"", "[1.0]", "[0,4]"), 4), "shape holds 1.0"},
      {safetensors_file(tensor("\"F32\"", "[1e0]", "[0,4]"), 4), "shape holds 1e0"},
      {safetensors_file(tensor("\"F32\"", "[-0]", "[0,0]")), "shape holds 0"},
      {safetensors_file(tensor("\"F32\"", "[\"1\"]", "[0,4]"), 4), "shape holds \"1\""},
      {safetensors_file(tensor("\"F32\"", "[[1]]", "[0,4]"), 4), "shape holds a list"},
      {safetensors_file(tensor("\"F32\"", "[" + kTwo64 + "]", "[0,4]"), 4), "shape holds 18446744073709551615"},
      {safetensors_file(tensor("\"F32\"", "[" + kTwo64 + "0]", "[0,4]"), 4), "shape holds 184467440737095516150"},
      {safetensors_file(tensor("\"F32\"", "[0,9223372036854775808]", "[0,0]")), "shape holds 9223372036854775808"},
      {safetensors_file(tensor("\"F32\"", "[" + fmt::format("{:1>{}}", "", 65) + "]", "[0,4]"), 4), "shape holds"},
      {safetensors_file(tensor(
                            "\"F32\"",
                            "[1" +
                                [] {
                                  std::string s;
                                  for (int i = 0; i < 64; ++i) s += ",1";
                                  return s;
                                }() +
                                "]",
                            "[0,4]"),
                        4),
       "more than 64 dimensions"},
      {safetensors_file(tensor("\"F32\"", "[1]", "[0]"), 4), "data_offsets needs two numbers"},
      {safetensors_file(tensor("\"F32\"", "[1]", "[]"), 4), "data_offsets needs two numbers"},
      {safetensors_file(tensor("\"F32\"", "[1]", "[0,4,8]"), 4), "data_offsets needs two numbers"},
      {safetensors_file(tensor("\"F32\"", "[1]", "[0,-4]"), 4), "data_offsets holds -4"},
      {safetensors_file(tensor("\"F32\"", "[1]", "[0.0,4]"), 4), "data_offsets holds 0.0"},
      {safetensors_file(tensor("\"F32\"", "[1]", "4"), 4), "data_offsets is 4, expected a list"},
      {safetensors_file(tensor("\"F32\"", "[1]", "{\"0\":4}"), 4), "data_offsets is an object"},
  };
}

std::string two(const std::string& first, const std::string& second) {
  return fmt::format(
      R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
      first, second);
}

std::vector<Reject> rejected_layouts() {
  return {
      {safetensors_file(tensor("\"F32\"", "[1]", "[4,0]"), 4), "tensor \"a\" begins at byte 4 and ends at byte 0"},
      {safetensors_file(tensor("\"F32\"", "[2]", "[0,4]"), 4),
       "tensor \"a\" takes 8 bytes by its shape, 4 by its offsets"},
      {safetensors_file(tensor("\"F32\"", "[0]", "[0,4]"), 4), "takes 0 bytes by its shape, 4 by its offsets"},
      {safetensors_file(tensor("\"F32\"", "[4294967296,4294967296]", "[0,4]"), 4),
       "not a whole number of bytes below 2^64"},
      {safetensors_file(tensor("\"F32\"", "[4294967296,4294967296,0]", "[0,0]")),
       "not a whole number of bytes below 2^64"},
      {safetensors_file(tensor("\"F32\"", "[4611686018427387905]", "[0,4]"), 4),
       "not a whole number of bytes below 2^64"},
      {safetensors_file(tensor("\"F4\"", "[3]", "[0,1]"), 1), "not a whole number of bytes"},
      {safetensors_file(tensor("\"F6_E3M2\"", "[3]", "[0,2]"), 2), "not a whole number of bytes"},
      {safetensors_file(tensor("\"F32\"", "[1]", "[0,4]"), 3), "ends at byte 66, the file at 65"},
      {safetensors_file(tensor("\"F32\"", "[1]", "[0,4]"), 5), "the tensors end at byte 66, the file at 67"},
      {safetensors_file(tensor("\"F32\"", "[1]", "[4,8]"), 8),
       "begins at byte 4 of the data, where byte 0 is due: a hole"},
      {safetensors_file(tensor("\"U8\"", "[0]", "[" + kTwo64 + "," + kTwo64 + "]")), "where byte 0 is due: a hole"},
      {safetensors_file(tensor("\"U8\"", "[9223372036854775807]", "[0,9223372036854775807]"), 8), "not a whole number"},
      {safetensors_file(tensor("\"U8\"", "[2305843009213693951]", "[0,2305843009213693951]"), 8),
       "ends at byte 23058430092136940"},
      {safetensors_file(two("[0,4]", "[5,9]"), 9),
       "tensor \"b\" begins at byte 5 of the data, where byte 4 is due: a hole"},
      {safetensors_file(two("[0,4]", "[3,7]"), 7),
       "tensor \"b\" begins at byte 3 of the data, where byte 4 is due: an overlap"},
      {safetensors_file(two("[0,4]", "[0,4]"), 4), "where byte 4 is due: an overlap"},
      {safetensors_file(two("[4,8]", "[5,9]"), 9), "tensor \"a\" begins at byte 4 of the data, where byte 0 is due"},
      {safetensors_file(two("[0,4]", "[4,8]"), 7), "tensor \"b\" ends at byte"},
  };
}

}  // namespace

TEST_CASE("safetensors: every malformed file is refused with a message that says why") {
  int count = 0;
  for (const auto& group :
       {rejected_lengths(), rejected_json(), rejected_keys(), rejected_fields(), rejected_layouts()}) {
    for (const Reject& reject : group) {
      const std::string message = refusal(reject.file);
      CAPTURE(message);
      CAPTURE(reject.message);
      CHECK(message.starts_with("m.safetensors: "));
      CHECK(contains(message, reject.message));
      ++count;
    }
  }
  CHECK(count >= 90);
}

TEST_CASE("safetensors: bombs of nesting are refused, each in under a second") {
  for (const char* before :
       {"", "{\"a\":", "{\"__metadata__\":", "{\"a\":{\"dtype\":", "{\"a\":{\"x\":", "{\"a\":{\"shape\":["}) {
    std::string objects = before;
    for (int i = 0; i < 512'000; ++i) objects += "{\"a\":";
    for (const std::string& bomb : {safetensors_file(before + std::string(512'000, '[')), safetensors_file(objects)}) {
      const auto start = std::chrono::steady_clock::now();
      CHECK(refusal(bomb) != "(no error)");
      CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 1);
    }
  }
}

TEST_CASE("safetensors: a hostile name cannot make the message long or drive the terminal") {
  const std::string message = refusal(safetensors_file("{\"" + std::string(100'000, 'n') + "\\u001b[2J\":1}"));
  CHECK(message.size() < 300);
  CHECK(refusal(safetensors_file("{\"\\u001b[2J\\n\":1}")).find_first_of("\x1b\n") == std::string::npos);
}

TEST_CASE("safetensors: read leniently") {
  CHECK(parse(safetensors_file("{}")).tensors.empty());
  CHECK(parse(safetensors_file(" \t\r\n{ } \n ")).tensors.empty());
  CHECK(parse(safetensors_file("{\"__metadata__\":{}}")).metadata.empty());
  // Metadata last, tensors in any order, blanks everywhere, a header length that is no multiple of 8, an escaped name.
  const SafetensorsHeader header = parse(safetensors_file(
      R"( {"b" : {"data_offsets":[4,8],"shape":[2,2],"dtype":"U8"}, "\u00e9/\"" : {"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("" : {"dtype":"I64","shape":[3,0],"data_offsets":[4,4]},"__metadata__":{"format":"pt","":""}})",
      8));
  REQUIRE(header.tensors.size() == 3);
  CHECK(header.tensors[0].name == "\u00e9/\"");
  CHECK(header.tensors[0].shape.empty());
  CHECK(header.tensors[0].elements() == 1);
  CHECK(header.tensors[1].name.empty());
  CHECK(header.tensors[1].elements() == 0);
  CHECK(header.tensors[2].shape == std::vector<std::int64_t>{2, 2});
  CHECK(header.tensors[2].bytes() == 4);
  CHECK(header.metadata.at("format") == "pt");
}

TEST_CASE("safetensors: a 0 in the shape makes 0 elements, however large the other numbers are") {
  const auto elements = [](const char* shape) {
    return parse(safetensors_file(tensor("\"U8\"", shape, "[0,0]"))).tensors[0].elements();
  };
  CHECK(elements("[4,2305843009213693952,0]") == 0);  // found by the fuzzer: the product overflowed before the 0
  CHECK(elements("[0,9223372036854775807,9223372036854775807]") == 0);
}

TEST_CASE("safetensors: packed dtypes of less than a byte") {
  CHECK(parse(safetensors_file(tensor("\"F4\"", "[3,2]", "[0,3]"), 3)).tensors[0].elements() == 6);
  CHECK(parse(safetensors_file(tensor("\"F6_E2M3\"", "[4]", "[0,3]"), 3)).tensors[0].dtype == DType::F6_E2M3);
}

TEST_CASE("safetensors: every dtype makes the round trip") {
  const Scratch scratch;
  std::vector<std::string> data;
  std::vector<TensorBytes> tensors;
  for (int i = 0; i <= static_cast<int>(DType::U64); ++i) {
    const auto dtype = static_cast<DType>(i);
    std::string bytes(static_cast<std::size_t>(8 * dtype_bits(dtype) / 8), '\0');
    for (std::size_t j = 0; j < bytes.size(); ++j) bytes[j] = static_cast<char>(i * 31 + static_cast<int>(j));
    data.push_back(bytes);
  }
  for (int i = 0; i <= static_cast<int>(DType::U64); ++i) {
    const auto dtype = static_cast<DType>(i);
    tensors.push_back({{std::string(dtype_name(dtype)), dtype, {2, 4}}, as_bytes(data[static_cast<std::size_t>(i)])});
  }
  write_safetensors(scratch.file("all.safetensors"), tensors, {{"format", "pt"}, {"quote\"\n", "\u00e9"}});
  const auto file = MappedFile::open(scratch.file("all.safetensors"));
  const SafetensorsHeader header = parse_safetensors(file->bytes(), "all");
  REQUIRE(header.tensors.size() == tensors.size());
  CHECK(header.metadata.at("quote\"\n") == "\u00e9");
  for (const TensorInfo& info : header.tensors) {
    CAPTURE(info.name);
    const TensorBytes& wrote = tensors[static_cast<std::size_t>(info.dtype)];
    CHECK(info.name == dtype_name(info.dtype));
    CHECK(info.shape == wrote.info.shape);
    REQUIRE(info.bytes() == wrote.data.size());
    CHECK(std::memcmp(file->bytes().data() + info.begin, wrote.data.data(), wrote.data.size()) == 0);
    CHECK(info.begin * 8 % static_cast<unsigned>(dtype_bits(info.dtype)) == 0);  // aligned to its own type
  }
}

// safetensors 0.8.0: serialize({"b": F32 [2], "a": F32 [1], "z": I64 [], "h\u00e9\x01": BF16 [2]}, {"format": "pt"})
TEST_CASE("safetensors: writes the very bytes that the Python library writes") {
  const Scratch scratch;
  const std::string data(8, '\x01');
  const auto part = [&](std::size_t n) { return as_bytes(data).first(n); };
  const std::vector<TensorBytes> tensors{{{"h\u00e9\x01", DType::BF16, {2}}, part(4)},
                                         {{"b", DType::F32, {2}}, part(8)},
                                         {{"z", DType::I64, {}}, part(8)},
                                         {{"a", DType::F32, {1}}, part(4)}};
  write_safetensors(scratch.file("x"), tensors, {{"format", "pt"}});
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"z":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]},)"
      "\"h\u00e9\\u0001\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[20,24]}}";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  CHECK(get_file(scratch.file("x")) == safetensors_file(padded) + std::string(24, '\x01'));
}

TEST_CASE("safetensors: an empty set of tensors, scalars and empty tensors can be written") {
  const Scratch scratch;
  write_safetensors(scratch.file("x"), {}, {});
  CHECK(get_file(scratch.file("x")) == safetensors_file("{}      "));
  const std::vector<TensorBytes> tensors{{{"e", DType::F32, {0, 7}}, {}}, {{"s", DType::U8, {}}, as_bytes("x")}};
  write_safetensors(scratch.file("x"), tensors, {});
  CHECK(parse(get_file(scratch.file("x"))).tensors.size() == 2);
}

TEST_CASE("safetensors: what does not fit together is never written") {
  const Scratch scratch;
  const std::string path = scratch.file("x");
  put_file(path, "old");
  const auto attempt = [&](ExitCode code, const std::vector<TensorBytes>& tensors,
                           const std::map<std::string, std::string>& metadata = {}) {
    const std::string message = error_of(code, [&] { write_safetensors(path, tensors, metadata); });
    CHECK(message != "(no error)");
    CHECK(get_file(path) == "old");
  };
  const auto four = as_bytes("1234");
  attempt(ExitCode::internal, {{{"a", DType::F32, {2}}, four}});
  attempt(ExitCode::internal, {{{"a", DType::F32, {-1}}, four}});
  attempt(ExitCode::internal, {{{"a", DType::F4, {3}}, four.first(1)}});
  attempt(ExitCode::internal, {{{"a", DType::F32, {1}}, four}, {{"a", DType::U8, {4}}, four}});
  attempt(ExitCode::internal, {{{"__metadata__", DType::F32, {1}}, four}});
  attempt(ExitCode::data, {{{"\xFF", DType::F32, {1}}, four}});
  attempt(ExitCode::data, {{{"a", DType::F32, {1}}, four}}, {{"k", "\xC0\x80"}});
  attempt(ExitCode::data, {}, {{"k", std::string(100'000'000, 'v')}});
  atelier::base::request_stop(2);
  attempt(ExitCode::interrupted, {{{"a", DType::F32, {1}}, four}});
  atelier::base::clear_stop();
  CHECK(std::distance(std::filesystem::directory_iterator(scratch.path()), {}) == 1);
}
