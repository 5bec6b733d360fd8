// sd-bench train as its users see it.
#include "image_tools/bench.h"

#include <csignal>
#include <filesystem>

#include "image/write.h"
#include "metrics/seeded.h"

#include "support/doctest_last.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

/// Four pictures with captions, and a folder for results.
struct Pictures {
  TempFolder folder;

  Pictures() {
    std::filesystem::create_directories(folder.path() / "data");
    for (int i = 0; i < 4; ++i) {
      const std::string name = "data/" + std::to_string(i);
      image::write_image(folder.file(name + ".png"), metrics::seeded_picture(name, 40, 40));
      folder.write(name + ".txt", i % 2 == 0 ? "a cat in the sea" : "an old man");
    }
  }

  std::vector<std::string> args(const std::vector<std::string>& more) const {
    std::vector<std::string> all{"train",
                                 "--model",
                                 tiny_model("sd15"),
                                 "--data",
                                 folder.file("data"),
                                 "--resolution",
                                 "32",
                                 "--rank",
                                 "2",
                                 "--unet-lr",
                                 "1e-2",
                                 "--pairs",
                                 "4",
                                 "--quiet"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Result train(const std::vector<std::string>& more) const { return bench(args(more)); }
};

}  // namespace

TEST_CASE("each way of training has its speed, its memory, and the loss on the same pairs") {
  const Pictures p;
  const Result r = p.train({"--methods", "lora", "full", "--batch-sizes", "1", "2", "--steps", "6", "--warmup", "2",
                            "--eval-every", "3", "--json"});
  CAPTURE(r.err);
  REQUIRE(r.code == 0);
  const auto rows = json_lines(r.out);
  REQUIRE(rows.size() == 4);
  CHECK(rows[0]["id"] == "lora/auto/adamw/1");
  CHECK(rows[3]["id"] == "full/auto/adamw/2");
  for (const Json& row : rows) {
    CHECK(row["status"] == "ok");
    CHECK(row["timings"]["step_s"]["n"] == 4);
    const double samples = row["batch_size"].get<double>() / row["timings"]["step_s"]["median"].get<double>();
    CHECK(row["samples_per_s"].get<double>() == doctest::Approx(samples));
    CHECK(row["memory"]["process_bytes"].get<std::uint64_t>() > row["memory"]["allocator_bytes"].get<std::uint64_t>());
    CHECK(row["pictures"] == 4);
    REQUIRE(row["losses"].size() == 3);
    for (std::size_t i = 0; i < 3; ++i) CHECK(row["losses"][i]["step"] == 3 * i);
    CHECK(row["losses"][0]["train_s"] == 0.0);
    CHECK(row["losses"][2]["train_s"].get<double>() > row["losses"][1]["train_s"].get<double>());
    // Before the first step all rows are the same model, on the same pictures, noise and timesteps.
    CHECK(row["losses"][0]["loss"] == rows[0]["losses"][0]["loss"]);
    CHECK(row["losses"][2]["loss"] != row["losses"][0]["loss"]);
  }
  CHECK(rows[2]["trained_parameters"].get<int>() > 10 * rows[0]["trained_parameters"].get<int>());
  CHECK(rows[2]["losses"][2]["loss"].get<double>() < rows[2]["losses"][0]["loss"].get<double>());
  // The same command trains the same.
  const auto again = json_lines(p.train({"--steps", "6", "--warmup", "2", "--eval-every", "3", "--json"}).out);
  REQUIRE(again.size() == 1);
  CHECK(again[0]["losses"][2]["loss"] == rows[0]["losses"][2]["loss"]);
}

TEST_CASE("reports are written where a folder is named, a table is printed, and nothing else is left") {
  const Pictures p;
  const std::string out = p.folder.file("out");
  const Result r = p.train({"--optimizers", "adamw", "lion", "--steps", "3", "--warmup", "1", "--output", out});
  CAPTURE(r.err);
  REQUIRE(r.code == 0);
  CHECK(r.out.starts_with("| Row | Trained | Samples / s |"));
  CHECK(r.out.find("| lion |") != std::string::npos);
  CHECK(json_lines(p.folder.read("out/results.jsonl")).size() == 2);
  CHECK(lines_of(p.folder.read("out/results.csv")).size() == 3);
  CHECK(count_of(p.folder.read("out/report.html"), "<svg") == 4);
  CHECK(p.folder.read("out/report.md").find("# Training efficiency") != std::string::npos);
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(p.folder.path()))
    files += entry.is_regular_file();
  CHECK(files == 8 + 4);
}

