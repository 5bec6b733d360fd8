// sd-bench vote: a page of blind pairs. sd-bench elo: ratings from the answers.
#include <algorithm>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "base/log.h"
#include "base/seed.h"
#include "base/sha256.h"
#include "cli/bench.h"
#include "cli/bench_ballot.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/text_lines.h"
#include "cli/validators.h"
#include "io/file_system.h"
#include "metrics/bradley_terry.h"
#include "report/table.h"
#include "report/text.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

constexpr std::size_t kMaxBytes = 256u << 20, kFewAnswers = 30;

// ---- vote ----

struct VoteOptions {
  CommonOptions common;
  std::vector<std::string> folders;
  std::string output, key;
  std::int64_t pairs = 50;
};

void bind_vote(CLI::App& app, VoteOptions& o) {
  app.add_option("FOLDERS", o.folders,
                 "Two or more folders with pictures of the same names, or the output folder of a comparison")
      ->type_name("DIR")
      ->required()
      ->group("Arguments");
  app.add_option("-o,--output", o.output, "The page, an HTML file that needs nothing beside itself")
      ->type_name("FILE")
      ->required()
      ->group("Page");
  app.add_option("--key", o.key,
                 "Who is who, for sd-bench elo; not for those who vote (left out, the page's name with .key.json)")
      ->type_name("FILE")
      ->group("Page");
  app.add_option("--pairs", o.pairs, "Questions on the page")->check(whole_in_range(1, 100000))->group("Page");
  add_command_options(
      app, o.common,
      "sd-bench vote report/ --output vote.html\n  sd-bench vote a/ b/ c/ --pairs 100 --output vote.html",
      {.model = false, .device = false, .dtype = false, .plan = false, .batches = false, .completions = false});
}

int run_vote(const VoteOptions& o) {
  const auto contestants = read_contestants(o.folders);
  const std::uint64_t seed = o.common.seed ? *o.common.seed : base::draw_seed();
  const auto pairs = draw_pairs(contestants, static_cast<std::size_t>(o.pairs), seed);
  // Names that say nothing: hashes with the seed, which is not in the page.
  std::vector<std::string> ids;
  std::string all;
  Json names = Json::object();
  for (const Contestant& contestant : contestants) {
    ids.push_back(base::sha256_hex(fmt::format("{}\n{}", seed, contestant.name)).substr(0, 10));
    names[ids.back()] = contestant.name;
    all += ids.back();
  }
  const std::string page_id = base::sha256_hex(all).substr(0, 10);
  const std::string page = ballot_page(page_id, ids, pairs);
  const std::string key =
      o.key.empty() ? std::filesystem::path(o.output).replace_extension(".key.json").string() : o.key;
  io::write_atomically(key, Json({{"page", page_id}, {"seed", seed}, {"names", names}}).dump(2) + "\n");
  io::write_atomically(o.output, page);
  o.common.record->seeds = {seed};
  o.common.record->outputs = {o.output, key};
  Output output;
  if (o.common.json)
    output.record({{"page", o.output}, {"key", key}, {"pairs", pairs.size()}, {"contestants", names}, {"seed", seed}});
  else
    output.text(o.output + "\n" + key + "\n");
  return 0;
}

// ---- elo ----

struct EloOptions {
  CommonOptions common;
  std::vector<std::string> answers, keys;
  double prior = 1;
  std::int64_t bootstrap = 1000;
};

void bind_elo(CLI::App& app, EloOptions& o) {
  app.add_option("ANSWERS", o.answers, "Files of answers that the page has saved (JSON Lines)")
      ->type_name("FILE")
      ->required()
      ->group("Arguments");
  add_list(app, "--key", o.keys, "Who is who, as sd-bench vote wrote it; left out, ratings are of the page's names")
      ->type_name("FILE")
      ->group("Ratings");
  app.add_option("--prior", o.prior,
                 "Draws against an average opponent that everyone begins with; 0: none, and who never lost has no "
                 "rating (exit code 65)")
      ->check(in_range(0, 1000))
      ->group("Ratings");
  app.add_option("--bootstrap", o.bootstrap, "Samples that 95 % intervals are made of")
      ->check(whole_in_range(0, 100000))
      ->group("Ratings");
  add_command_options(
      app, o.common, "sd-bench elo answers-*.jsonl --key vote.key.json",
      {.model = false, .device = false, .dtype = false, .plan = false, .batches = false, .completions = false});
}

struct Answer {
  std::string left, right;
  double score = 0.5;  ///< of the left
};

/// The answers by page, pair and voter: who answers a question again has changed their mind.
using Answers = std::map<std::string, Answer>;

