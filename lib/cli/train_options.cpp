#include "cli/train_options.h"

#include <algorithm>
#include <cmath>

#include <ATen/Context.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/seed.h"
#include "cli/validators.h"
#include "train/run_state.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

constexpr long long kMostSteps = 1LL << 40;

void add_training(CLI::App& app, TrainFlags& f, const TrainFlagChoice& choice) {
  const std::string group = "Training";
  const auto whole = [&](const std::string& name, auto& target, const std::string& text, long long low) {
    return app.add_option(name, target, text)
        ->check(whole_in_range(low, kMostSteps))
        ->type_name("N")
        ->capture_default_str()
        ->group(group);
  };
  const auto real = [&](const std::string& name, double& target, const std::string& text, double low, double high) {
    return app.add_option(name, target, text)
        ->check(in_range(low, high))
        ->type_name("X")
        ->capture_default_str()
        ->group(group);
  };
  const auto word = [&](const std::string& name, std::string& target, const std::string& text,
                        std::vector<std::string> choices) {
    return app.add_option(name, target, text)->check(one_of(std::move(choices)))->capture_default_str()->group(group);
  };
  auto* epochs = real("--epochs", f.epochs, "Times through the data; 0.5 is half of it", 1e-6, 1e9);
  whole("--steps", f.steps, "Optimiser steps of the whole run, in place of --epochs", 1)
      ->excludes(epochs)
      ->default_str("");
  whole("--batch-size", f.batch_size, choice.item + " of a micro-batch", 1);
  whole("--grad-accum", f.accumulation,
        "Micro-batches of an optimiser step; only batch size times this counts. Where mpirun, srun or torchrun start several processes: "
        "of each",
        1);
  if (choice.lr) real("--lr", f.lr, "Learning rate", 0, 1e3);
  word("--scheduler", f.scheduler, "How the rate goes over the run",
       {"constant", "linear", "cosine", "polynomial", "inverse_sqrt", "wsd"});
  real("--warmup", f.warmup, "Steps in which the rate rises; below 1, a share of the run", 0, 1e12);
  real("--lr-floor", f.lr_floor, "Share of the rate that cosine, polynomial and wsd end at", 0, 1);
  whole("--lr-cycles", f.lr_cycles, "Cosine: times that it begins anew", 1);
  real("--lr-power", f.lr_power, "Polynomial: its power", 1e-3, 1e3);
  real("--lr-decay", f.lr_decay, "wsd: share of the run in which the rate falls at last", 0, 0.999);
  word("--optimizer", f.optimizer, "Optimiser; adamw: betas 0.9 and 0.999, eps 1e-8",
       {"adamw", "adamw8bit", "adafactor", "lion", "sgd"});
  real("--weight-decay", f.weight_decay, "Decoupled weight decay", 0, 1e3);
  real("--max-grad-norm", f.max_grad_norm, "Norm that gradients are clipped to; 0: never", 0, 1e9);
  word("--precision", f.precision, "Format of the products; auto: " + choice.auto_precision,
       {"auto", "fp32", "bf16", "fp16"});
  app.add_flag("--grad-checkpointing", f.checkpointing, choice.checkpointing)->group(group);
  real("--ema", f.ema,
       std::string("Decay of an average of the weights that is ") + (choice.evaluations ? "evaluated" : "sampled") +
           " and written in their place; 0: none",
       0,
       0.9999999);
}

void add_run_folder(CLI::App& app, TrainFlags& f, const TrainFlagChoice& choice) {
  const std::string group = choice.evaluations ? "Evaluations and checkpoints" : "Checkpoints";
  const auto whole = [&](const std::string& name, std::int64_t& target, const std::string& text, long long low) {
    app.add_option(name, target, text)
        ->check(whole_in_range(low, kMostSteps))
        ->type_name("N")
        ->capture_default_str()
        ->group(group);
  };
  if (choice.evaluations) {
    whole("--eval-every", f.eval_every, "Steps between evaluations; 0: only before the first and after the last step",
          0);
    whole("--early-stop", f.early_stop, "Stop after so many evaluations in a row that are not better; 0: never", 0);
  }
  whole("--save-every", f.save_every,
        std::string("Steps between checkpoints; 0: only at the end") +
            (choice.evaluations ? ", at a stop, and at a best evaluation" : " and at a stop"),
        0);
  whole("--keep", f.keep,
        std::string("Newest checkpoints that are kept") + (choice.evaluations ? ", besides the best one" : ""), 1);
  app.add_option(
         "--resume", f.resume,
         "auto: go on with the run in the output folder, if there is one; never: begin, and refuse a folder with "
         "a run; or a checkpoint's folder")
      ->type_name("auto|never|PATH")
      ->capture_default_str()
      ->group(group);
  app.add_flag("--overwrite", f.overwrite, "Remove the run that is in the output folder and begin anew")->group(group);
}

