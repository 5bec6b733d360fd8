// Fuzz target: the safetensors header, JSON, the index of a sharded folder, and WeightSource over hostile files. The first
// byte says which. Driven by libFuzzer (tests/CMakeLists.txt) or by runner.cpp with the inputs of mutator.cpp.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/error.h"
#include "base/json.h"
#include "io/safetensors.h"
#include "io/shards.h"
#include "io/weight_source.h"
#include "support/scratch.h"

using namespace atelier;

namespace {

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

// Bad input may only end in an Error with one of these codes, and in one printable line.
template <typename Action>
void tolerant(const Action& action) {
  try {
    action();
  } catch (const base::Error& error) {
    expect(error.code() == base::ExitCode::data || error.code() == base::ExitCode::no_input, "exit code");
    const std::string_view message = error.what();
    expect(message.size() < 2000 && message.find_first_of("\n\x1b") == std::string_view::npos, "one short line");
  }
}

void check_header(std::span<const std::byte> bytes) {
  const io::SafetensorsHeader header = io::parse_safetensors(bytes, "input");
  std::size_t sum = 0;
  std::uint64_t last = header.tensors.empty() ? bytes.size() : header.tensors.front().begin;
  for (const io::TensorInfo& tensor : header.tensors) {
    expect(tensor.begin == last && tensor.end >= tensor.begin, "tensors touch");
    last = tensor.end;
    const std::uint64_t bits =
        static_cast<std::uint64_t>(tensor.elements()) * static_cast<unsigned>(dtype_bits(tensor.dtype));
    expect(bits == tensor.bytes() * 8, "shape and bytes agree");
    for (std::uint64_t i = tensor.begin; i < tensor.end; ++i) sum += std::to_integer<std::size_t>(bytes[i]);
  }
  expect(last == bytes.size() && sum != SIZE_MAX, "the last tensor ends with the file");
}

void check_json(std::string_view text) {
  const base::Json value = base::parse_json(text, "input", {.max_depth = 64});
  const std::string dumped = base::dump_json(value);
  expect(base::dump_json(base::parse_json(dumped, "dumped")) == dumped, "what was parsed can be written and parsed");
}

const test::Scratch& folder() {
  static const test::Scratch scratch;
  return scratch;
}

void check_index(std::string_view text) {
  static const bool prepared = [] {
    test::put_file(folder().file("a.safetensors"), std::string("\x02\0\0\0\0\0\0\0{}", 10));
    return true;
  }();
  expect(prepared, "scratch folder");
  test::put_file(folder().file("model.safetensors.index.json"), text);
  const io::CheckpointFiles files = io::find_checkpoint(folder().path(), "model");
  for (const std::string& path : files.paths) {
    expect(std::filesystem::path(path).parent_path() == folder().path(), "shards lie in the folder");
  }
}

void check_source(std::string_view bytes) {
  test::put_file(folder().file("source"), bytes);
  const auto source = io::WeightSource::open(folder().file("source"));
  for (const std::string& name : source->names()) {
    tolerant([&] {
      const at::Tensor tensor = source->load(name, c10::ScalarType::Float, c10::Device(c10::DeviceType::CPU));
      expect(tensor.numel() == source->info(name).elements(), "all elements");
    });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::vector<std::byte> exact(
      reinterpret_cast<const std::byte*>(data) + 1,
      reinterpret_cast<const std::byte*>(data) + size);  // so that a byte too far is seen
  const std::string_view text(reinterpret_cast<const char*>(exact.data()), exact.size());
  switch (data[0] % 8) {
    case 0: tolerant([&] { check_json(text); }); break;
    case 1: tolerant([&] { check_index(text); }); break;
    case 2: tolerant([&] { check_source(text); }); break;
    default: tolerant([&] { check_header(exact); }); break;
  }
  return 0;
}
