#include "io/weight_source.h"

#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "base/stop.h"
#include "io/safetensors_file.h"
#include "support/errors.h"
#include "support/scratch.h"

using namespace atelier::io;
using namespace atelier::test;
using atelier::base::ExitCode;
namespace fs = std::filesystem;

namespace {

const c10::Device kCpu(c10::DeviceType::CPU);

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

struct Named {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> shape;
  std::string data;
};

void write_tensors(const std::string& path, const std::vector<Named>& named) {
  std::vector<TensorBytes> tensors;
  for (const Named& tensor : named)
    tensors.push_back({{tensor.name, tensor.dtype, tensor.shape}, as_bytes(tensor.data)});
  write_safetensors(path, tensors, {});
}

void write_one(const std::string& path, const std::string& name, float value = 1) {
  write_tensors(path, {{name, DType::F32, {1}, bytes_of<float>({value})}});
}

std::vector<float> floats(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(c10::ScalarType::Float).contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

float only(const at::Tensor& tensor) {
  REQUIRE(tensor.numel() == 1);
  return floats(tensor)[0];
}

}  // namespace

TEST_CASE("WeightSource: accounting of what was asked for and what was found") {
  const Scratch scratch;
  const std::string path = scratch.file("m.safetensors");
  write_tensors(path, {{"a", DType::F32, {2}, bytes_of<float>({1, 2})},
                       {"b", DType::F32, {1}, bytes_of<float>({3})},
                       {"c", DType::F32, {1}, bytes_of<float>({4})}});
  const auto source = WeightSource::open(path);
  CHECK(source->names() == std::vector<std::string>{"a", "b", "c"});
  CHECK(source->unused() == source->names());
  CHECK(source->missing().empty());
  CHECK(source->has("a"));
  CHECK(!source->has("x"));
  CHECK(source->info("a").shape == std::vector<std::int64_t>{2});
  CHECK(source->unused().size() == 3);  // looking is not using
  CHECK(floats(source->load("a", c10::ScalarType::Float, kCpu)) == std::vector<float>{1, 2});
  source->note_used("c");
  source->note_used("unknown");
  CHECK(source->unused() == std::vector<std::string>{"b"});
  source->note_missing("z");
  const std::string message = error_of(ExitCode::data, [&] { source->load("bb\x1b", c10::ScalarType::Float, kCpu); });
  CHECK(message == path + ": tensor \"bb\\x1B\" is missing");
  source->note_missing("z");
  CHECK(source->missing() == std::vector<std::string>{"z", "bb\x1b"});
  CHECK(contains(error_of(ExitCode::data, [&] { source->info("y"); }), "tensor \"y\" is missing"));
  REQUIRE(source->files().size() == 1);
  CHECK(source->files()[0].path == path);
  CHECK(source->files()[0].bytes == fs::file_size(path));
}

TEST_CASE("WeightSource: a missing name comes with the nearest one") {
  const Scratch scratch;
  write_one(scratch.file("m.safetensors"), "model.layers.0.mlp.weight");
  const auto source = WeightSource::open(scratch.file("m.safetensors"));
  try {
    source->load("model.layers.0.mpl.weight", c10::ScalarType::Float, kCpu);
    FAIL("no error");
  } catch (const atelier::base::Error& error) {
    CHECK(error.hint() == "the file has \"model.layers.0.mlp.weight\"");
  }
}

TEST_CASE("WeightSource: equal dtype shares the mapped pages, which outlive the source; misaligned data is copied") {
  const Scratch scratch;
  const std::string path = scratch.file("m.safetensors");
  const std::string data = bytes_of<float>({1.5f, -2}) + bytes_of<double>({7});
  // 1 byte, then an F32 and an F64 that start at odd addresses.
  std::string header = R"({"u":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("f":{"dtype":"F32","shape":[2],"data_offsets":[1,9]},)"
                       R"("d":{"dtype":"F64","shape":[],"data_offsets":[9,17]}})";
  header.append(8 - header.size() % 8, ' ');
  put_file(path, safetensors_file(header) + "\x05" + data);
  write_tensors(scratch.file("aligned"), {{"f", DType::F32, {2}, data.substr(0, 8)}});
  at::Tensor kept;
  {
    const auto aligned = WeightSource::open(scratch.file("aligned"));
    kept = aligned->load("f", c10::ScalarType::Float, kCpu);
    CHECK(kept.const_data_ptr() == aligned->load("f", c10::ScalarType::Float, kCpu).const_data_ptr());
  }
  fs::remove(scratch.file("aligned"));
  CHECK(floats(kept) == std::vector<float>{1.5f, -2});

  const auto odd = WeightSource::open(path);
  const at::Tensor copy = odd->load("f", c10::ScalarType::Float, kCpu);
  CHECK(reinterpret_cast<std::uintptr_t>(copy.const_data_ptr()) % 4 == 0);
  CHECK(floats(copy) == std::vector<float>{1.5f, -2});
  CHECK(floats(odd->load("f", c10::ScalarType::Half, kCpu)) == std::vector<float>{1.5f, -2});
  const at::Tensor scalar = odd->load("d", c10::ScalarType::Double, kCpu);
  CHECK(scalar.dim() == 0);
  CHECK(only(scalar) == 7);
  CHECK(only(odd->load("u", c10::ScalarType::Float, kCpu)) == 5);
}

TEST_CASE("WeightSource: every dtype that LibTorch has converts by value") {
  const Scratch scratch;
  const std::string path = scratch.file("m.safetensors");
  const auto u16 = [](std::uint16_t a, std::uint16_t b) { return bytes_of<std::uint16_t>({a, b}); };
  const std::vector<Named> tensors{
      {"BOOL", DType::BOOL, {2}, std::string("\0\1", 2)},
      {"U8", DType::U8, {2}, "\x01\xFF"},
      {"I8", DType::I8, {2}, "\x01\xFF"},
      {"F8_E5M2", DType::F8_E5M2, {2}, "\x3C\xC1"},          // 1, -2.5
      {"F8_E4M3", DType::F8_E4M3, {2}, "\x38\xC2"},          // 1, -2.5
      {"F8_E4M3FNUZ", DType::F8_E4M3FNUZ, {2}, "\x40\xCA"},  // 1, -2.5
      {"F8_E5M2FNUZ", DType::F8_E5M2FNUZ, {2}, "\x40\xC5"},  // 1, -2.5
      {"F8_E8M0", DType::F8_E8M0, {2}, "\x7F\x81"},          // 1, 4
      {"I16", DType::I16, {2}, u16(1, 0xFFFE)},
      {"U16", DType::U16, {2}, u16(1, 0xFFFE)},
      {"F16", DType::F16, {2}, u16(0x3C00, 0xC100)},
      {"BF16", DType::BF16, {2}, u16(0x3F80, 0xC020)},
      {"I32", DType::I32, {2}, bytes_of<std::int32_t>({1, -7})},
      {"U32", DType::U32, {2}, bytes_of<std::uint32_t>({1, 70000})},
      {"F32", DType::F32, {2}, bytes_of<float>({1, -2.5f})},
      {"F64", DType::F64, {2}, bytes_of<double>({1, -2.5})},
      {"I64", DType::I64, {2}, bytes_of<std::int64_t>({1, -7})},
      {"U64", DType::U64, {2}, bytes_of<std::uint64_t>({1, 70000})},
      {"C64", DType::C64, {1}, bytes_of<float>({1, -2.5f})},
  };
  const std::map<std::string, float> second{{"BOOL", 1}, {"U8", 255},    {"I8", -1},  {"F8_E8M0", 4},
                                            {"I16", -2}, {"U16", 65534}, {"I32", -7}, {"U32", 70000},
                                            {"I64", -7}, {"U64", 70000}};
  write_tensors(path, tensors);
  const auto source = WeightSource::open(path);
  for (const Named& tensor : tensors) {
    CAPTURE(tensor.name);
    CHECK((dtype_of(scalar_type(tensor.dtype)) == tensor.dtype));
    const at::Tensor own = source->load(tensor.name, scalar_type(tensor.dtype), kCpu);
    CHECK(own.nbytes() == tensor.data.size());
    CHECK(std::memcmp(own.const_data_ptr(), tensor.data.data(), tensor.data.size()) == 0);
    if (tensor.dtype == DType::C64) continue;
    for (const auto type : {c10::ScalarType::Float, c10::ScalarType::BFloat16, c10::ScalarType::Half}) {
      const at::Tensor converted = source->load(tensor.name, type, kCpu);
      CHECK((converted.scalar_type() == type));
      if (type != c10::ScalarType::Float) continue;
      CHECK(floats(converted)[0] == (tensor.dtype == DType::BOOL ? 0 : 1));
      CHECK(floats(converted)[1] == (second.contains(tensor.name) ? second.at(tensor.name) : -2.5f));
    }
  }
  CHECK(contains(error_of(ExitCode::data, [&] { source->load("C64", c10::ScalarType::Float, kCpu); }), "complex"));
}

TEST_CASE("WeightSource: dtypes without a type, bool bytes that are none, shapes beyond memory") {
  const Scratch scratch;
  const std::string path = scratch.file("m.safetensors");
  write_tensors(path, {{"f4", DType::F4, {2}, "x"},
                       {"f6", DType::F6_E2M3, {4}, "xyz"},
                       {"f6b", DType::F6_E3M2, {4}, "xyz"},
                       {"b", DType::BOOL, {1}, "\2"},
                       {"e", DType::F32, {3, 0}, ""},
                       {"b0", DType::BOOL, {0}, ""},
                       {"huge", DType::F32, {0, INT64_MAX, INT64_MAX}, ""}});
  const auto source = WeightSource::open(path);
  const auto refused = [&](const char* name) {
    return error_of(ExitCode::data, [&] { source->load(name, c10::ScalarType::Float, kCpu); });
  };
  CHECK(refused("f4") == path + ": tensor \"f4\": dtype F4 cannot be loaded: LibTorch has no such type");
  CHECK(contains(refused("f6"), "dtype F6_E2M3"));
  CHECK(contains(refused("f6b"), "dtype F6_E3M2"));
  CHECK(contains(refused("b"), "neither 0 nor 1"));
  CHECK(contains(refused("huge"), "no memory could hold"));
  const at::Tensor empty = source->load("e", c10::ScalarType::BFloat16, kCpu);
  CHECK(empty.sizes().vec() == std::vector<std::int64_t>{3, 0});
  CHECK(source->load("b0", c10::ScalarType::Bool, kCpu).numel() == 0);
  CHECK(source->info("f4").elements() == 2);
  CHECK(source->missing().empty());
  CHECK(contains(error_of(ExitCode::data, [] { dtype_of(c10::ScalarType::QInt8); }), "cannot be stored"));
  CHECK(contains(error_of(ExitCode::data, [] { scalar_type(DType::F4); }), "F4"));
}

TEST_CASE("WeightSource: looks at the stop flag") {
  const Scratch scratch;
  write_one(scratch.file("m"), "a");
  const auto source = WeightSource::open(scratch.file("m"));
  atelier::base::request_stop(2);
  CHECK(error_of(ExitCode::interrupted, [&] { source->load("a", c10::ScalarType::Float, kCpu); }) ==
        "stopped by SIGINT");
  CHECK(error_of(ExitCode::interrupted, [&] { WeightSource::open(scratch.file("m")); }) == "stopped by SIGINT");
  atelier::base::clear_stop();
}

TEST_CASE("WeightSource: which file of a folder is taken") {
  const Scratch scratch;
  const auto refused = [&](const std::string& stem = "model") {
    return error_of(ExitCode::no_input, [&] { WeightSource::open(scratch.path(), stem); });
  };
  CHECK(
      contains(error_of(ExitCode::no_input, [&] { WeightSource::open(scratch.file("none")); }), "none: No such file"));
  CHECK(contains(error_of(ExitCode::no_input, [&] { WeightSource::open(""); }), "No such file"));
  CHECK(contains(refused(), "no .safetensors file in this folder"));
  write_one(scratch.file("odd.safetensors"), "odd");
  CHECK(WeightSource::open(scratch.path())->has("odd"));
  write_one(scratch.file("other.safetensors"), "other");
  CHECK(contains(refused(), "2 .safetensors files, but neither model.safetensors nor model.safetensors.index.json"));
  put_file(scratch.file("model.safetensors.index.json"), R"({"weight_map":{"odd":"odd.safetensors"}})");
  CHECK(WeightSource::open(scratch.path())->names() == std::vector<std::string>{"odd"});
  write_one(scratch.file("model.safetensors"), "single");
  CHECK(WeightSource::open(scratch.path())->has("single"));
  write_one(scratch.file("diffusion_pytorch_model.safetensors"), "unet");
  CHECK(WeightSource::open(scratch.path(), "diffusion_pytorch_model")->has("unet"));
}

TEST_CASE("WeightSource: sharded folders") {
  const Scratch scratch;
  write_tensors(scratch.file("model-1.safetensors"),
                {{"a", DType::F32, {1}, bytes_of<float>({1})}, {"both", DType::F32, {1}, bytes_of<float>({10})}});
  write_tensors(scratch.file("model-2.safetensors"), {{"b", DType::F32, {1}, bytes_of<float>({2})},
                                                      {"both", DType::F32, {1}, bytes_of<float>({20})},
                                                      {"extra", DType::F32, {1}, bytes_of<float>({3})}});
  put_file(
      scratch.file("model.safetensors.index.json"),
      R"({"metadata":{"total_size":20},"weight_map":{"b":"model-2.safetensors","a":"model-1.safetensors","both":"model-2.safetensors"}})");
  const auto source = WeightSource::open(scratch.path());
  CHECK(source->files().size() == 2);
  CHECK(source->names().size() == 4);
  CHECK(only(source->load("a", c10::ScalarType::Float, kCpu)) == 1);
  CHECK(only(source->load("b", c10::ScalarType::Float, kCpu)) == 2);
  CHECK(only(source->load("both", c10::ScalarType::Float, kCpu)) == 20);
  CHECK(source->unused() == std::vector<std::string>{"extra"});

  put_file(scratch.file("model.safetensors.index.json"),
           R"({"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}})");
  CHECK(contains(error_of(ExitCode::data, [&] { WeightSource::open(scratch.path()); }), "tensor \"both\" is in"));
  put_file(scratch.file("model.safetensors.index.json"),
           R"({"weight_map":{"a":"model-1.safetensors","both":"model-1.safetensors","lost":"model-2.safetensors"}})");
  CHECK(contains(error_of(ExitCode::data, [&] { WeightSource::open(scratch.path()); }),
                 "model-2.safetensors: tensor \"lost\", which the index places here, is not in this file"));

  // A variant's index as diffusers and transformers name it.
  put_file(scratch.file("model.safetensors.index.fp16.json"),
           R"({"weight_map":{"a":"model-1.safetensors","both":"model-1.safetensors"}})");
  CHECK(WeightSource::open(scratch.path(), "model.fp16")->names() == std::vector<std::string>{"a", "both"});
}

TEST_CASE("WeightSource: 10,000 tensors open in a moment") {
  const Scratch scratch;
  std::vector<Named> tensors;
  for (int i = 0; i < 10'000; ++i) tensors.push_back({fmt::format("model.layers.{}.weight", i), DType::U8, {1}, "x"});
  write_tensors(scratch.file("m"), tensors);
  const auto start = std::chrono::steady_clock::now();
  const auto source = WeightSource::open(scratch.file("m"));
  for (const Named& tensor : tensors) source->note_used(tensor.name);
  CHECK(source->unused().empty());
  CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 1);
}
