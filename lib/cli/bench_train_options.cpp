#include "cli/bench_train_options.h"

#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "cli/command.h"
#include "cli/validators.h"

namespace atelier::cli {
namespace {

void add_axis_flags(CLI::App& app, TrainBenchOptions& o) {
  const std::string group = "What is varied";
  add_words(app, "--methods", o.methods, "METHOD", "What is trained: adapters, or all weights (left out, lora)")
      ->check(one_of({"lora", "dora", "full"}))
      ->group(group);
  add_words(app, "--precisions", o.precisions, "FORMAT",
            "Format of the products (left out, auto: what the model is stored in, on a CPU fp32 for fp16)")
      ->check(one_of({"auto", "fp32", "bf16", "fp16"}))
      ->group(group);
  add_words(app, "--optimizers", o.optimizers, "NAME", "Optimisers (left out, adamw)")
      ->check(one_of({"adamw", "adamw8bit", "adafactor", "lion", "sgd"}))
      ->group(group);
  add_words(app, "--batch-sizes", o.batch_sizes, "N", "Pictures of a micro-batch (left out, 1)")
      ->check(whole_in_range(1, 4096))
      ->group(group);
}

void add_data_flags(CLI::App& app, TrainBenchOptions& o) {
  add_data_flag(app, o.data);
  app.get_option("--data")->required();
  app.add_option("--eval-data", o.eval_data, "Pictures that the loss is measured on (left out, those of --data)")
      ->type_name("PATH")
      ->group("Data");
  add_bucket_flags(app, o.data);
  app.add_option("--cache-dir", o.data.cache_dir,
                 "Encode each picture once and keep its latents there (left out, each step encodes its pictures)")
      ->type_name("DIR")
      ->group("Data");
}

void add_training_flags(CLI::App& app, TrainBenchOptions& o) {
  const std::string group = "Training";
  ImageTrainOptions& t = o.train;
  app.add_option("--rank", t.rank, "Rank of adapters")->check(whole_in_range(1, 1 << 16))->group(group);
  app.add_option("--alpha", t.alpha, "Their scale is alpha / rank")->check(in_range(1e-6, 1e6))->group(group);
  app.add_option("--targets", t.targets, "Layers with an adapter, as sd-train-lora has them")
      ->check(one_of({"attn", "attn-mlp", "all"}))
      ->group(group);
  app.add_flag("--train-text-encoder", t.train_text_encoder, "Train the text encoders, too")->group(group);
  app.add_option("--unet-lr", t.unet_lr, "Learning rate of the UNet, the same at every step")
      ->check(in_range(0, 1e3))
      ->group(group);
  app.add_option("--te-lr", t.te_lr, "Learning rate of the text encoders")->check(in_range(0, 1e3))->group(group);
  app.add_option("--grad-accum", t.train.accumulation, "Micro-batches of a step")
      ->check(whole_in_range(1, 1 << 20))
      ->group(group);
  app.add_flag("--grad-checkpointing", t.train.checkpointing,
               "Keep only the blocks' inputs and compute the blocks again in the backward pass")
      ->group(group);
}

void add_measurement_flags(CLI::App& app, TrainBenchOptions& o) {
  const std::string group = "Measurement";
  app.add_option("--steps", o.steps, "Optimiser steps of each row")->check(whole_in_range(1, 1000000))->group(group);
  app.add_option("--warmup", o.warmup, "First steps that are not timed (left out, 3 where there are more)")
      ->check(whole_in_range(0, 1000000))
      ->group(group);
  app.add_option("--eval-every", o.eval_every,
                 "Steps between measurements of the loss; 0: before the first and after the last step alone")
      ->check(whole_in_range(0, 1000000))
      ->group(group);
  app.add_option("--pairs", o.pairs, "Noised pictures that the loss is measured on, always the same; 0: no loss")
      ->check(whole_in_range(0, 100000))
      ->group(group);
  app.add_option("-o,--output", o.output,
                 "Folder for report.html, report.md, results.jsonl and results.csv (left out, a table on stdout alone)")
      ->type_name("DIR")
      ->group("Results");
}

std::vector<std::string> or_else(const std::vector<std::string>& given, const std::string& fallback) {
  return given.empty() ? std::vector{fallback} : given;
}

}  // namespace

TrainBenchOptions::TrainBenchOptions() {
  train.train.scheduler = "constant";  // a loss that does not depend on where the run ends
  train.train.warmup = 0;
}

void define_train_bench_flags(CLI::App& app, TrainBenchOptions& o) {
  add_axis_flags(app, o);
  add_data_flags(app, o);
  add_training_flags(app, o);
  add_measurement_flags(app, o);
  add_command_options(app, o.train.common,
                      "sd-bench train --data photos --batch-sizes 1 4 --steps 50\n"
                      "  sd-bench train --model sd15/ --data photos --methods lora full --precisions fp32 bf16 "
                      "--output report",
                      {.dtype = false, .batches = false, .completions = false});
  app.get_option("--seed")->description(
      "Seed of adapters, noise and the pictures' order (left out, 0, so that the same command trains the same)");
}

std::vector<TrainBenchRow> train_bench_rows(const TrainBenchOptions& o) {
  using base::Error;
  using base::ExitCode;
  if (o.warmups() >= o.steps)
    throw Error(ExitCode::usage, fmt::format("--warmup {} leaves no step of {} to be timed", o.warmups(), o.steps));
  std::vector<TrainBenchRow> rows;
  std::set<std::string> seen;
  for (const std::string& method : or_else(o.methods, "lora"))
    for (const std::string& precision : or_else(o.precisions, "auto"))
      for (const std::string& optimizer : or_else(o.optimizers, "adamw"))
        for (const std::string& batch : or_else(o.batch_sizes, "1")) {
          TrainBenchRow row{o.train, fmt::format("{}/{}/{}/{}", method, precision, optimizer, batch), {}};
          row.train.method = method;
          row.train.train.precision = precision;
          row.train.train.optimizer = optimizer;
          row.train.train.batch_size = std::stoll(batch);
          row.train.train.steps = o.steps;
          std::vector<std::string> parts;
          if (o.methods.size() > 1) parts.push_back(method);
          if (o.precisions.size() > 1) parts.push_back(precision);
          if (o.optimizers.size() > 1) parts.push_back(optimizer);
          if (o.batch_sizes.size() > 1) parts.push_back("batch " + batch);
          row.label = parts.empty() ? method : fmt::format("{}", fmt::join(parts, " · "));
          if (!seen.insert(row.id).second)
            throw Error(ExitCode::usage, fmt::format("the row {} is there twice", row.id));
          rows.push_back(std::move(row));
        }
  return rows;
}

}  // namespace atelier::cli