void read_answer(const std::string& line, const std::string& where, Answers& answers) {
  const Json object = base::parse_json(line, where);
  if (!object.is_object()) throw Error(ExitCode::data, where + ": not a JSON object");
  const base::JsonFields fields(object, where);
  Answer answer{fields.string("left"), fields.string("right"), 0.5};
  const std::string choice = fields.string("choice");
  if (choice != "left" && choice != "right" && choice != "tie")
    throw Error(ExitCode::data,
                fmt::format("{}: \"choice\" is {}, expected left, right or tie", where, base::in_quotes(choice)));
  if (answer.left == answer.right) throw Error(ExitCode::data, where + ": \"left\" and \"right\" are the same");
  answer.score = choice == "left" ? 1 : choice == "right" ? 0 : 0.5;
  const bool numbered = fields.has("pair");
  const std::string question = numbered ? fields.string_or("page", "") + "\n" + object["pair"].dump() + "\n" +
                                              fields.string_or("voter", where.substr(0, where.rfind(": line")))
                                        : where;
  answers[question] = answer;
}

Answers read_answers(const std::vector<std::string>& paths) {
  Answers answers;
  for (const std::string& path : paths)
    for_each_line(path, kMaxBytes,
                  [&](const std::string& line, const std::string& where) { read_answer(line, where, answers); });
  if (answers.empty()) throw Error(ExitCode::data, fmt::format("{}: there is no answer in it", paths.front()));
  return answers;
}

std::map<std::string, std::string> read_keys(const std::vector<std::string>& paths) {
  std::map<std::string, std::string> names;
  for (const std::string& path : paths) {
    const Json key = base::read_json_file(path);
    const Json found = key.is_object() ? key.value("names", Json(nullptr)) : Json(nullptr);
    if (!found.is_object()) throw Error(ExitCode::data, path + ": not a key of sd-bench vote");
    for (const auto& [id, name] : found.items()) {
      if (!name.is_string()) throw Error(ExitCode::data, path + ": a name is no text");
      names[id] = name.get<std::string>();
    }
  }
  return names;
}

Json rating_record(const std::string& name, const metrics::Rating& rating, std::size_t answers) {
  return {{"metric", "elo"},
          {"variant", "bradley-terry"},
          {"name", name},
          {"value", rating.elo},
          {"interval", {rating.interval.first, rating.interval.second}},
          {"n_real", 0},
          {"n_fake", rating.games},
          {"wins", rating.wins},
          {"answers", answers},
          {"weights_sha256", ""}};
}

int run_elo(const EloOptions& o) {
  const Answers answers = read_answers(o.answers);
  const auto key = read_keys(o.keys);
  std::vector<std::string> names;
  const auto place = [&](const std::string& id) {
    const auto known = key.find(id);
    if (!o.keys.empty() && known == key.end())
      throw Error(ExitCode::data, fmt::format("{} of the answers is not in {}", base::in_quotes(id), o.keys.front()),
                  "the key must be the one that was written with the page");
    const std::string& name = known == key.end() ? id : known->second;
    const auto found = std::ranges::find(names, name);
    if (found == names.end()) names.push_back(name);
    return static_cast<std::size_t>(std::ranges::find(names, name) - names.begin());
  };
  std::vector<metrics::Comparison> comparisons;
  for (const auto& [question, answer] : answers) {
    const std::size_t left = place(answer.left), right = place(answer.right);
    comparisons.push_back({left, right, answer.score});
  }
  if (comparisons.size() < kFewAnswers)
    base::log_warning(fmt::format("{} answers are few: the intervals show how little they say", comparisons.size()));
  const auto ratings =
      metrics::rate(names.size(), comparisons, {o.prior, static_cast<int>(o.bootstrap), o.common.seed.value_or(0)});
  std::vector<std::size_t> order(names.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return ratings[a].elo > ratings[b].elo; });
  Output output;
  report::Table table{{{"Name"}, {"Elo", true}, {"95 % interval", true}, {"Games", true}, {"Wins", true}}, {}};
  for (const std::size_t i : order) {
    if (o.common.json) output.record(rating_record(names[i], ratings[i], comparisons.size()));
    table.rows.push_back({names[i], fmt::format("{:.0f}", ratings[i].elo),
                          fmt::format("{:.0f} to {:.0f}", ratings[i].interval.first, ratings[i].interval.second),
                          fmt::format("{}", ratings[i].games), report::number(ratings[i].wins)});
  }
  if (!o.common.json) output.text(report::to_markdown(table));
  return 0;
}

}  // namespace

std::vector<BenchCommand> vote_commands() {
  return {bench_command<VoteOptions>(
              "vote", "Write a page on which people choose between pictures without knowing who made them.", bind_vote,
              run_vote),
          bench_command<EloOptions>(
              "elo", "Rate what they chose between (Bradley-Terry, as Elo points with intervals).", bind_elo, run_elo)};
}

}  // namespace atelier::cli
