// GGUF files: what is read, bit for bit as Python's gguf package reads it, and what is refused.
#include "io/gguf.h"

#include <filesystem>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include "base/json.h"
#include "base/sha256.h"
#include "io/gguf_source.h"
#include "io/safetensors_file.h"
#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/gguf_file.h"
#include "support/scratch.h"

namespace {

using namespace atelier;
using test::GgufBuilder;
using test::little_endian;

const std::string tiny = std::string(ATELIER_TEST_DATA) + "/gguf/tiny.gguf";

io::GgufHeader parse(const std::string& file) { return io::parse_gguf(test::as_bytes(file), "f.gguf"); }

io::GgufName as_stored(const std::string& name) { return {name}; }

/// A small file in order: an entry of every sort, and two tensors.
GgufBuilder good() {
  GgufBuilder b;
  b.add("general.architecture", std::string_view("gemma2")).add("a.count", 7u).add("a.scale", 0.5F).add("a.flag", true);
  b.entry("a.small", 1, little_endian<std::int8_t>(-3)).entry("a.long", 11, little_endian<std::int64_t>(-5));
  b.list("a.names", 8, 2, GgufBuilder::text("x") + GgufBuilder::text("y"))
      .list("a.types", 5, 2, little_endian<std::int32_t>(3) + little_endian<std::int32_t>(-1));
  b.tensor("one", {4, 2}, 0, std::string(32, '\1')).tensor("two", {32}, 8, std::string(34, '\2'));
  return b;
}

}  // namespace

TEST_CASE("every type is decoded to the numbers of the gguf package, bit for bit") {
  const base::Json goldens = base::read_json_file(std::string(ATELIER_TEST_DATA) + "/gguf/goldens.json");
  const auto file = io::GgufFile::open(tiny);
  const auto source = io::open_gguf_source(file, as_stored);
  CHECK(file->header.tensors.size() == goldens["tensors"].size());
  for (const auto& [name, digest] : goldens["tensors"].items()) {
    CAPTURE(name);
    const at::Tensor numbers = source->load(name, at::kFloat, at::kCPU);
    const std::string_view bytes(static_cast<const char*>(numbers.const_data_ptr()), numbers.nbytes());
    CHECK(base::sha256_hex(bytes) == digest);
    // What is decoded to bf16 at once is what f32 rounded to bf16 is.
    CHECK(source->load(name, at::kBFloat16, at::kCPU).equal(numbers.to(at::kBFloat16)));
  }
  CHECK(source->unused().empty());
  CHECK(source->files().size() == 1);
}

TEST_CASE("a name map renames, takes off, and may not name two tensors alike") {
  const auto file = io::GgufFile::open(tiny);
  const auto plain = io::open_gguf_source(file, as_stored);
  const auto moved = io::open_gguf_source(file, [](const std::string& name) {
    return io::GgufName{"m." + name, name == "output_norm.weight" ? 1.0F : 0.0F};
  });
  const auto a = plain->load("output_norm.weight", at::kFloat, at::kCPU),
             b = moved->load("m.output_norm.weight", at::kFloat, at::kCPU);
  CHECK((a - 1).equal(b));
  CHECK(test::contains(
      test::error_of(base::ExitCode::data, [&] { moved->load("output_norm.weight", at::kFloat, at::kCPU); }),
      "missing"));
  CHECK(moved->missing() == std::vector<std::string>{"output_norm.weight"});
  CHECK(test::contains(
      test::error_of(base::ExitCode::data,
                     [&] { io::open_gguf_source(file, [](const std::string&) { return io::GgufName{"x"}; }); }),
      "two tensors"));
}

TEST_CASE("metadata of every sort, shapes turned round") {
  const auto header = parse(good().file());
  CHECK(header.text("general.architecture", "f") == "gemma2");
  CHECK(header.integer("a.count", "f") == 7);
  CHECK(header.number("a.scale", "f") == 0.5);
  CHECK(header.number("a.count", "f") == 7.0);
  CHECK(header.integer("a.flag", "f") == 1);
  CHECK(header.integer("a.small", "f") == -3);
  CHECK(header.integer("a.long", "f") == -5);
  CHECK(header.numbers("a.types") == std::vector<double>{3, -1});
  REQUIRE(header.texts("a.names") != nullptr);
  CHECK(*header.texts("a.names") == std::vector<std::string>{"x", "y"});
  CHECK_FALSE(header.text("a.none", "f"));
  CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { header.text("a.count", "f"); }), "no text"));
  CHECK(
      test::contains(test::error_of(base::ExitCode::data, [&] { header.integer("a.scale", "f"); }), "no whole number"));
  REQUIRE(header.tensors.size() == 2);
  CHECK(header.tensors[0].shape == std::vector<std::int64_t>{2, 4});
  CHECK(header.tensors[1].end - header.tensors[1].begin == 34);
  GgufBuilder wide = good();
  wide.add("general.alignment", 64u);
  CHECK_THROWS_AS(parse(wide.file()), base::Error);  // its second tensor begins at a multiple of 32 only
  CHECK(parse(good().file() + "more behind").tensors.size() == 2);
}

