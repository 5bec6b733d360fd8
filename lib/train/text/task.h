#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/gemma/model.h"
#include "train/loop.h"
#include "train/text/dataset.h"

namespace atelier::train::text_data {

/// Rows one behind another, without padding, and what is learnt of them.
struct TextBatch : Batch {
  models::gemma::Documents documents;  ///< each row but its last token, after which nothing is predicted
  at::Tensor places;                   ///< (n) int64: positions whose next token is supervised
  at::Tensor targets;                  ///< (n) int64: those tokens
};

/// Lays rows out on a device. Weight: supervised tokens; tokens: all.
std::unique_ptr<TextBatch> make_batch(const std::vector<Example>& examples, at::Device device);

struct TextTaskOptions {
  /// Micro-batches of a step. A step never reaches into the next epoch, whose last steps are filled up with empty batches, so
  /// that only batch size x accumulation matters.
  std::int64_t accumulation = 1;
  models::gemma::Recompute recompute;
  std::function<void(bool training)> set_training;           ///< switches dropout; may be empty
  std::function<void(const std::string&)> write_checkpoint;  ///< adds files to a checkpoint's folder; may be empty
  std::function<void(std::int64_t step)> after_evaluation;   ///< also without held-out data; may be empty
};

/// Teaches a Gemma the rows of a dataset.
class TextTask final : public Task {
 public:
  /// `held_out` may be null. `parameters`: what is trained, leaves of `network`.
  TextTask(std::shared_ptr<const models::gemma::CausalLm> network, std::vector<Parameter> parameters,
           std::shared_ptr<Dataset> data, std::shared_ptr<Dataset> held_out, TextTaskOptions options);

  std::int64_t steps_per_epoch() const;

  std::vector<Parameter> parameters() override { return parameters_; }
  std::unique_ptr<Batch> next() override;
  at::Tensor loss(const Batch& batch) override;
  base::Json position() const override;
  void seek(const base::Json& position) override;
  std::optional<double> evaluate() override;
  void write_checkpoint(const std::string& folder) override;

 private:
  at::Tensor loss_sum(const TextBatch& batch, const models::gemma::Recompute& recompute) const;
  void set_training(bool training) const;

  std::shared_ptr<const models::gemma::CausalLm> network_;
  std::vector<Parameter> parameters_;
  std::shared_ptr<Dataset> data_, held_out_;
  TextTaskOptions options_;
  std::int64_t epoch_ = 0, micro_ = 0;  ///< the next micro-batch, empty ones counted
};

}  // namespace atelier::train::text_data
