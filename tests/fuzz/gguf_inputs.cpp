// Inputs of fuzz_gguf: files, nearly right.
#include <cstdint>
#include <iterator>
#include <random>
#include <string>
#include <string_view>

#include "fuzz/inputs.h"

namespace {

class Maker {
 public:
  explicit Maker(std::uint64_t seed) : random_(seed) {}

  std::string input() {
    std::string tensors, data;
    const std::size_t count = below(5);
    for (std::size_t i = 0; i < count; ++i) tensors += tensor(i, data);
    std::size_t entries = 0;
    const std::string metadata = meta(entries);
    std::string file = "GGUF" + plain<std::uint32_t>(below(40) == 0 ? static_cast<std::uint32_t>(below(5)) : 3);
    file += number(count) + number(entries) + metadata + tensors;
    while (file.size() % 32 != 0) file += '\0';
    file += data;
    if (below(8) == 0) file.resize(below(file.size() + 1));
    for (std::size_t i = below(4); i > 0 && !file.empty(); --i) mutate(file);
    return file;
  }

 private:
  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }

  template <typename T>
  static std::string plain(T value) {
    std::string bytes;
    for (std::size_t i = 0; i < sizeof value; ++i)
      bytes += static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i) & 0xFF);
    return bytes;
  }

  /// A u64, now and then an extreme one.
  std::string number(std::uint64_t value) {
    constexpr std::uint64_t odd[] = {
        0, 1, 1u << 22, 0x7FFFFFFFu, 0xFFFFFFFFu, std::uint64_t{1} << 40, ~std::uint64_t{0} / 2, ~std::uint64_t{0}};
    return plain(below(80) == 0 ? odd[below(std::size(odd))] : value);
  }
  std::string text(std::string_view value) { return number(value.size()) + std::string(value); }

  std::string tensor(std::size_t i, std::string& data) {
    constexpr struct {
      std::uint32_t type;
      std::size_t elements, bytes;
    } types[] = {{0, 1, 4},   {1, 1, 2},      {2, 32, 18},    {3, 32, 20},    {6, 32, 22}, {7, 32, 24},
                 {8, 32, 34}, {12, 256, 144}, {13, 256, 176}, {14, 256, 210}, {30, 1, 2},  {10, 256, 84}};
    constexpr const char* names[] = {"token_embd.weight", "blk.0.attn_q.weight", "blk.0.attn_norm.weight",
                                     "output_norm.weight", "odd"};
    const auto& type = types[below(below(10) == 0 ? std::size(types) : std::size(types) - 1)];
    const std::size_t rows = 1 + below(4), blocks = 1 + below(2);
    std::string info = text(names[below(40) == 0 ? 0 : i]) + plain<std::uint32_t>(below(60) == 0 ? 9 : 2);
    info += number(blocks * type.elements) + number(rows) + plain(type.type);
    while (data.size() % 32 != 0) data += '\0';
    info += number(data.size());
    for (std::size_t bytes = rows * blocks * type.bytes; bytes > 0; --bytes) data += static_cast<char>(below(256));
    return info;
  }

  std::string meta(std::size_t& entries) {
    std::string all;
    const auto add = [&](std::string_view key, std::uint32_t type, const std::string& value) {
      if (below(12) == 0) return;
      all += text(key) + plain(below(60) == 0 ? static_cast<std::uint32_t>(below(15)) : type) + value;
      ++entries;
    };
    add("general.architecture", 8, text(below(10) == 0 ? "llama" : "gemma2"));
    add("general.alignment", 4, plain<std::uint32_t>(below(20) == 0 ? 24 : 32));
    for (const char* key : {"embedding_length", "block_count", "feed_forward_length", "context_length",
                            "attention.head_count", "attention.key_length", "attention.sliding_window"})
      add(std::string("gemma2.") + key, 4,
          plain<std::uint32_t>(below(8) == 0 ? static_cast<std::uint32_t>(random_()) : 32));
    add("gemma2.attention.layer_norm_rms_epsilon", 6, plain<std::uint32_t>(below(20) == 0 ? 0x7FC00000 : 0x358637BD));
    const char* const pieces[] = {"<pad>",        "<eos>", "<bos>", "<unk>", "<0x41>", "the",
                                  "\xE2\x96\x81", "h",     "e",     "he",    "\n\n"};
    const std::uint32_t types[] = {3, 3, 3, 2, 6, 1, 1, 1, 1, 1, 4};
    std::string texts = plain<std::uint32_t>(8) + number(std::size(pieces)),
                scores = plain<std::uint32_t>(6) + number(std::size(pieces)),
                kinds = plain<std::uint32_t>(5) + number(std::size(pieces));
    for (std::size_t i = 0; i < std::size(pieces); ++i) {
      texts += text(pieces[i]);
      scores += plain<std::uint32_t>(0xBF800000u + static_cast<std::uint32_t>(i));
      kinds += plain<std::uint32_t>(below(100) == 0 ? static_cast<std::uint32_t>(below(9)) : types[i]);
    }
    add("tokenizer.ggml.model", 8, text("llama"));
    add("tokenizer.ggml.tokens", 9, texts);
    add("tokenizer.ggml.scores", 9, scores);
    add("tokenizer.ggml.token_type", 9, kinds);
    add("tokenizer.ggml.bos_token_id", 4,
        plain<std::uint32_t>(below(10) == 0 ? static_cast<std::uint32_t>(below(20)) : 2));
    return all;
  }

  void mutate(std::string& file) {
    const std::size_t at = below(file.size());
    switch (below(4)) {
      case 0: file[at] = static_cast<char>(below(256)); break;
      case 1: file[at] = static_cast<char>(file[at] ^ 1 << below(8)); break;
      case 2: file.erase(at, 1 + below(8)); break;
      default: file.insert(at, 1 + below(8), static_cast<char>(below(256))); break;
    }
  }

  std::mt19937_64 random_;
};

}  // namespace

std::string atelier::test::fuzz_input(std::uint64_t seed) { return Maker(seed).input(); }
