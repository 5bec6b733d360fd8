// The commands of sd-bench that measure pictures: records, folders that are not as they should be, hashes. The figures themselves
// are tested in tests/metrics.
#include "image_tools/bench.h"

#include <filesystem>
#include <fstream>

#include <ATen/ops/full.h>

#include "base/sha256.h"
#include "image/write.h"
#include "metrics/seeded.h"
#include "models/clip/text_encoder.h"
#include "models/clip/vision_encoder.h"
#include "models/inception/inception.h"
#include "models/lpips/lpips.h"

#include "support/doctest_last.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;
namespace fs = std::filesystem;

void add_weights(std::map<std::string, at::Tensor>& tensors, const nn::Module& network) {
  for (const auto& entry : network.named_parameters())
    tensors[entry.key()] = metrics::seeded_weight(entry.key(), entry.value().sizes()).contiguous();
}

/// Weights and folders of small or random networks; they live until the process ends.
struct Networks {
  TempFolder folder;
  std::string squeeze = folder.file("squeeze.safetensors"), inception = folder.file("inception.safetensors"),
              clip = folder.file("clip");

  Networks() {
    std::map<std::string, at::Tensor> tensors;
    add_weights(tensors, models::lpips::Network(models::lpips::Trunk::squeeze));
    write_tensors(squeeze, tensors);
    tensors.clear();
    add_weights(tensors, models::inception::InceptionV3());
    write_tensors(inception, tensors);
    write_clip();
  }

  void write_clip() const {
    const std::string config = R"({"model_type": "clip", "projection_dim": 24,
      "text_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
      "vision_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                        "image_size": 32, "patch_size": 8}})";
    fs::create_directories(clip);
    folder.write("clip/config.json", config);
    const Json json = base::parse_json(config, "config");
    std::map<std::string, at::Tensor> tensors;
    add_weights(tensors, models::clip::TextEncoder(models::clip::parse_text_config(json, "config")));
    add_weights(tensors, models::clip::VisionEncoder(models::clip::parse_vision_config(json, "config")));
    tensors["logit_scale"] = at::full({}, 2.5, at::kFloat);
    write_tensors(clip + "/model.safetensors", tensors);
  }
};

const Networks& networks() {
  static const Networks all;
  return all;
}

/// `count` pictures 0.png ... in a folder below `root`.
std::string pictures(const TempFolder& root, const std::string& name, int count, int side = 40) {
  fs::create_directories(root.path() / name);
  for (int i = 0; i < count; ++i)
    image::write_image(root.file(name + "/" + std::to_string(i) + ".png"),
                       metrics::seeded_picture(name + std::to_string(i), side, side));
  return root.file(name);
}

Json record_of(const Result& r) {
  CAPTURE(r.err);
  const auto lines = json_lines(r.out);
  REQUIRE(lines.size() == 1);
  return lines[0];
}

std::string keys_of(const Json& record) {
  std::string keys;
  for (const auto& [key, value] : record.items()) keys += key + " ";
  return keys;
}

}  // namespace

TEST_CASE("each command prints the contract's record, or a line of text") {
  const TempFolder root;
  const std::string a = pictures(root, "a", 4), b = pictures(root, "b", 3),
                    prompts = root.write("p.txt", "one\ntwo\nthree\nfour\n");
  const std::string all = "metric variant value interval n_real n_fake weights_sha256 ";
  const auto& n = networks();
  const Json fid = record_of(bench({"fid", a, b, "--inception", n.inception, "--json", "--quiet"}));
  CHECK(keys_of(fid) == all);
  CHECK(fid["metric"] == "fid");
  CHECK(fid["variant"] == "pytorch-fid");
  CHECK(fid["n_real"] == 4);
  CHECK(fid["n_fake"] == 3);
  CHECK(fid["weights_sha256"] == base::sha256_file(n.inception));
  const Json kid = record_of(
      bench({"kid", a, b, "--inception", n.inception, "--subset-size", "2", "--subsets", "5", "--json", "--quiet"}));
  CHECK(keys_of(kid) == all + "deviation ");
  const Json lpips = record_of(bench({"lpips", a + "/0.png", a + "/1.png", "--weights", n.squeeze, "--json"}));
  CHECK(keys_of(lpips) == all);
  CHECK(lpips["variant"] == "squeeze");
  CHECK(lpips["value"].get<double>() > 0);
  CHECK(record_of(bench({"lpips", a, a, "--weights", n.squeeze, "--json"}))["value"] == 0.0);
  CHECK(record_of(bench({"diversity", a, "--weights", n.squeeze, "--json"}))["metric"] == "diversity");
  const Json clip = record_of(bench({"clip-score", a, "--prompts", prompts, "--clip", n.clip, "--json"}));
  CHECK(clip["metric"] == "clip-score");
  CHECK(clip["n_real"] == 0);
  CHECK(clip["n_fake"] == 4);
  CHECK(clip["interval"].size() == 2);
  CHECK(record_of(bench({"preference", a, "--prompts", prompts, "--weights", n.clip, "--predictor", "hpsv2",
                         "--json"}))["variant"] == "hpsv2");
  const Result text = bench({"clip-score", a, "--prompts", prompts, "--clip", n.clip});
  CHECK(text.out.starts_with("clip-score ("));
  CHECK(text.out_lines().size() == 1);
}