TEST_CASE("latents may be kept, text encoders trained, and losses left out") {
  const Pictures p;
  const std::string cache = p.folder.file("cache");
  const Result cached = p.train({"--steps", "2", "--warmup", "0", "--cache-dir", cache, "--pairs", "0", "--json"});
  CAPTURE(cached.err);
  REQUIRE(cached.code == 0);
  CHECK(std::filesystem::exists(cache));
  CHECK(json_lines(cached.out)[0]["losses"].empty());
  const Result both = p.train({"--steps", "2", "--train-text-encoder", "--grad-accum", "2", "--json"});
  REQUIRE(both.code == 0);
  const Json row = json_lines(both.out)[0];
  CHECK(row["samples_per_s"].get<double>() == doctest::Approx(2 / row["timings"]["step_s"]["median"].get<double>()));
}

TEST_CASE("a row that cannot be trained is marked, and the rest goes on") {
  const Pictures p;
  const Result r =
      p.train({"--precisions", "fp16", "fp32", "--steps", "2", "--warmup", "0", "--device", "cpu", "--json"});
  CHECK(r.code == 3);
  const auto rows = json_lines(r.out);
  REQUIRE(rows.size() == 2);
  CHECK(rows[0]["status"] == "failed");
  CHECK(rows[0]["error"].get<std::string>().find("fp16") != std::string::npos);
  CHECK(rows[1]["status"] == "ok");
}

TEST_CASE("bad input of a training ends with the contract's codes; --plan trains nothing") {
  const Pictures p;
  const auto refused = [&](const std::vector<std::string>& more, int code, const std::string& message) {
    const Result r = p.train(more);
    CAPTURE(r.err);
    CHECK(r.code == code);
    CHECK(r.err.find(message) != std::string::npos);
    CHECK(r.out.empty());
  };
  refused({"--steps", "3", "--warmup", "3"}, 64, "leaves no step");
  refused({"--methods", "lora", "lora"}, 64, "is there twice");
  refused({"--methods", "lokr"}, 64, "lokr");
  refused({"--eval-data", p.folder.file("none"), "--steps", "4"}, 66, "none");
  refused({"--max-ram", "100K"}, 71, "--max-ram");
  const Result none = bench({"train", "--model", tiny_model("sd15"), "--data", p.folder.file("none")});
  CHECK(none.code == 66);
  CHECK(bench({"train", "--model", tiny_model("sd15")}).code == 64);
  const Result plan = p.train({"--plan", "--methods", "lora", "full"});
  CHECK(plan.code == 0);
  const auto plans = json_lines(plan.out);
  REQUIRE(plans.size() == 2);
  CHECK(plans[1]["bytes"]["optimizer"].get<std::uint64_t>() > plans[0]["bytes"]["optimizer"].get<std::uint64_t>());
}

TEST_CASE("a stopped measurement of training leaves what it has measured") {
  const Pictures p;
  auto args = p.args({"--optimizers", "sgd", "adamw", "--steps", "100000", "--warmup", "0", "--threads", "1"});
  Process process{.program = tool("sd-bench"), .args = args, .timeout = std::chrono::minutes(5), .signal = SIGINT};
  std::erase(process.args, "--quiet");
  process.signal_when = [](const std::string&, const std::string& err) {
    return err.find("numbers trained") != std::string::npos;
  };
  const Result r = run(process);
  CAPTURE(r.err);
  CHECK(r.code == 130);
  CHECK(r.out.empty());
}
