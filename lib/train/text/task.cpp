#include "train/text/task.h"

#include <algorithm>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "base/stop.h"

namespace atelier::train::text_data {
namespace {

at::Tensor tensor_of(const std::vector<std::int64_t>& values, at::Device device) {
  at::Tensor t = at::empty({static_cast<std::int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), t.mutable_data_ptr<std::int64_t>());
  return t.to(device);
}

}  // namespace

std::unique_ptr<TextBatch> make_batch(const std::vector<Example>& examples, at::Device device) {
  auto batch = std::make_unique<TextBatch>();
  std::vector<std::int64_t> tokens, places, targets;
  for (const Example& example : examples) {
    const std::size_t length = example.tokens.size() - 1;
    for (std::size_t i = 0; i < length; ++i) {
      if (example.supervised[i + 1]) {
        places.push_back(static_cast<std::int64_t>(tokens.size()));
        targets.push_back(example.tokens[i + 1]);
      }
      tokens.push_back(example.tokens[i]);
    }
    batch->documents.lengths.push_back(static_cast<std::int64_t>(length));
    batch->tokens += example.tokens.size();
  }
  batch->weight = static_cast<double>(targets.size());
  batch->documents.tokens = tensor_of(tokens, device);
  batch->places = tensor_of(places, device);
  batch->targets = tensor_of(targets, device);
  return batch;
}

TextTask::TextTask(std::shared_ptr<const models::gemma::CausalLm> network, std::vector<Parameter> parameters,
                   std::shared_ptr<Dataset> data, std::shared_ptr<Dataset> held_out, TextTaskOptions options)
    : network_(std::move(network)),
      parameters_(std::move(parameters)),
      data_(std::move(data)),
      held_out_(std::move(held_out)),
      options_(std::move(options)) {}

std::int64_t TextTask::steps_per_epoch() const {
  return (data_->batches() + options_.accumulation - 1) / options_.accumulation;
}

std::unique_ptr<Batch> TextTask::next() {
  std::unique_ptr<TextBatch> batch;
  if (micro_ < data_->batches()) {
    batch = make_batch(data_->batch(epoch_, micro_), network_->device());
  } else {
    batch = std::make_unique<TextBatch>();  // fills up the epoch's last step
  }
  if (++micro_ == steps_per_epoch() * options_.accumulation) {
    micro_ = 0;
    ++epoch_;
  }
  return batch;
}

at::Tensor TextTask::loss_sum(const TextBatch& batch, const models::gemma::Recompute& recompute) const {
  const auto hidden = network_->forward(batch.documents, recompute);  // (N, hidden)
  return network_->loss(at::index_select(hidden, 0, batch.places), batch.targets);
}

at::Tensor TextTask::loss(const Batch& batch) {
  const auto& text = static_cast<const TextBatch&>(batch);
  if (text.weight == 0) return at::zeros({}, at::kFloat).requires_grad_(true);
  set_training(true);
  return loss_sum(text, options_.recompute);
}

void TextTask::set_training(bool training) const {
  if (options_.set_training) options_.set_training(training);
}

base::Json TextTask::position() const { return {{"epoch", epoch_}, {"micro_batch", micro_}}; }

void TextTask::seek(const base::Json& position) {
  const std::string what = "state.json: position";
  if (!position.is_object()) throw base::Error(base::ExitCode::data, what + " is not an object");
  const base::JsonFields fields(position, what);
  epoch_ = fields.integer("epoch", 0, INT64_MAX / 2);
  micro_ = fields.integer("micro_batch", 0, steps_per_epoch() * options_.accumulation - 1);
}

std::optional<double> TextTask::evaluate() {
  set_training(false);
  std::optional<double> mean;
  if (held_out_) {
    double sum = 0, weight = 0;
    for (std::int64_t i = 0; i < held_out_->batches(); ++i) {
      base::throw_if_stopped();
      const auto batch = make_batch(held_out_->batch(0, i), network_->device());
      sum += loss_sum(*batch, {}).item<double>();
      weight += batch->weight;
    }
    mean = sum / weight;
  }
  if (options_.after_evaluation)
    options_.after_evaluation((epoch_ * steps_per_epoch() * options_.accumulation + micro_) / options_.accumulation);
  return mean;
}

void TextTask::write_checkpoint(const std::string& folder) {
  if (options_.write_checkpoint) options_.write_checkpoint(folder);
}

}  // namespace atelier::train::text_data
