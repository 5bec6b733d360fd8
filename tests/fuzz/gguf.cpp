// Fuzz target: a GGUF file's header, the decoding of its tensors, its tokenizer and its configuration.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/error.h"
#include "io/gguf.h"
#include "models/gemma/config.h"
#include "models/gemma/gguf.h"
#include "support/scratch.h"
#include "text/gguf_tokenizer.h"

using namespace atelier;

namespace {

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

// Bad input may only end in an Error with this code, and in one printable line.
template <typename Action>
void tolerant(const Action& action) {
  try {
    action();
  } catch (const base::Error& error) {
    expect(error.code() == base::ExitCode::data, "exit code");
    const std::string_view message = error.what();
    expect(message.size() < 2000 && message.find_first_of("\n\x1b") == std::string_view::npos, "one short line");
  }
}

void check_header(std::span<const std::byte> bytes) {
  const io::GgufHeader header = io::parse_gguf(bytes, "input");
  std::size_t sum = 0;
  for (const io::GgufTensor& tensor : header.tensors) {
    expect(tensor.begin < tensor.end && tensor.end <= bytes.size(), "data inside the file");
    for (std::uint64_t i = tensor.begin; i < tensor.end; ++i) sum += std::to_integer<std::size_t>(bytes[i]);
  }
  expect(sum != SIZE_MAX, "all bytes can be read");
}

void check_model(std::string_view bytes) {
  static const test::Scratch folder;
  const std::string path = folder.file("input.gguf");
  test::put_file(path, bytes);
  const auto file = io::GgufFile::open(path);
  tolerant([&] {
    const auto source = models::gemma::gguf_weights(file);
    for (const std::string& name : source->names()) {
      const auto tensor = source->load(name, c10::ScalarType::BFloat16, c10::Device(c10::DeviceType::CPU));
      expect(tensor.numel() == source->info(name).elements(), "all elements");
    }
  });
  tolerant([&] { models::gemma::parse_config(models::gemma::config_from_gguf(file->header, "input"), "input"); });
  tolerant([&] {
    const auto tokenizer = text::tokenizer_from_gguf(file->header, "input");
    const auto ids = tokenizer->encode("the <bos> hello");
    for (const text::TokenId id : ids)
      expect(id >= 0 && id < tokenizer->size() && (id == tokenizer->unk() || !tokenizer->is_control(id)),
             "ids of text");
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::byte> exact(reinterpret_cast<const std::byte*>(data),
                                     reinterpret_cast<const std::byte*>(data) + size);
  tolerant([&] { check_header(exact); });
  tolerant([&] { check_model({reinterpret_cast<const char*>(exact.data()), exact.size()}); });
  return 0;
}
