#include "cli/finetune_options.h"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "base/error.h"
#include "cli/validators.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using train::text_data::DatasetOptions;
using train::text_data::OnLong;

constexpr long long kMostTokens = 1 << 24;

void in_group(const std::string& group, std::initializer_list<CLI::Option*> options) {
  for (CLI::Option* option : options) option->group(group);
}

CLI::Option* whole(CLI::App& app, const std::string& name, std::int64_t& target, const std::string& text, long long low,
                   long long high) {
  return app.add_option(name, target, text)->check(whole_in_range(low, high))->type_name("N")->capture_default_str();
}

CLI::Option* word(CLI::App& app, const std::string& name, std::string& target, const std::string& text,
                  std::vector<std::string> choices) {
  return app.add_option(name, target, text)->check(one_of(std::move(choices)))->capture_default_str();
}

void add_data_flags(CLI::App& app, FinetuneOptions& o) {
  in_group(
      "Data",
      {app.add_option(
              "--data", o.data,
              "Rows to learn, JSON Lines: {\"text\"}, {\"prompt\",\"completion\"} or {\"messages\",\"tools\"}; all "
              "of one kind")
           ->type_name("FILE"),
       app.add_option("--eval-data", o.eval_data, "Held-out rows, for the evaluations")->type_name("FILE"),
       app.add_flag("--check", o.check,
                    "Report token lengths, supervised share and ends of turns of the data, and exit"),
       whole(app, "--max-seq-len", o.max_seq_len, "Tokens of a row, and of a pack", 2, kMostTokens),
       word(app, "--on-long", o.on_long, "What becomes of a longer row: cut, left out, or an error",
            {"truncate", "drop", "error"}),
       app.add_flag("--packing", o.packing, "Put several rows into one sequence; they never see each other"),
       app.add_flag("--group-by-length", o.group_by_length, "Make batches of rows of like length"),
       app.add_flag("--no-shuffle", o.no_shuffle, "Take the rows in the file's order"),
       word(app, "--mask-prompt", o.mask_prompt,
            "Whether prompts and the users' turns are left out of the loss; auto: wherever a row has them",
            {"auto", "true", "false"}),
       app.add_flag("--special", o.special, "Let control tokens spelled in {\"text\"} rows be control tokens")});
}

void add_method_flags(CLI::App& app, FinetuneOptions& o) {
  auto* rank = whole(app, "--rank", o.rank, "Rank of the adapter", 1, 1 << 16);
  auto* alpha = app.add_option("--alpha", o.alpha, "Its scale is alpha / rank")
                    ->check(in_range(1e-6, 1e6))
                    ->type_name("X")
                    ->capture_default_str();
  auto* targets =
      app.add_option("--target-modules", o.target_modules,
                     "Names of the modules that get an adapter, with commas; all-linear; or a regular expression "
                     "for whole paths (embed_tokens and lm_head can be named)")
          ->type_name("LIST")
          ->capture_default_str();
  auto* ranks = add_list(app, "--rank-pattern", o.rank_patterns, "Another rank for the modules whose path ends so")
                    ->type_name("EXPRESSION=N");
  auto* alphas = add_list(app, "--alpha-pattern", o.alpha_patterns, "Another alpha for the modules whose path ends so")
                     ->type_name("EXPRESSION=X");
  auto* rslora = app.add_flag("--rslora", o.rslora, "Scale by alpha / sqrt(rank)");
  auto* dora = app.add_flag("--use-dora", o.use_dora,
                            "DoRA: learn the weights' magnitudes, too; what --method dora is, "
                            "and can be had with qlora");
  auto* dropout = app.add_option("--dropout", o.dropout, "Share of the adapter's inputs that is dropped while training")
                      ->check(in_range(0, 0.999))
                      ->type_name("X")
                      ->capture_default_str();
  auto* begin = app.add_option("--init-adapter", o.init_adapter, "Begin with this adapter, its ranks and modules")
                    ->type_name("DIR");
  for (auto* option : {rank, alpha, targets, ranks, alphas, rslora}) begin->excludes(option);
  in_group(
      "Method",
      {word(app, "--method", o.method,
            "lora, qlora (on a base in 4 bits), dora, or full: all weights are trained, and a model folder is written",
            {"lora", "qlora", "dora", "full"}),
       rank, alpha, targets, ranks, alphas, rslora, dora, dropout, begin,
       word(app, "--init", o.init,
            "random: train the model of a config.json from nothing (--method full); the folder needs no weights",
            {"model", "random"})});
}

void add_output_flags(CLI::App& app, FinetuneOptions& o) {
  in_group("Output",
           {app.add_option("-o,--output", o.output,
                           "Folder of the run: the adapter in PEFT's layout (full: a model folder), metrics.jsonl, "
                           "TensorBoard's event files, checkpoint-N")
                ->type_name("DIR"),
            app.add_flag("--merge", o.merge, "Also write DIR/merged, a model folder with the adapter in its weights"),
            app.add_flag("--best", o.best,
                         "Write the weights of the best evaluation, not the last ones (implied by --early-stop and "
                         "--require-improvement)"),
            app.add_flag("--require-improvement", o.require_improvement,
                         "Write nothing and end with exit code 4 where no evaluation is better than the one before the "
                         "first step"),
            app.add_option("--sample-prompts", o.sample_prompts,
                           "Answer these prompts at every evaluation (a prompt a line, or JSON Lines with \"prompt\"), "
                           "into DIR/samples")
                ->type_name("FILE"),
            whole(app, "--sample-tokens", o.sample_tokens, "Most tokens of such an answer", 1, kMostTokens)});
}

