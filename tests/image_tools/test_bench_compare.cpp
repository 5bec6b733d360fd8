// sd-bench compare as its users see it: rows, reports, going on, rows that cannot run, gates.
#include "image_tools/bench.h"

#include <csignal>
#include <filesystem>
#include <iterator>

#include "image/read.h"

#include "support/doctest_last.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;
namespace fs = std::filesystem;

const std::vector<std::string> kGrid = {"--samplers", "euler", "ddim", "--steps", "2", "3"};

std::vector<std::string> with_model(std::vector<std::string> args, const std::string& model = "sd15") {
  args.insert(args.end(), {"--models", tiny_model(model)});
  return args;
}

std::map<std::string, std::string> files_in(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    files[entry.path().filename().string()] = entry.path().string();
  return files;
}

}  // namespace

TEST_CASE("a comparison has a row for each setting, with times, memory and pictures, in four files") {
  const ComparisonFolder c;
  const Result r = c.compare({"--models", tiny_model("sd15"), tiny_model("sd2v"), "--samplers", "euler",
                              "DPM++ 2M Karras", "--steps", "2", "3"});
  CAPTURE(r.err);
  REQUIRE(r.code == 0);
  CHECK(r.err.empty());
  const auto rows = c.rows();
  REQUIRE(rows.size() == 8);
  CHECK(rows[0]["id"] == "sd15/none/auto/euler/2");
  CHECK(rows[3]["id"] == "sd15/none/auto/DPM++ 2M Karras/3");
  CHECK(rows[3]["sampler"] == "dpmpp_2m");
  CHECK(rows[3]["schedule"] == "karras");
  CHECK(rows[7]["model"] == "sd2v");
  for (const Json& row : rows) {
    CHECK(row["status"] == "ok");
    CHECK(row["n"] == 3);
    CHECK(row["timings"]["step_s"]["n"] == 3 * row["steps"].get<int>());
    for (const char* stage : {"load_s", "text_s", "step_s", "vae_s", "picture_s"}) {
      CHECK(row["timings"][stage]["median"].get<double>() > 0);
      CHECK(row["timings"][stage]["p95"].get<double>() >= row["timings"][stage]["median"].get<double>());
    }
    CHECK(row["memory"]["allocator_bytes"].get<std::uint64_t>() > 10000);
    CHECK(row["memory"]["process_bytes"].get<std::uint64_t>() > row["memory"]["allocator_bytes"].get<std::uint64_t>());
    CHECK(row["model_sha256"].get<std::string>().size() == 64);
    CHECK(row["pictures"].size() == 3);
  }
  CHECK(rows[0]["model_sha256"] != rows[7]["model_sha256"]);
  CHECK(lines_of(c.read("out/results.csv")).size() == 9);
  const std::string html = c.read("out/report.html"), markdown = c.read("out/report.md");
  CHECK(count_of(html, "<img") == 24);
  CHECK(count_of(html, "src=\"data:image/png;base64,") == 24);
  CHECK(count_of(html, "http") - count_of(html, "http://www.w3.org/2000/svg") - count_of(html, "http-equiv") ==
        0);  // needs nothing from anywhere
  CHECK(count_of(html, "<svg") == 2);
  for (const char* text : {"sd15", "sd2v", "DPM++ 2M Karras", "v_prediction"}) {
    CHECK(html.find(text) != std::string::npos);
  }
  CHECK(markdown.find("| sd2v · DPM++ 2M Karras · 3 steps |") != std::string::npos);
  CHECK(r.out.find("| sd15 · euler · 2 steps |") != std::string::npos);
}

TEST_CASE("its pictures are those of sd-txt2img with the same seeds") {
  const ComparisonFolder c;
  REQUIRE(c.compare(with_model({"--samplers", "euler_a", "--steps", "3", "--seed", "7"})).code == 0);
  const auto rows = c.rows();
  const std::string alone = c.file("alone.png");
  REQUIRE(image_tool("sd-txt2img", "sd15",
                     {"-p", "an old man", "-W", "32", "-H", "24", "--steps", "3", "--sampler", "euler_a", "-s", "8",
                      "-o", alone, "--quiet"})
              .code == 0);
  CHECK(image::read_image(c.file("out/" + rows[0]["pictures"][1].get<std::string>())) == image::read_image(alone));
}