/// The highest checkpoint-N whose description can be read.
Json newest_description(const std::string& folder) {
  const train::Checkpoints checkpoints(folder);
  const auto steps = checkpoints.steps();
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    try {
      return base::read_json_file(checkpoints.path(*step) + "/state.json");
    } catch (const Error&) {
      continue;
    }
  }
  return nullptr;
}

}  // namespace

void add_train_flags(CLI::App& app, TrainFlags& flags, const TrainFlagChoice& choice) {
  add_training(app, flags, choice);
  add_run_folder(app, flags, choice);
}

std::int64_t steps_of(const TrainFlags& flags, std::int64_t steps_per_epoch) {
  if (flags.steps) return *flags.steps;
  const double steps = std::ceil(flags.epochs * static_cast<double>(steps_per_epoch) - 1e-9);
  if (steps > static_cast<double>(kMostSteps)) throw Error(ExitCode::usage, "--epochs: too many steps");
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(steps));
}

train::LoopOptions loop_options(const TrainFlags& flags, const std::string& run_folder, std::int64_t steps) {
  train::LoopOptions o;
  o.run_folder = run_folder;
  o.steps = steps;
  o.accumulation = flags.accumulation;
  o.lr = flags.lr;
  o.schedule = {.kind = train::schedule_kind(flags.scheduler),
                .steps = steps,
                .warmup_steps = train::warmup_steps(flags.warmup, steps),
                .cycles = flags.lr_cycles,
                .floor = flags.lr_floor,
                .power = flags.lr_power};
  if (o.schedule.kind == train::ScheduleKind::warmup_stable_decay)
    o.schedule.decay_steps = std::min(train::warmup_steps(flags.lr_decay, steps), steps - o.schedule.warmup_steps);
  o.optimizer = {.kind = train::optimizer_kind(flags.optimizer), .weight_decay = flags.weight_decay};
  o.max_grad_norm = flags.max_grad_norm;
  o.ema_decay = flags.ema;
  o.eval_every = flags.eval_every;
  o.early_stop = flags.early_stop;
  o.save_every = flags.save_every;
  o.keep = flags.keep;
  o.resume = flags.resume;
  o.overwrite = flags.overwrite;
  return o;
}

Json train_settings(const TrainFlags& f) {
  return {{"batch_size", f.batch_size},
          {"grad_accum", f.accumulation},
          {"lr", f.lr},
          {"scheduler", f.scheduler},
          {"warmup", f.warmup},
          {"lr_floor", f.lr_floor},
          {"lr_cycles", f.lr_cycles},
          {"lr_power", f.lr_power},
          {"lr_decay", f.lr_decay},
          {"optimizer", f.optimizer},
          {"weight_decay", f.weight_decay},
          {"max_grad_norm", f.max_grad_norm},
          {"ema", f.ema},
          {"early_stop", f.early_stop}};
}

Json saved_settings(const std::string& run_folder, const std::string& resume) {
  if (resume == "never") return nullptr;
  const Json description =
      resume == "auto" ? newest_description(run_folder) : base::read_json_file(resume + "/state.json");
  if (!description.is_object() || !description.contains("settings")) return nullptr;
  return description["settings"];
}

train::Launch take_launch(CommonOptions& common, TrainFlags& flags) {
  const train::Launch launch = train::launch_from_environment();
  if (launch.size == 1) return launch;
  flags.accumulation *= launch.size;
  if ((common.device == "auto" || common.device == "cuda") && at::globalContext().hasCUDA())
    common.device = fmt::format("cuda:{}", launch.local_rank);
  if (launch.rank > 0) {
    common.manifest.clear();
    base::set_log_level(base::LogLevel::quiet);
  }
  return launch;
}

std::uint64_t choose_seed(const CommonOptions& common, const TrainFlags& flags, const std::string& run_folder,
                          train::Processes& processes) {
  std::uint64_t seed = common.seed.value_or(0);
  if (!common.seed) {
    const Json saved = flags.overwrite ? Json() : saved_settings(run_folder, flags.resume);
    const bool known = saved.is_object() && saved.contains("seed") && saved["seed"].is_number_integer();
    seed = known ? saved["seed"].get<std::uint64_t>() : base::draw_seed();
  }
  seed = static_cast<std::uint64_t>(processes.from_first(static_cast<std::int64_t>(seed)));
  common.record->seeds = {seed};
  return seed;
}

}  // namespace atelier::cli
