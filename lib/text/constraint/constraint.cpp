#include "text/constraint/constraint.h"

#include <bit>

#include <fmt/format.h>

#include "base/error.h"
#include "text/constraint/json_lexemes.h"
#include "text/constraint/machine.h"
#include "text/constraint/regex.h"
#include "text/constraint/schema_compiler.h"

namespace atelier::text::constraint {
namespace {

using base::Error;
using base::ExitCode;

/// Decoding takes the first blank of such a tokenizer's text away, so there is one before everything.
std::unique_ptr<Machine> make_machine(std::unique_ptr<Grammar> grammar, std::string_view what) {
  if (grammar->lexemes.vocabulary().adds_dummy_prefix()) {
    const NodeId blank = grammar->add_lexeme(grammar->regular.literal(" "));
    grammar->start = grammar->add({.kind = GrammarNode::Kind::sequence, .parts = {blank, grammar->start}});
  }
  return std::make_unique<Machine>(std::move(grammar), what);
}

}  // namespace

Constraint::Constraint(std::shared_ptr<const Vocabulary> vocabulary, std::unique_ptr<Machine> machine)
    : vocabulary_(std::move(vocabulary)), machine_(std::move(machine)), shortest_(machine_->cost(machine_->start())) {}

Constraint::~Constraint() = default;

bool Constraint::grown() const { return machine_->grown(); }

std::shared_ptr<Constraint> Constraint::regex(std::shared_ptr<const Vocabulary> vocabulary, std::string_view pattern,
                                              std::string_view what) {
  auto grammar = std::make_unique<Grammar>(vocabulary);
  try {
    grammar->regular.all_of(character_of(grammar->regular, CodePoints::all(), Spelling::plain));
    grammar->start = grammar->add_lexeme(whole_match(grammar->regular, pattern, Spelling::plain));
    return std::shared_ptr<Constraint>(new Constraint(vocabulary, make_machine(std::move(grammar), what)));
  } catch (const Error& error) {
    if (std::string_view(error.what()).starts_with(what)) throw;
    throw Error(error.code(), fmt::format("{}: {}", what, error.what()), error.hint());
  }
}

std::shared_ptr<Constraint> Constraint::json_object(std::shared_ptr<const Vocabulary> vocabulary) {
  auto grammar = std::make_unique<Grammar>(vocabulary);
  grammar->start = add_any(*grammar).object;
  return std::shared_ptr<Constraint>(new Constraint(vocabulary, make_machine(std::move(grammar), "--json-object")));
}

std::shared_ptr<Constraint> Constraint::json_schema(std::shared_ptr<const Vocabulary> vocabulary,
                                                    const base::Json& schema, std::string_view what) {
  auto grammar = std::make_unique<Grammar>(vocabulary);
  try {
    compile_schema(*grammar, schema, what);
    return std::shared_ptr<Constraint>(new Constraint(vocabulary, make_machine(std::move(grammar), what)));
  } catch (const Error& error) {
    if (std::string_view(error.what()).starts_with(what)) throw;
    throw Error(error.code(), fmt::format("{}: {}", what, error.what()), error.hint());
  }
}

struct ConstraintState::Position {
  Machine& machine;
  Machine::Stacks stacks;
  JsonCursor cursor;
  std::vector<TokenId> plan;  ///< where the budget leaves one way only
  std::size_t planned = 0;
  std::vector<std::uint64_t> only;
};

namespace {

bool any_bit(std::span<const std::uint64_t> mask) {
  for (const std::uint64_t word : mask)
    if (word != 0) return true;
  return false;
}

TokenId first_bit(std::span<const std::uint64_t> mask) {
  for (std::size_t i = 0; i < mask.size(); ++i)
    if (mask[i] != 0) return static_cast<TokenId>(64 * i + static_cast<std::size_t>(std::countr_zero(mask[i])));
  return -1;
}

}  // namespace

ConstraintState::ConstraintState(std::shared_ptr<Constraint> constraint, std::int64_t budget)
    : constraint_(std::move(constraint)), left_(budget) {
  Machine& machine = *constraint_->machine_;
  position_.reset(new Position{machine, machine.start(), {}, {}, 0, {}});
  const std::int64_t plain = machine.cost(machine.start());
  if (budget >= plain) return;
  // The machine counts lexeme by lexeme; pieces that span several of them may spell the same text in fewer tokens.
  if (constraint_->shortest_text_.empty()) {
    ConstraintState way(constraint_, plain);
    while (!way.accepts()) {
      const TokenId id = first_bit(way.allowed());
      if (id < 0) throw Error(ExitCode::condition, "the vocabulary cannot spell what the constraint asks for");
      way.advance(id);
    }
    constraint_->shortest_text_ = constraint_->vocabulary_->segment(way.text());
    constraint_->shortest_ = static_cast<std::int64_t>(constraint_->shortest_text_.size());
  }
  position_->plan = constraint_->shortest_text_;
  if (budget < constraint_->shortest_)
    throw Error(ExitCode::condition,
                fmt::format("the shortest text that conforms takes {} tokens, and there is room for {}",
                            constraint_->shortest_, std::max<std::int64_t>(budget, 0)),
                "a larger --max-tokens, or a shorter prompt");
}

ConstraintState::~ConstraintState() = default;

std::span<const std::uint64_t> ConstraintState::allowed() {
  Position& p = *position_;
  if (!p.plan.empty()) {
    p.only.assign(constraint_->vocabulary_->words(), 0);
    if (p.planned < p.plan.size()) {
      const auto id = static_cast<std::size_t>(p.plan[p.planned]);
      p.only[id / 64] |= std::uint64_t{1} << (id % 64);
    }
    return p.only;
  }
  if (left_ <= 0) {
    p.only.assign(constraint_->vocabulary_->words(), 0);
    return p.only;
  }
  const auto limit = static_cast<std::uint32_t>(std::min<std::int64_t>(left_ - 1, Regular::unreachable - 1));
  return p.machine.mask(p.stacks, limit);
}

bool ConstraintState::accepts() const {
  return !position_->stacks.empty() && position_->stacks.front() == Machine::done;
}

bool ConstraintState::finished() {
  if (!accepts()) return false;
  return position_->stacks.size() == 1 || (left_ > 0 && !any_bit(allowed()));
}

ConstraintState& ConstraintState::advance(TokenId id) {
  Position& p = *position_;
  for (const char byte : constraint_->vocabulary_->bytes(id)) {
    p.stacks = p.machine.step(p.stacks, static_cast<unsigned char>(byte));
    text_ += byte;
    if (p.machine.captures()) {
      p.cursor.feed(text_);
      p.stacks = p.machine.settle(p.stacks, text_, p.cursor);
    }
  }
  if (p.stacks.empty()) throw Error(ExitCode::internal, "a token that the constraint does not allow");
  if (!p.plan.empty()) ++p.planned;
  --left_;
  return *this;
}

}  // namespace atelier::text::constraint