TEST_CASE("with --json each row is a record on stdout, and --manifest says what ran") {
  const ComparisonFolder c;
  const Result r =
      c.compare(with_model({"--samplers", "euler", "--steps", "2", "--json", "--manifest", c.file("m.json")}));
  REQUIRE(r.code == 0);
  CHECK(r.out == c.read("out/results.jsonl"));
  const Json manifest = base::parse_json(c.read("m.json"), "manifest");
  CHECK(manifest["tool"] == "sd-bench");
  CHECK(manifest["device"] == "cpu");
  CHECK(manifest["seeds"] == Json({0, 1, 2}));
  CHECK(manifest["outputs"].size() == 4);
  CHECK(manifest["model"]["files"].size() >= 3);
}

TEST_CASE("the same command goes on: only what is missing or damaged is made again") {
  const ComparisonFolder c;
  REQUIRE(c.compare(with_model(kGrid)).code == 0);
  std::map<std::string, std::string> jobs, pictures;
  for (const auto& [name, path] : files_in(c.file("out/jobs"))) jobs[name] = c.read("out/jobs/" + name);
  for (const auto& [name, path] : files_in(c.file("out/pictures"))) pictures[name] = c.read("out/pictures/" + name);
  REQUIRE(jobs.size() == 12);
  const std::string first = pictures.begin()->first, second = std::next(pictures.begin())->first;
  fs::remove(c.file("out/pictures/" + first));
  c.write("out/pictures/" + second, "damaged");
  const std::string before = c.read("out/results.jsonl");
  REQUIRE(c.compare(with_model(kGrid)).code == 0);
  int changed = 0;
  for (const auto& [name, text] : jobs) changed += c.read("out/jobs/" + name) != text ? 1 : 0;
  CHECK(changed == 2);  // their times
  for (const auto& [name, bytes] : pictures) CHECK(c.read("out/pictures/" + name) == bytes);
  // One more step count makes its own pictures alone; --overwrite makes all.
  REQUIRE(c.compare(with_model({"--samplers", "euler", "ddim", "--steps", "2", "3", "4"})).code == 0);
  CHECK(files_in(c.file("out/jobs")).size() == 18);
  changed = 0;
  REQUIRE(c.compare(with_model({"--samplers", "euler", "--steps", "2", "--overwrite"})).code == 0);
  for (const auto& [name, text] : jobs) changed += c.read("out/jobs/" + name) != text ? 1 : 0;
  CHECK(changed >= 3);
}

TEST_CASE("stopped, it ends with 75 and leaves whole files") {
  std::string prompts;
  for (int i = 0; i < 400; ++i) prompts += "a cat in the sea\n";
  const ComparisonFolder c(prompts);
  Process process{.program = tool("sd-bench"),
                  .args = {"compare", "--prompts", c.file("prompts.txt"), "--output", c.file("out"), "--models",
                           tiny_model("sd15"), "-W", "32", "-H", "24", "--steps", "20", "--threads", "1"},
                  .timeout = std::chrono::minutes(5),
                  .signal = SIGTERM};
  // Once it has made some; 400 pictures of 20 steps are not finished by then.
  process.signal_when = [&](const std::string&, const std::string&) {
    std::error_code failed;
    const fs::directory_iterator jobs(c.file("out/jobs"), failed);
    return !failed && std::distance(jobs, {}) >= 3;
  };
  const Result r = run(process);
  CAPTURE(r.err);
  CHECK(r.code == 75);
  CHECK(r.err.find("the same command goes on from there") != std::string::npos);
  CHECK(r.out.empty());
  for (const auto& [name, path] : files_in(c.file("out/jobs"))) {
    const Json record = base::parse_json(c.read("out/jobs/" + name), name);
    CHECK(fs::exists(c.file("out/" + record["picture"].get<std::string>())));
  }
  for (const auto& [name, path] : files_in(c.file("out/pictures"))) CHECK_NOTHROW(image::read_image(path));
}

