#include "cli/constraint_options.h"

#include <set>

#include "base/error.h"
#include "base/json.h"
#include "models/gemma/model.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using text::constraint::Constraint;
using text::constraint::Vocabulary;

constexpr std::uint64_t most_schema_bytes = 4u << 20;
constexpr std::size_t most_compiled = 32;

bool is_inline(const std::string& schema) { return schema.find_first_not_of(" \t\r\n") == schema.find('{'); }

base::Json read_schema(const std::string& schema) {
  if (is_inline(schema)) return base::parse_json(schema, "--json-schema");
  return base::read_json_file(schema, most_schema_bytes);
}

std::shared_ptr<Constraint> compile(const ConstraintFlags& flags, const std::shared_ptr<const Vocabulary>& vocabulary) {
  if (flags.json_object) return Constraint::json_object(vocabulary);
  if (!flags.regex.empty()) return Constraint::regex(vocabulary, flags.regex);
  return Constraint::json_schema(vocabulary, read_schema(flags.json_schema),
                                 is_inline(flags.json_schema) ? "--json-schema" : flags.json_schema);
}

std::string key_of(const ConstraintFlags& flags) {
  return flags.json_object ? "object" : !flags.regex.empty() ? "regex " + flags.regex : "schema " + flags.json_schema;
}

}  // namespace

void add_constraint_flags(CLI::App& app, ConstraintFlags& f) {
  const std::string group = "Constraints";
  auto* object = app.add_flag("--json-object", f.json_object, "The text is a JSON object");
  auto* schema =
      app.add_option(
             "--json-schema", f.json_schema,
             "The text is JSON that this schema accepts (2020-12 or draft 7); in a job also the schema itself. "
             "Unsupported keywords are refused. --max-tokens is kept: the structure is closed in time, or exit 4")
          ->type_name("FILE");
  auto* regex =
      app.add_option("--regex", f.regex, "The whole text matches this regular expression (ECMAScript's syntax)")
          ->type_name("RE");
  for (auto* option : {static_cast<CLI::Option*>(object), schema, regex}) option->group(group);
}

void check_constraint(const ConstraintFlags& flags, const std::vector<std::string>& stop, bool score) {
  if (!flags.any()) return;
  // Looked at here and not by CLI11, because a job may bring the one and the command line the other.
  if ((flags.json_object ? 1 : 0) + (flags.json_schema.empty() ? 0 : 1) + (flags.regex.empty() ? 0 : 1) > 1)
    throw Error(ExitCode::usage, "--json-object, --json-schema and --regex do not go together");
  if (!stop.empty())
    throw Error(ExitCode::usage, "--stop does not go with a constraint, which itself says where the text ends");
  if (score) throw Error(ExitCode::usage, "--score generates nothing: a constraint does not go with it");
  static std::set<std::string> checked;
  const std::string key = key_of(flags);
  if (checked.contains(key)) return;
  std::vector<std::string> bytes;
  for (int b = 0; b < 256; ++b) bytes.emplace_back(1, static_cast<char>(b));
  compile(flags, Vocabulary::from_pieces(bytes));
  if (checked.size() < 1024) checked.insert(key);
}

void ConstraintCache::apply(const ConstraintFlags& flags, const pipelines::TextModel& model,
                            pipelines::GenerationRequest& request) {
  if (!flags.any()) return;
  if (!vocabulary_)
    vocabulary_ = Vocabulary::from(*model.tokenizer, static_cast<text::TokenId>(model.network->config().vocab_size));
  if (compiled_.size() >= most_compiled) compiled_.clear();
  auto& compiled = compiled_[key_of(flags)];
  if (!compiled || compiled->grown()) compiled = compile(flags, vocabulary_);
  request.constraint = compiled;
  pipelines::require_room(model, request);
}

}  // namespace atelier::cli