TEST_CASE("prompts may name their pictures, and must match them") {
  const TempFolder root;
  const std::string folder = pictures(root, "a", 2);
  const auto score = [&](const std::string& file, const std::string& prompts) {
    return bench({"clip-score", folder, "--prompts", root.write(file, prompts), "--clip", networks().clip, "--json"});
  };
  const Json in_order = record_of(score("p.txt", "a cat\na dog\n"));
  const Json by_name = record_of(
      score("p.jsonl", "{\"file\":\"1.png\",\"prompt\":\"a dog\"}\n{\"file\":\"x/0.png\",\"text\":\"a cat\"}\n"));
  CHECK(in_order["value"] == by_name["value"]);
  const auto refused = [&](const Result& r, const std::string& message) {
    CAPTURE(r.err);
    CHECK(r.code == 65);
    CHECK(r.err.find(message) != std::string::npos);
  };
  refused(score("p.txt", "a cat\n"), "has 2 pictures");
  refused(score("p.jsonl", "{\"file\":\"1.png\",\"prompt\":\"a\"}\n"), "no prompt for");
  refused(score("p.jsonl",
                "{\"file\":\"1.png\",\"prompt\":\"a\"}\n{\"file\":\"0.png\",\"prompt\":\"a\"}\n{\"file\":\"9.png\","
                "\"prompt\":\"a\"}\n"),
          "\"9.png\"");
  refused(score("p.jsonl", "{\"file\":\"1.png\",\"prompt\":\"a\"}\n{\"file\":\"1.png\",\"prompt\":\"a\"}\n"),
          "two prompts");
}

TEST_CASE("files that cannot be read are named and counted, and end with 3") {
  const TempFolder root;
  const std::string folder = pictures(root, "a", 3);
  root.write("a/bad.png", "\x89PNG\r\n\x1a\n nothing");
  root.write("a/later.webp", "RIFF....WEBP");
  root.write("a/notes.txt", "no picture");
  const Result r = bench({"diversity", folder, "--weights", networks().squeeze, "--json"});
  CHECK(r.code == 3);
  const Json record = record_of(r);
  CHECK(record["n_fake"] == 3);
  REQUIRE(record["unreadable"].size() == 2);
  CHECK(r.err.find("bad.png") != std::string::npos);
  CHECK(r.err.find("later.webp") != std::string::npos);
}

TEST_CASE("too few pictures, mixed sizes, missing folders and other weights end with the contract's codes") {
  const TempFolder root;
  const std::string one = pictures(root, "one", 1), two = pictures(root, "two", 2),
                    other = pictures(root, "other", 2, 56);
  const auto& n = networks();
  const auto refused = [&](const std::vector<std::string>& args, int code, const std::string& message) {
    const Result r = bench(args);
    CAPTURE(r.err);
    CHECK(r.code == code);
    CHECK(r.err.find(message) != std::string::npos);
    CHECK(r.out.empty());
  };
  refused({"fid", one, two, "--inception", n.inception}, 65, "one");
  refused({"kid", two, one, "--inception", n.inception}, 65, "one");
  refused({"diversity", one, "--weights", n.squeeze}, 65, "one");
  refused({"lpips", two, other, "--weights", n.squeeze}, 65, "0.png");
  fs::copy(other + "/0.png", two + "/9.png");
  refused({"diversity", two, "--weights", n.squeeze}, 65, "size");
  refused({"fid", root.file("none"), two, "--inception", n.inception}, 66, "none");
  refused({"fid", two, other, "--inception", root.file("none")}, 66, "none");
  refused({"fid", two, other, "--inception", n.squeeze}, 65, "squeeze");
  refused({"lpips", two, two, "--weights", n.squeeze, "--weights-sha256", std::string(64, 'a')}, 65,
          "other weights than named");
  refused({"lpips", two, two, "--weights", n.squeeze, "--weights-sha256", "abc"}, 64, "64 hexadecimal digits");
  refused({"fid", two, other}, 64, "--inception");
  refused({"fid", two, "--inception", n.inception}, 64, "FAKE");
  refused({"fid", two, other, "--inception", n.inception, "--resize", "lanczos"}, 64, "clean-fid");
  refused({"lpips", two, two, "--weight", n.squeeze}, 64, "did you mean \"--weights\"?");
  const std::string right = base::sha256_file(n.squeeze);
  CHECK(bench({"lpips", two, two, "--weights", n.squeeze, "--weights-sha256", right}).code == 0);
}