TEST_CASE("rows that cannot run are marked with the reason, and the rest goes on") {
  const ComparisonFolder c;
  const std::string wrong = tiny_loras() + "/lora-sdxl.safetensors";
  const Result r = c.compare({"--models", tiny_model("sd15"), c.file("nothing"), "--loras", "none", wrong, "--samplers",
                              "euler", "no-such", "--steps", "2"});
  CHECK(r.code == 3);
  const auto rows = c.rows();
  REQUIRE(rows.size() == 8);
  int ran = 0;
  for (const Json& row : rows) {
    if (row["status"] == "ok") {
      ++ran;
      continue;
    }
    CHECK(row["status"] == "failed");
    CHECK(!row["error"].get<std::string>().empty());
  }
  CHECK(ran == 1);
  CHECK(rows[0]["status"] == "ok");
  CHECK(rows[1]["error"].get<std::string>().find("no-such") != std::string::npos);
  CHECK(rows[4]["error"].get<std::string>().find("no such file") != std::string::npos);
  CHECK(count_of(c.read("out/report.html"), "Failed: ") == 7);
  CHECK(lines_of(c.read("out/results.csv")).size() == 9);
}

TEST_CASE("a LoRA that fits is a row of its own, with its matches in the record") {
  const ComparisonFolder c;
  const std::string lora = tiny_loras() + "/lora-sd15.safetensors";
  REQUIRE(c.compare(with_model({"--loras", "none", lora + ":0.5", "--steps", "2"})).code == 0);
  const auto rows = c.rows();
  REQUIRE(rows.size() == 2);
  CHECK(rows[0]["lora"] == "none");
  CHECK(!rows[0].contains("adapters"));
  CHECK(rows[1]["adapters"][0]["matched"].get<int>() > 0);
  CHECK(rows[1]["adapters"][0]["scale"] == 0.5);
  CHECK(c.read("out/" + rows[0]["pictures"][0].get<std::string>()) !=
        c.read("out/" + rows[1]["pictures"][0].get<std::string>()));
}

TEST_CASE("a grid file has the axes; its paths are its own folder's, and flags win over it") {
  const ComparisonFolder c;
  fs::create_directories(c.file("grids"));
  fs::create_directory_symlink(tiny_model("sd15"), c.file("grids/model"));
  c.write("grids/g.toml", "models = \"model\"  # beside this file\nsamplers = [\"euler\", \"ddim\"]\nsteps = [2, 3]\n");
  REQUIRE(c.compare({"--grid", c.file("grids/g.toml"), "--steps", "4"}).code == 0);
  const auto rows = c.rows();
  REQUIRE(rows.size() == 2);
  CHECK(rows[1]["id"] == "model/none/auto/ddim/4");
  const auto refused = [&](const std::string& toml, int code, const std::string& message) {
    c.write("grids/bad.toml", toml);
    const Result r = c.compare({"--grid", c.file("grids/bad.toml")}, "bad");
    CAPTURE(r.err);
    CHECK(r.code == code);
    CHECK(r.err.find(message) != std::string::npos);
  };
  refused("sampler = \"euler\"\n", 64, "unknown axis \"sampler\"");
  refused("steps = []\n", 65, "without a value");
  refused("steps = [0]\nmodels = \"model\"\n", 64, "\"0\" is not a whole number");
  refused("dtypes = \"fp33\"\nmodels = \"model\"\n", 64, "\"fp33\" is not one of");
  refused("samplers = [\"euler\", \"euler\"]\nmodels = \"model\"\n", 64, "is there twice");
  refused("steps = [2,\n", 65, "line");
}

