#include "cli/bench_ballot.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "base/error.h"
#include "base/seed.h"
#include "cli/bench_gate.h"
#include "image/read.h"
#include "metrics/pictures.h"
#include "report/page.h"

namespace atelier::cli {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;
using base::Json;

namespace {

/// The rows of a comparison's results.jsonl that ran.
std::vector<Contestant> of_comparison(const std::string& folder) {
  std::vector<Contestant> contestants;
  for (const Json& row : read_results(folder + "/results.jsonl")) {
    if (row.value("status", "") != "ok" || !row.contains("pictures")) continue;
    Contestant contestant{row["id"].get<std::string>(), {}};
    for (const Json& picture : row["pictures"]) {
      const std::string path = picture.get<std::string>();
      const std::string job = folder + "/jobs/" + fs::path(path).stem().string() + ".json";
      const Json record = base::read_json_file(job, 16u << 20);
      const base::JsonFields fields(record, job);
      contestant.pictures.emplace_back(
          fmt::format("{}\n{}", record.value("seed", Json(0)).dump(), fields.string("prompt")), folder + "/" + path);
    }
    contestants.push_back(std::move(contestant));
  }
  return contestants;
}

Contestant of_folder(const std::string& folder) {
  Contestant contestant{folder, {}};
  for (const std::string& file : metrics::list_pictures(folder).files)
    contestant.pictures.emplace_back(fs::path(file).filename().string(), file);
  return contestant;
}

/// What stands above a question: the prompt, where the subject has one.
std::string caption_of(const std::string& subject) {
  const std::size_t line = subject.find('\n');
  return line == std::string::npos ? "" : subject.substr(line + 1);
}

/// Fisher and Yates, with the generator's own bits: std::shuffle differs between libraries.
template <class T>
void shuffle(std::vector<T>& items, base::Generator& generator) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[generator() % i]);
}

/// JSON within a <script>, where "</script>" and "<!--" would end it.
std::string script_json(const Json& value) {
  std::string out;
  for (const char c : base::dump_json(value)) out += c == '<' ? std::string("\\u003c") : std::string(1, c);
  return out;
}

constexpr const char* kBody = R"html(<h1>Which picture is better?</h1>
<p class="soft">Look at what is asked for, and at how good the picture looks. Keys: left and right arrow for a picture, space for
no difference, backspace to go back. Nothing leaves this page until you save your answers as a file.</p>
<p><label>Your name or initials, if you like: <input id="voter" maxlength="40"></label> <span id="progress" class="soft"></span></p>
<h2 id="caption" class="centred"></h2>
<table class="pictures ballot"><tr><td><img id="left" alt="left picture"></td><td><img id="right" alt="right picture"></td></tr>
<tr><td><button id="choose-left">The left one</button></td><td><button id="choose-right">The right one</button></td></tr></table>
<p class="centred"><button id="choose-tie">No difference</button> <button id="back">Back</button> <button id="save">Save the answers</button></p>
<p id="done" class="centred" hidden>That was the last pair. Please save the answers.</p>
)html";

constexpr const char* kScript = R"js(
const data = DATA;
const answers = new Array(data.pairs.length).fill(null);
let at = 0, shown = performance.now();
const element = id => document.getElementById(id);
function show() {
  const end = at >= data.pairs.length;
  element("done").hidden = !end;
  for (const id of ["left", "right"]) element(id).hidden = end;
  for (const id of ["choose-left", "choose-right", "choose-tie"]) element(id).disabled = end;
  const answered = answers.filter(a => a !== null).length;
  element("progress").textContent = (end ? "" : "pair " + (at + 1) + " of " + data.pairs.length + ", ") + answered + " answered";
  element("caption").textContent = end ? "" : data.pairs[at].caption;
  element("save").disabled = answered === 0;
  if (end) return;
  element("left").src = data.pictures[data.pairs[at].pictures[0]];
  element("right").src = data.pictures[data.pairs[at].pictures[1]];
  shown = performance.now();
}
function choose(choice) {
  if (at >= data.pairs.length) return;
  const pair = data.pairs[at];
  answers[at] = {page: data.page, pair: at, left: pair.ids[0], right: pair.ids[1], choice: choice,
    seconds: Math.round((performance.now() - shown) / 100) / 10};
  at += 1;
  show();
}
function back() { if (at > 0) { at -= 1; show(); } }
function lines() {
  const voter = element("voter").value.trim();
  return answers.filter(a => a !== null).map(a => JSON.stringify(voter ? {...a, voter: voter} : a) + "\n").join("");
}
function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines()], {type: "application/jsonl"}));
  link.download = "answers-" + data.page + ".jsonl";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
