#include "cli/generate_options.h"

#include "cli/text_run.h"
#include "cli/validators.h"

namespace atelier::cli {
namespace {

constexpr long long most_tokens = 1 << 24;

void add_prompt_flags(CLI::App& app, GenerateOptions& o) {
  const std::string group = "Prompt";
  auto* prompt = app.add_option("-p,--prompt", o.prompt, "The prompt; without it and --file it is read from stdin")
                     ->type_name("TEXT");
  auto* file = app.add_option("-f,--file", o.file, "Read the prompt from a file, - is stdin (a last newline does not count)")
                   ->type_name("FILE");
  auto* chat = app.add_flag("--chat", o.chat,
                            "Wrap the prompt in the model's turns (default where the model brings a chat template)");
  auto* raw = app.add_flag("--raw", o.raw, "Take the prompt as it is (default for base models)");
  auto* system = app.add_option("--system", o.system, "System text; for models that know none it opens the user's turn")
                     ->type_name("TEXT");
  auto* special = app.add_flag("--special", o.special, "Let control tokens spelled in the prompt be control tokens");
  prompt->excludes(file);
  chat->excludes(raw);
  for (auto* option : {prompt, file, chat, raw, system, special}) option->group(group);
}

void add_output_flags(CLI::App& app, GenerateOptions& o) {
  const std::string group = "Output";
  app.add_flag("--no-stream", o.no_stream, "Print the text when it is finished, not as it comes")->group(group);
  app.add_option("-o,--output", o.output, "Write to a file instead of stdout; whole or not at all")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--logprobs", o.logprobs,
                 "Log-probabilities of each token and of the K most likely ones, before any filter (with --json)")
      ->type_name("K")
      ->check(whole_in_range(0, 1000))
      ->group(group);
  app.add_flag("--score", o.score, "Generate nothing: log-probabilities and perplexity of the prompt")->group(group);
}

}  // namespace

void add_generation_flags(CLI::App& app, GenerationFlags& f) {
  const std::string group = "Sampling";
  auto& s = f.sampling;
  const auto number = [&](const std::string& name, auto& target, const std::string& text, const CLI::Validator& check) {
    return app.add_option(name, target, text)->check(check)->capture_default_str()->group(group);
  };
  number("-n,--max-tokens", f.max_tokens, "Most tokens to generate; cut to what the context leaves",
         whole_in_range(0, most_tokens))
      ->type_name("N");
  app.add_option("--temperature", f.temperature, "0 is greedy (which is MedGemma's default)")
      ->check(in_range(0, 100))
      ->default_str("1")
      ->type_name("T")
      ->group(group);
  number("--top-k", s.top_k, "Keep the K most likely tokens; 0: all", whole_in_range(0, most_tokens))->type_name("K");
  number("--top-p", s.top_p, "Keep the most likely tokens that together reach P; 1: all", in_range(0, 1))
      ->type_name("P");
  number("--min-p", s.min_p, "Drop tokens less likely than P times the most likely one", in_range(0, 1))
      ->type_name("P");
  number("--repeat-penalty", s.repeat_penalty, "Divide the positive logits of recent tokens, multiply the negative",
         in_range(1e-3, 1000))
      ->type_name("X");
  number("--repeat-last-n", s.repeat_last_n, "How many tokens of prompt and reply are recent; -1: all",
         whole_in_range(-1, most_tokens))
      ->type_name("N");
  number("--presence-penalty", s.presence_penalty, "Subtracted from tokens that the reply holds already",
         in_range(-100, 100))
      ->type_name("X");
  number("--frequency-penalty", s.frequency_penalty, "The same, as often as the reply holds them", in_range(-100, 100))
      ->type_name("X");
  add_list(app, "--stop", f.stop, "End the reply before this text")->type_name("TEXT")->group(group);
  app.add_option("--truncate", f.truncate,
                 "Cut a prompt longer than the context: head drops its beginning, tail its end, middle what lies "
                 "between; room for "
                 "--max-tokens is left, up to half of the context")
      ->check(one_of({"head", "middle", "tail"}))
      ->group(group);
}

pipelines::SamplingOptions sampling_of(const GenerationFlags& flags, pipelines::Variant variant) {
  pipelines::SamplingOptions sampling = flags.sampling;
  sampling.temperature = flags.temperature.value_or(variant == pipelines::Variant::medgemma ? 0 : 1);
  return sampling;
}

pipelines::Truncation truncation_of(const GenerationFlags& flags) {
  using pipelines::Truncation;
  const std::string& how = flags.truncate;
  return how == "head"     ? Truncation::head
         : how == "middle" ? Truncation::middle
         : how == "tail"   ? Truncation::tail
                           : Truncation::none;
}

void define_generate_flags(CLI::App& app, GenerateOptions& o) {
  add_common_options(app, o.common,
                     "gemma-generate -p \"Write a caption for a picture of a red circle.\" --seed 1\n"
                     "  gemma-generate --jobs jobs.jsonl --batch-size 8 -o records.jsonl --resume\n"
                     "  echo \"Translate to German: a red circle\" | gemma-generate --json | jq -r .text");
  add_adapter_flag(app, o.adapters);
  add_quantize_flag(app, o.quantize);
  add_prompt_flags(app, o);
  add_generation_flags(app, o.generation);
  add_constraint_flags(app, o.constraint);
  add_variant_flags(app, o.variants);
  add_prompt_cache_flags(app, o.prompt_cache);
  add_decoding_flags(app, o.decoding);
  add_output_flags(app, o);
  const std::string group = "Batches";
  app.add_option("--count", o.count, "Candidates for each prompt; candidate i uses seed N+i")
      ->check(whole_in_range(1, 1 << 20))
      ->type_name("N")
      ->capture_default_str()
      ->group(group);
  app.add_option("--batch-size", o.batch_size, "Results computed at once; it never changes them")
      ->check(whole_in_range(1, 64))
      ->type_name("N")
      ->capture_default_str()
      ->group(group);
  app.add_option("--deadline", o.deadline, "End each result after so many seconds and keep what it has")
      ->check(in_range(0, 1e9))
      ->type_name("SECONDS")
      ->group(group);
}

JobRules generate_job_rules() {
  return {.whole_run = {"adapter", "quantize", "output", "batch-size", "no-stream", "variant", "safety-model",
                        "prompt-cache", "prompt-cache-size", "draft", "kv-cache"},
          .json = {"tools", "json-schema"}};
}

pipelines::PromptOptions prompt_options(const GenerateOptions& o) {
  using pipelines::PromptMode;
  pipelines::PromptOptions p;
  p.mode = o.chat ? PromptMode::chat : o.raw ? PromptMode::raw : PromptMode::automatic;
  p.system = o.system;
  p.special = o.special;
  p.max_tokens = o.generation.max_tokens;
  p.truncation = truncation_of(o.generation);
  return p;
}

}  // namespace atelier::cli