TEST_CASE("malformed files are refused") {
  struct Reject {
    const char* name;
    std::string file, message;
  };
  const auto changed = [](auto change) {
    GgufBuilder b = good();
    change(b);
    return b.file();
  };
  const std::string whole = good().file();
  const std::vector<Reject> rejects = {
      {"another file", "GGML" + whole.substr(4), "not a GGUF file"},
      {"nothing", "", "not a GGUF file"},
      {"version 1", changed([](auto& b) { b.version = 1; }), "version 1"},
      {"big-endian", changed([](auto& b) { b.version = 0x03000000; }), "big-endian"},
      {"too many tensors", changed([](auto& b) { b.count = 1u << 30; }), "tensors, at most"},
      {"too many entries", changed([](auto& b) { b.entries = ~std::uint64_t{0}; }), "metadata entries, at most"},
      {"one entry too many", changed([](auto& b) { ++b.entries; }), ""},
      {"one tensor too many", changed([](auto& b) { ++b.count; }), ""},
      {"the same key twice", changed([](auto& b) { b.add("a.count", 8u); }), "\"a.count\" is there twice"},
      {"the same tensor twice", changed([](auto& b) { b.tensor("one", {4}, 0, std::string(16, '\0')); }),
       "\"one\" is there twice"},
      {"an unknown value type", changed([](auto& b) { b.entry("x", 13, "...."); }), "unknown type 13"},
      {"a list of lists",
       changed([](auto& b) { b.list("x", 9, 1, little_endian<std::uint32_t>(4) + little_endian<std::uint64_t>(0)); }),
       "values of the type 9"},
      {"a list longer than the file", changed([](auto& b) { b.list("x", 4, 1u << 20, ""); }), "ends behind the file"},
      {"a list of too many", changed([](auto& b) { b.list("x", 4, std::uint64_t{1} << 40, ""); }),
       "members of a list, at most"},
      {"a number above 2^63 in a list", changed([](auto& b) { b.list("x", 10, 1, std::string(8, '\xFF')); }),
       "above 2^63"},
      {"a boolean of 2", changed([](auto& b) { b.entry("x", 7, "\2"); }), "boolean"},
      {"a key with an escape", changed([](auto& b) { b.add("x\x1b[0m", 1u); }), "printable ASCII"},
      {"an empty key", changed([](auto& b) { b.add("", 1u); }), "printable ASCII"},
      {"a key of 2^62 bytes",
       changed([](auto& b) { b.metadata += little_endian(std::uint64_t{1} << 62), ++b.entries; }), "bytes, at most"},
      {"no dimension", changed([](auto& b) { b.tensor("x", {}, 0, ""); }), "0 dimensions"},
      {"five dimensions", changed([](auto& b) { b.tensor("x", {1, 1, 1, 1, 1}, 0, "...."); }), "5 dimensions"},
      {"a dimension of 0", changed([](auto& b) { b.tensor("x", {0}, 0, ""); }), "no memory could hold"},
      {"a product that overflows",
       changed([](auto& b) { b.tensor("x", {std::uint64_t{1} << 40, std::uint64_t{1} << 40}, 0, ""); }),
       "no memory could hold"},
      {"a type that cannot be read", changed([](auto& b) { b.tensor("x", {256}, 10, std::string(84, '\0')); }),
       "has the type 10"},
      {"rows that are no blocks", changed([](auto& b) { b.tensor("x", {48, 2}, 2, std::string(54, '\0')); }),
       "no multiple of Q4_0's 32"},
      {"an offset between", changed([](auto& b) { b.tensor_info("x", {4}, 0, 8); }), "no multiple of the alignment"},
      {"data behind the file", changed([](auto& b) { b.tensor_info("x", {1024}, 0, 32); }), "the file at"},
      {"an offset near 2^64", changed([](auto& b) { b.tensor_info("x", {4}, 0, ~std::uint64_t{31}); }), ""},
      {"tensors that overlap", changed([](auto& b) { b.tensor_info("x", {4}, 0, 0); }), "overlap"},
      {"an alignment of 24", changed([](auto& b) { b.add("general.alignment", 24u); }), "an alignment of 24"},
      {"an alignment of 0", changed([](auto& b) { b.add("general.alignment", 0u); }), "an alignment of 0"},
      {"an alignment that is a text", changed([](auto& b) { b.add("general.alignment", std::string_view("32")); }),
       "no whole number"},
  };
  for (const Reject& reject : rejects) {
    CAPTURE(reject.name);
    const std::string message = test::error_of(base::ExitCode::data, [&] { parse(reject.file); });
    CHECK(test::contains(message, "f.gguf: "));
    CAPTURE(message);
    CHECK(test::contains(message, reject.message));
  }
}

TEST_CASE("a file cut off anywhere is refused") {
  const std::string whole = good().file();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK_THROWS_AS(parse(whole.substr(0, length)), base::Error);
  }
}

TEST_CASE("what is one is known by its first bytes") {
  const test::Scratch folder;
  test::put_file(folder.file("a"), good().file());
  test::put_file(folder.file("b"), "GGU");
  CHECK(io::is_gguf(folder.file("a")));
  CHECK_FALSE(io::is_gguf(folder.file("b")));
  CHECK_FALSE(io::is_gguf(folder.file("c")));
  CHECK_FALSE(io::is_gguf(folder.path().native()));
}