TEST_CASE("--fail-if ends with 4 where it holds, against a bound or against a baseline") {
  const ComparisonFolder c;
  REQUIRE(c.compare(with_model(kGrid), "old").code == 0);
  const std::string baseline = c.file("old/results.jsonl");
  const auto gate = [&](const std::vector<std::string>& conditions, const std::string& with = {}) {
    auto args = with_model(kGrid);
    if (!with.empty()) args.insert(args.end(), {"--baseline", with});
    for (const std::string& condition : conditions) args.insert(args.end(), {"--fail-if", condition});
    return c.compare(args, "old");  // nothing is made again: the same times
  };
  CHECK(gate({"step_s>1000", "picture_s>1000"}).code == 0);
  CHECK(gate({"step_s>+0.1%", "step_s<-0.1%", "process_bytes>+1"}, baseline).code == 0);
  const Result broken = gate({"step_s<1000"});
  CHECK(broken.code == 4);
  CHECK(broken.err_lines()[0].starts_with("sd-bench: error: step_s<1000 of sd15/none/auto/euler/2: it is 0."));
  CHECK(c.read("old/report.md").find("broken") != std::string::npos);
  // A baseline that was faster.
  std::string faster;
  for (Json row : c.rows("old")) {
    row["timings"]["step_s"]["median"] = row["timings"]["step_s"]["median"].get<double>() / 2;
    faster += row.dump() + "\n";
  }
  c.write("faster.jsonl", faster);
  CHECK(gate({"step_s>+50%"}, c.file("faster.jsonl")).code == 4);
  CHECK(gate({"step_s>+150%"}, c.file("faster.jsonl")).code == 0);
  // Comparisons that mean nothing are refused.
  std::string other = c.read("old/results.jsonl");
  const std::string prompts = c.rows("old")[0]["prompts_sha256"].get<std::string>();
  for (std::size_t at = other.find(prompts); at != std::string::npos; at = other.find(prompts))
    other.replace(at, 64, std::string(64, 'f'));
  c.write("other.jsonl", other);
  const Result incomparable = gate({"step_s>+1%"}, c.file("other.jsonl"));
  CHECK(incomparable.code == 65);
  CHECK(incomparable.err.find("other prompts") != std::string::npos);
  c.write("foreign.jsonl", "{\"id\":\"another/row\",\"status\":\"ok\"}\n");
  CHECK(gate({"step_s>+1%"}, c.file("foreign.jsonl")).code == 65);
}

TEST_CASE("conditions that could never hold, or mean nothing, are wrong flags") {
  const ComparisonFolder c;
  const auto refused = [&](const std::string& condition, const std::string& message) {
    const Result r = c.compare(with_model({"--fail-if", condition}));
    CAPTURE(r.err);
    CHECK(r.code == 64);
    CHECK(r.err.find(message) != std::string::npos);
  };
  refused("fid>20", "fid is not measured in this run");
  refused("step_s>+2%", "needs --baseline");
  refused("setp_s>2", "did you mean \"step_s\"?");
  refused("step_s", "there is no < or > in it");
  refused("step_s>2%", "begins with + or -");
  refused("step_s>fast", "\"fast\" is not a number");
  CHECK(!fs::exists(c.file("out")));
}

TEST_CASE("bad input ends before anything is made") {
  const ComparisonFolder c;
  const auto refused = [&](std::vector<std::string> args, int code, const std::string& message) {
    const Result r = bench(std::move(args));
    CAPTURE(r.err);
    CHECK(r.code == code);
    CHECK(r.err.find(message) != std::string::npos);
    CHECK(r.out.empty());
  };
  const std::string model = tiny_model("sd15"), prompts = c.file("prompts.txt"), out = c.file("out");
  refused({}, 64, "no command was given");
  refused({"compair"}, 64, "did you mean \"compare\"?");
  refused({"compare", "--models", model, "--output", out}, 64, "--prompts");
  refused({"compare", "--models", model, "--prompts", c.file("none.txt"), "--output", out}, 66, "none.txt");
  refused({"compare", "--models", model, "--prompts", c.write("empty.txt", "\n\n"), "--output", out}, 65, "no prompt");
  refused({"compare", "--models", model, "--prompts", c.write("p.jsonl", "{\"prompt\":\"a\"}\n{\"seed\":1}\n"),
           "--output", out},
          65, "line 2");
  refused({"compare", "--models", model, "--prompts", prompts, "--output", out, "--steps", "2", "x"}, 64, "--steps");
  refused({"compare", "--models", model, "--prompts", prompts, "--output", out, "--inception", model}, 64,
          "--inception needs --reference");
  refused({"compare", "--models", model, "--prompts", prompts, "--output", out, "--lpips", c.file("none")}, 66, "none");
  refused({"compare", "--models", model, "--prompts", prompts, "--output", "/proc/nothing"}, 73, "/proc/nothing");
  refused({"compare", "--models", model, "--prompts", prompts, "--output", out, "--max-ram", "100K"}, 71, "--max-ram");
}

