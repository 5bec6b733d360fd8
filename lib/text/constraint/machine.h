#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/constraint/grammar.h"
#include "text/constraint/json_cursor.h"

namespace atelier::text::constraint {

/// Runs a grammar: a set of stacks, each with a lexeme on top and below it what is to follow. Stacks share their lower parts
/// and equal ones have equal ids, so that what was found out about a set is found again.
class Machine {
 public:
  using Stack = std::uint32_t;
  using Stacks = std::vector<Stack>;  ///< sorted; the stack 0 has nothing left to come
  static constexpr Stack done = 0;

  /// Error(data) where no text conforms. `what` names the constraint.
  Machine(std::unique_ptr<Grammar> grammar, std::string_view what);

  const Stacks& start() const { return start_; }
  /// After one more byte; empty where it does not fit.
  Stacks step(const Stacks& stacks, unsigned byte);
  /// Tokens that are enough to finish the text.
  std::uint32_t cost(const Stacks& stacks) const;
  /// Tokens that fit and leave a text that `limit` further tokens can finish. Valid until the next call.
  std::span<const std::uint64_t> mask(const Stacks& stacks, std::uint32_t limit);
  /// After a byte that was really said: objects and unique arrays take note of the last key or item. `text` and `cursor`: what stands
  /// there now.
  Stacks settle(const Stacks& stacks, std::string_view text, const JsonCursor& cursor);

  bool captures() const { return grammar_->captures; }
  bool grown() const {
    const Regular& r = grammar_->regular;
    return r.states() > 50000 || r.work() > 7'000'000 || entries_.size() > 1000000;
  }
  const Vocabulary& vocabulary() const { return grammar_->lexemes.vocabulary(); }

 private:
  /// One level of a stack: what goes on when what lies above it is through.
  struct Frame {
    enum class Kind : std::uint8_t { bottom, lexeme, sequence, object, array };
    enum class Phase : std::uint8_t {
      choose,  ///< between properties or items
      value,   ///< behind the key of declared property `at`; behind what separates items
      other,   ///< behind a key of others[at]
    };
    Kind kind = Kind::bottom;
    Phase phase = Phase::choose;
    bool waiting = false;     ///< the last key or item is not in `used` yet
    std::uint32_t what = 0;   ///< expression, node, or rule
    std::uint32_t at = 0;     ///< next part or property
    std::uint32_t count = 0;  ///< properties or items so far
    std::uint32_t used = 0;   ///< index into used_
    bool operator==(const Frame&) const = default;
  };
  struct Entry {
    Frame frame;
    Stack below = done;
    std::uint32_t cost = 0;
    std::uint32_t depth = 0;  ///< objects and arrays
    bool waiting = false;     ///< a frame of it is
  };
  struct EntryHash {
    std::size_t operator()(const std::pair<Frame, Stack>& key) const;
  };
  struct StacksHash {
    std::size_t operator()(const Stacks& stacks) const;
  };
  struct Mask {
    std::vector<std::uint64_t> bits;
    std::uint32_t highest = 0;  ///< cost of its most expensive token
  };

  Stack push(const Frame& frame, Stack below);
  std::uint32_t frame_cost(const Frame& frame);
  void enter(NodeId node, Stack below, Stacks& out);
  void enter_lexeme(Expr lexeme, Stack below, Stacks& out);
  void resume(Stack stack, Stacks& out);
  void resume_object(const Entry& entry, Stacks& out);
  void resume_array(const Entry& entry, Stacks& out);
  void choose_property(Stack stack, const Entry& entry, Stacks& out);
  void choose_item(Stack stack, const Entry& entry, Stacks& out);
  void offer(const Entry& from, Expr lexeme, Stack below, Stacks& out);
  bool only_cheapest(const Entry& entry) const;
  Expr key_of(const Frame& frame, std::uint32_t others);
  Expr item_of(const Frame& frame);
  Stack settled(Stack stack, bool on_top, std::string_view text, const JsonCursor& cursor);
  void compute(const Stacks& stacks, std::uint32_t limit, Mask& mask);
  void walk(std::uint32_t node, const Stacks& stacks, std::uint32_t limit, Mask& mask);

  std::unique_ptr<Grammar> grammar_;
  std::vector<Entry> entries_;
  std::unordered_map<std::pair<Frame, Stack>, Stack, EntryHash> by_frame_;
  std::vector<std::vector<std::string>> used_;  ///< sets of keys or items, sorted
  std::map<std::vector<std::string>, std::uint32_t> used_ids_;
  std::map<std::array<std::uint32_t, 4>, Expr> lexemes_;  ///< of keys and items, by rule and what is used
  std::unordered_map<Stacks, Mask, StacksHash> masks_;
  Mask scratch_;
  Stacks start_;
};

}  // namespace atelier::text::constraint
