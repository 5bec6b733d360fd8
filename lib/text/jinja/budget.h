#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace atelier::text::jinja {

/// What goes wrong while a template is parsed or rendered; the template's name and the line are added where it is
/// caught.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The words that a template gave to raise_exception.
class RaisedException : public Failure {
 public:
  using Failure::Failure;
};

/// Bounds that keep a hostile template from hanging, exhausting the memory or overflowing the stack.
struct Limits {
  std::uint64_t steps = 5'000'000;         ///< evaluated nodes, list elements and loop rounds
  std::uint64_t text_bytes = 256u << 20;   ///< all strings ever made, together
  std::uint64_t output_bytes = 64u << 20;  ///< the rendered text
  std::size_t depth = 400;                 ///< nested evaluation
  std::size_t objects = 100'000;           ///< macros, namespaces and captured scopes
};

/// Counts what the running render uses up. One per render, found through a thread-local pointer, so that every
/// operation on values pays without being handed it.
class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits), previous_(current_) { current_ = this; }
  ~Budget() { current_ = previous_; }
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  static void step(std::uint64_t count = 1);
  static void bytes(std::uint64_t count);
  static const Limits& limits();

  /// One level of nested evaluation.
  class Descent {
   public:
    Descent();
    ~Descent();
    Descent(const Descent&) = delete;
    Descent& operator=(const Descent&) = delete;
  };

 private:
  static thread_local Budget* current_;
  Limits limits_;
  Budget* previous_;
  std::uint64_t steps_ = 0, bytes_ = 0;
  std::size_t depth_ = 0;
};

}  // namespace atelier::text::jinja
