#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace atelier::text::constraint {

/// A set of byte values.
class ByteSet {
 public:
  constexpr ByteSet() = default;
  static constexpr ByteSet range(unsigned first, unsigned last) {
    ByteSet set;
    for (unsigned b = first; b <= last; ++b) set.add(b);
    return set;
  }

  constexpr void add(unsigned byte) { words_[byte >> 6] |= std::uint64_t{1} << (byte & 63); }
  constexpr bool has(unsigned byte) const { return (words_[byte >> 6] >> (byte & 63) & 1) != 0; }
  constexpr bool empty() const { return (words_[0] | words_[1] | words_[2] | words_[3]) == 0; }
  /// The smallest member of a set that is not empty.
  constexpr unsigned first() const {
    for (unsigned i = 0; i < 4; ++i)
      if (words_[i] != 0) return 64 * i + static_cast<unsigned>(std::countr_zero(words_[i]));
    return 256;
  }
  constexpr ByteSet operator|(const ByteSet& o) const {
    return combine(o, [](auto a, auto b) { return a | b; });
  }
  constexpr ByteSet operator&(const ByteSet& o) const {
    return combine(o, [](auto a, auto b) { return a & b; });
  }
  constexpr ByteSet operator-(const ByteSet& o) const {
    return combine(o, [](auto a, auto b) { return a & ~b; });
  }
  constexpr bool operator==(const ByteSet&) const = default;
  constexpr std::uint64_t hash() const {
    std::uint64_t h = 0;
    for (const auto word : words_) h = (h ^ word) * 0x9E3779B97F4A7C15u;
    return h;
  }

 private:
  template <typename F>
  constexpr ByteSet combine(const ByteSet& o, F f) const {
    ByteSet result;
    for (std::size_t i = 0; i < 4; ++i) result.words_[i] = f(words_[i], o.words_[i]);
    return result;
  }

  std::array<std::uint64_t, 4> words_{};
};

}  // namespace atelier::text::constraint