TEST_CASE("--plan reads headers alone, and --max-ram refuses what would not fit") {
  const TempFolder root;
  const std::string a = pictures(root, "a", 3), prompts = root.write("p.txt", "one\ntwo\nthree\n");
  const auto& n = networks();
  const auto plan = [&](std::vector<std::string> args, const std::string& family) {
    auto limited = args;
    limited.insert(limited.end(), {"--max-ram", "10K"});
    args.push_back("--plan");
    const Json record = record_of(bench(args));
    CHECK(record["model"]["family"] == family);
    CHECK(record["model"]["parameters"].get<std::uint64_t>() > 0);
    CHECK(record["missing"].empty());
    CHECK(record["unused"].empty());
    CHECK(record["bytes"]["weights"].get<std::uint64_t>() == 4 * record["model"]["parameters"].get<std::uint64_t>());
    CHECK(record["bytes"]["activations"].get<std::uint64_t>() > 0);
    const Result refused = bench(limited);
    CHECK(refused.code == 71);
    CHECK(refused.out.empty());
  };
  plan({"fid", a, a, "--inception", n.inception}, "inception");
  plan({"kid", a, a, "--inception", n.inception}, "inception");
  plan({"lpips", a, a, "--weights", n.squeeze}, "lpips-squeeze");
  plan({"diversity", a, "--weights", n.squeeze}, "lpips-squeeze");
  plan({"clip-score", a, "--prompts", prompts, "--clip", n.clip}, "clip");
  plan({"preference", a, "--prompts", prompts, "--weights", n.clip}, "clip");
}

TEST_CASE("features are kept by --cache and read back") {
  const TempFolder root;
  const std::string a = pictures(root, "a", 3), b = pictures(root, "b", 3), cache = root.file("cache");
  const std::vector<std::string> args{"fid",     a,     b,        "--inception", networks().inception,
                                      "--cache", cache, "--json", "--quiet"};
  const Json first = record_of(bench(args));
  REQUIRE(fs::exists(cache));
  std::vector<std::string> kept;
  for (const auto& entry : fs::directory_iterator(cache)) kept.push_back(entry.path().string());
  CHECK(kept.size() == 2);
  CHECK(record_of(bench(args))["value"] == first["value"]);
}

TEST_CASE("a comparison with figures: in records, tables and charts; the same again from the store; a gate on them") {
  const ComparisonFolder c;
  const auto& n = networks();
  const TempFolder root;
  const std::string reference = pictures(root, "reference", 4);
  const std::vector<std::string> args{
      "--models",    tiny_model("sd15"), "--samplers",  "euler",        "ddim", "--steps", "2",
      "3",           "--clip",           n.clip,        "--preference", n.clip, "--lpips", n.squeeze,
      "--reference", reference,          "--inception", n.inception};
  REQUIRE(c.compare(args).code == 0);
  const auto rows = c.rows();
  REQUIRE(rows.size() == 4);
  for (const Json& row : rows) {
    std::string metrics;
    for (const Json& figure : row["metrics"]) metrics += figure["metric"].get<std::string>() + " ";
    CHECK(metrics == "fid kid diversity clip-score preference ");
    CHECK(row["metrics"][0]["n_real"] == 4);
    CHECK(row["metrics"][0]["n_fake"] == 3);
  }
  const std::string html = c.read("out/report.html");
  CHECK(count_of(html, "<svg") == 7);
  CHECK(html.find("FID (less is better): ") != std::string::npos);
  CHECK(html.find("CLIP score (more is better): ") != std::string::npos);
  const auto times = [&] { return fs::last_write_time(fs::directory_iterator(c.file("out/figures"))->path()); };
  const auto before = times();
  auto gated = args;
  gated.insert(gated.end(), {"--baseline", c.file("out/results.jsonl"), "--fail-if", "fid>+0.01%", "--fail-if",
                             "clip-score<-0.01%"});
  CHECK(c.compare(gated).code == 0);
  CHECK(c.rows() == rows);
  CHECK(times() == before);
  gated.insert(gated.end(), {"--fail-if", "diversity>0"});
  CHECK(c.compare(gated).code == 4);
}

TEST_CASE("golden values hold") {
  const Result r = bench({"--selftest"});
  CAPTURE(r.out);
  CHECK(r.code == 0);
  CHECK(count_of(r.out, ": ok\n") >= 5);
  CHECK(json_lines(bench({"--selftest", "--json"}).out)[0]["passed"] == true);
}