for (const choice of ["left", "right", "tie"]) element("choose-" + choice).addEventListener("click", () => choose(choice));
for (const side of ["left", "right"]) element(side).addEventListener("click", () => choose(side));
element("back").addEventListener("click", back);
element("save").addEventListener("click", save);
document.addEventListener("keydown", event => {
  if (event.target.tagName === "INPUT") return;
  const action = {ArrowLeft: () => choose("left"), ArrowRight: () => choose("right"), " ": () => choose("tie"), Backspace: back}[event.key];
  if (action) { event.preventDefault(); action(); }
});
show();
)js";

}  // namespace

std::vector<Contestant> read_contestants(const std::vector<std::string>& folders) {
  std::error_code failed;
  const bool comparison = folders.size() == 1 && fs::is_regular_file(folders[0] + "/results.jsonl", failed);
  std::vector<Contestant> contestants;
  if (comparison)
    contestants = of_comparison(folders[0]);
  else
    for (const std::string& folder : folders) contestants.push_back(of_folder(folder));
  for (std::size_t i = 0; i < folders.size(); ++i)
    if (std::ranges::count(folders, folders[i]) > 1)
      throw Error(ExitCode::usage, fmt::format("{} is given twice", folders[i]));
  if (contestants.size() < 2)
    throw Error(ExitCode::data,
                comparison ? fmt::format("{}: fewer than two of its rows ran", folders[0])
                           : "there is nothing to compare: two folders of pictures, or the output of a comparison");
  return contestants;
}

std::vector<BallotPair> draw_pairs(const std::vector<Contestant>& contestants, std::size_t count, std::uint64_t seed) {
  base::Generator generator(seed);
  std::vector<std::vector<BallotPair>> by_pair;
  for (std::size_t a = 0; a < contestants.size(); ++a)
    for (std::size_t b = a + 1; b < contestants.size(); ++b) {
      const std::map<std::string, std::string> others(contestants[b].pictures.begin(), contestants[b].pictures.end());
      std::vector<BallotPair> pairs;
      for (const auto& [subject, file] : contestants[a].pictures) {
        const auto other = others.find(subject);
        if (other == others.end()) continue;
        BallotPair pair{a, b, subject, caption_of(subject), file, other->second};
        if (generator() % 2 == 1) std::swap(pair.left, pair.right), std::swap(pair.left_file, pair.right_file);
        pairs.push_back(std::move(pair));
      }
      shuffle(pairs, generator);
      if (!pairs.empty()) by_pair.push_back(std::move(pairs));
    }
  if (by_pair.empty()) throw Error(ExitCode::data, "no two of the folders have a picture of the same name");
  shuffle(by_pair, generator);
  std::vector<BallotPair> drawn;
  for (std::size_t round = 0; drawn.size() < count; ++round) {
    const std::size_t before = drawn.size();
    for (const auto& pairs : by_pair)
      if (round < pairs.size() && drawn.size() < count) drawn.push_back(pairs[round]);
    if (drawn.size() == before) break;
  }
  shuffle(drawn, generator);
  return drawn;
}

std::string ballot_page(const std::string& page_id, const std::vector<std::string>& ids,
                        const std::vector<BallotPair>& pairs) {
  Json data = {{"page", page_id}, {"pictures", Json::array()}, {"pairs", Json::array()}};
  std::map<std::string, std::size_t> places;  // each picture is in the page once
  const auto place = [&](const std::string& file) {
    const auto [found, is_new] = places.emplace(file, data["pictures"].size());
    if (is_new) data["pictures"].push_back(report::data_uri(image::read_image(file)));
    return found->second;
  };
  for (const BallotPair& pair : pairs) {
    const std::size_t left = place(pair.left_file), right = place(pair.right_file);
    data["pairs"].push_back(
        {{"ids", {ids[pair.left], ids[pair.right]}}, {"caption", pair.caption}, {"pictures", {left, right}}});
  }
  std::string script = kScript;
  script.replace(script.find("DATA"), 4, script_json(data));
  return report::page("Which picture is better?", kBody, script);
}

}  // namespace atelier::cli
