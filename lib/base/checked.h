#pragma once

#include <concepts>
#include <cstdint>
#include <optional>

namespace atelier::base {

/// a + b, or nothing where the type cannot hold it.
template <std::integral T>
constexpr std::optional<T> checked_add(T a, T b) {
  T r{};
  return __builtin_add_overflow(a, b, &r) ? std::nullopt : std::optional<T>(r);
}

/// a * b, or nothing where the type cannot hold it.
template <std::integral T>
constexpr std::optional<T> checked_mul(T a, T b) {
  T r{};
  return __builtin_mul_overflow(a, b, &r) ? std::nullopt : std::optional<T>(r);
}

}  // namespace atelier::base
