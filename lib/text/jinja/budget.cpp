#include "text/jinja/budget.h"

#include "base/stop.h"

namespace atelier::text::jinja {

thread_local Budget* Budget::current_ = nullptr;

void Budget::step(std::uint64_t count) {
  if (!current_) return;
  const std::uint64_t before = current_->steps_;
  current_->steps_ += count;
  if (current_->steps_ > current_->limits_.steps) throw Failure("the template runs for too long");
  if (before >> 16 != current_->steps_ >> 16) base::throw_if_stopped();
}

void Budget::bytes(std::uint64_t count) {
  if (!current_) return;
  current_->bytes_ += count;
  if (current_->bytes_ > current_->limits_.text_bytes) throw Failure("the template makes too much text");
}

const Limits& Budget::limits() {
  static const Limits defaults;
  return current_ ? current_->limits_ : defaults;
}

Budget::Descent::Descent() {
  if (current_ && ++current_->depth_ > current_->limits_.depth) {
    --current_->depth_;
    throw Failure("the template nests or recurses too deeply");
  }
}

Budget::Descent::~Descent() {
  if (current_) --current_->depth_;
}

}  // namespace atelier::text::jinja