TEST_CASE("--plan prints what each model needs and makes nothing") {
  const ComparisonFolder c;
  const Result r =
      c.compare({"--models", tiny_model("sd15"), tiny_model("sd2v"), "--dtypes", "fp32", "bf16", "--plan"});
  CHECK(r.code == 0);
  const auto plans = json_lines(r.out);
  REQUIRE(plans.size() == 4);
  CHECK(plans[0]["model"]["family"] == "sd1");
  CHECK(plans[0]["bytes"]["weights"] == 2 * plans[1]["bytes"]["weights"].get<std::uint64_t>());
  CHECK(plans[2]["model"]["family"] == "sd2");
  CHECK(!fs::exists(c.file("out")));
}

TEST_CASE("flags may stand before the command, prompts may bring seeds, and pictures of one prompt count up") {
  const ComparisonFolder c;
  c.write("p.jsonl", "{\"prompt\":\"a cat\",\"seed\":40}\n{\"prompt\":\"a dog\"}\n");
  const Result r = bench({"--quiet",     "compare",
                          "--models",    tiny_model("sd15"),
                          "--prompts",   c.file("p.jsonl"),
                          "--output",    c.file("out"),
                          "-W",          "32",
                          "-H",          "24",
                          "--steps",     "2",
                          "--count",     "2",
                          "--seed",      "5",
                          "--cfg-scale", "1"});
  CAPTURE(r.err);
  REQUIRE(r.code == 0);
  std::vector<std::string> seeds;
  const Json row = c.rows()[0];
  for (const Json& picture : row["pictures"]) {
    const Json job =
        base::parse_json(c.read("out/jobs/" + fs::path(picture.get<std::string>()).stem().string() + ".json"), "job");
    seeds.push_back(job["seed"].dump());
  }
  CHECK(seeds == std::vector<std::string>{"40", "41", "7", "8"});
}

TEST_CASE("help, version and completions know the commands and their flags") {
  const Result help = bench({"--help"});
  CHECK(help.code == 0);
  for (const char* command :
       {"compare", "fid", "kid", "lpips", "diversity", "clip-score", "preference", "speed", "vote", "elo"})
    CHECK(help.out.find(std::string("\n  ") + command + " ") != std::string::npos);
  const Result own = run({.program = tool("sd-bench"), .args = {"compare", "--help"}});
  CHECK(own.code == 0);
  CHECK(own.out.find("Usage: sd-bench compare [FLAGS]") != std::string::npos);
  CHECK(own.out.find("--models PATH ...") != std::string::npos);
  CHECK(run({.program = tool("sd-bench"), .args = {"fid", "--version"}}).out.starts_with("sd-bench "));
  const TempFolder folder;
  folder.write("completion.bash", run({.program = tool("sd-bench"), .args = {"--completions", "bash"}}).out);
  folder.write("a model", "");
  const auto offered = [&](const std::string& words, int at) {
    const std::string script = "source ./completion.bash\nCOMP_WORDS=(" + words +
                               ")\nCOMP_CWORD=" + std::to_string(at) +
                               "\n_sd_bench || true\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n";
    const Result r = run({.program = "/bin/bash", .args = {"--norc", "-c", script}, .folder = folder.path().string()});
    CHECK(r.err.empty());
    return r.out;
  };
  CHECK(offered("sd-bench comp", 1) == "compare\n");
  CHECK(offered("sd-bench compare --sampl", 2) == "--samplers\n");
  CHECK(offered("sd-bench fid --incep", 2) == "--inception\n");
  CHECK(offered("sd-bench --selft", 1) == "--selftest\n");
  CHECK(offered("sd-bench compare --models a", 3) == "a model\n");
  CHECK(offered("sd-bench fid a", 2) == "a model\n");
}