/// "EXPRESSION=NUMBER"; an expression may hold a = itself.
std::pair<std::string, double> pattern(const std::string& text, const char* flag, bool whole_number) {
  const std::size_t at = text.rfind('=');
  double number = 0;
  const char* begin = text.data() + (at == std::string::npos ? text.size() : at + 1);
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), number);
  const bool good = at != std::string::npos && at > 0 && begin != text.data() + text.size() && error == std::errc() &&
                    end == text.data() + text.size() && number > 0 && number <= 1e6 &&
                    (!whole_number || number == std::floor(number));
  if (!good)
    throw Error(ExitCode::usage, fmt::format("{}: \"{}\" is not EXPRESSION={}", flag, text, whole_number ? "N" : "X"));
  return {text.substr(0, at), number};
}

/// Names separated by commas; anything else is an expression.
models::adapters::ModuleSelection selection(const std::string& text) {
  models::adapters::ModuleSelection found;
  const bool names =
      text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,") == std::string::npos;
  if (!names || text == "all-linear") {
    found.expression = text;
    return found;
  }
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) found.names.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  if (found.names.empty()) throw Error(ExitCode::usage, "--target-modules names no module");
  return found;
}

}  // namespace

void define_finetune_flags(CLI::App& app, FinetuneOptions& o) {
  add_trainer_options(
      app, o.common,
      "gemma-finetune --model gemma-2-2b-it --data train.jsonl --output adapter\n"
      "  gemma-finetune --data train.jsonl --check\n"
      "  gemma-finetune --method qlora --data train.jsonl --eval-data held-out.jsonl --eval-every 50 \\\n"
      "    --early-stop 3 --require-improvement --output adapter --merge");
  add_data_flags(app, o);
  add_method_flags(app, o);
  add_train_flags(app, o.train);
  add_output_flags(app, o);
}

FinetuneMethod method_of(const FinetuneOptions& o) {
  return o.method == "full"    ? FinetuneMethod::full
         : o.method == "qlora" ? FinetuneMethod::qlora
         : o.method == "dora"  ? FinetuneMethod::dora
                               : FinetuneMethod::lora;
}

void check_finetune_flags(const FinetuneOptions& o) {
  const auto require = [](bool good, const std::string& message, const std::string& hint = {}) {
    if (!good) throw Error(ExitCode::usage, message, hint);
  };
  require(!o.data.empty(), "--data is missing", "it names the rows to learn, a JSON Lines file");
  if (o.check) return;
  require(!o.output.empty() || o.common.plan, "--output is missing", "it names the folder of the run");
  const bool full = o.method == "full";
  require(full || o.init == "model", "--init random needs --method full");
  for (const char* flag : {"rank", "alpha", "target-modules", "rank-pattern", "alpha-pattern", "rslora", "use-dora",
                           "dropout", "init-adapter", "merge"})
    require(!full || !o.given(flag), fmt::format("--{} does not go with --method full", flag));
  const bool evaluates = !o.eval_data.empty();
  for (const auto& [flag, given] : {std::pair{"--early-stop", o.train.early_stop > 0},
                                    {"--best", o.best},
                                    {"--require-improvement", o.require_improvement}})
    require(evaluates || !given, fmt::format("{} needs --eval-data", flag));
  require(o.train.early_stop == 0 || o.train.eval_every > 0, "--early-stop needs --eval-every");
  require(evaluates || !o.sample_prompts.empty() || o.train.eval_every == 0,
          "--eval-every needs --eval-data or --sample-prompts");
  require(!o.train.overwrite || o.train.resume == "auto", "--overwrite does not go with --resume");
  require(!(o.packing && o.group_by_length), "--packing does not go with --group-by-length");
}

models::adapters::PeftConfig adapter_config(const FinetuneOptions& o) {
  models::adapters::PeftConfig config;
  config.r = o.rank;
  config.lora_alpha = o.alpha;
  config.lora_dropout = o.dropout;
  config.use_rslora = o.rslora;
  config.use_dora = o.use_dora || o.method == "dora";
  config.target_modules = selection(o.target_modules);
  for (const std::string& text : o.rank_patterns) config.rank_pattern.push_back(pattern(text, "--rank-pattern", true));
  for (const std::string& text : o.alpha_patterns)
    config.alpha_pattern.push_back(pattern(text, "--alpha-pattern", false));
  config.base_model = o.common.model;
  return config;
}

DatasetOptions dataset_options(const FinetuneOptions& o, std::uint64_t seed) {
  return {.max_tokens = o.max_seq_len,
          .on_long = o.on_long == "drop"    ? OnLong::drop
                     : o.on_long == "error" ? OnLong::error
                                            : OnLong::truncate,
          .packing = o.packing,
          .group_by_length = o.group_by_length,
          .shuffle = !o.no_shuffle,
          .batch_size = o.train.batch_size,
          .seed = seed};
}

DatasetOptions held_out_options(const FinetuneOptions& o) {
  DatasetOptions options = dataset_options(o, 0);
  options.packing = options.group_by_length = options.shuffle = false;
  return options;
}

}  // namespace atelier::cli
