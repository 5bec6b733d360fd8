// ControlNets and --upscale through the tools: pictures beside diffusers' ControlNet pipelines (scripts/fixtures/control.py),
// files, records, jobs, plans, bad input.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "image/parameters.h"
#include "image/read.h"
#include "image/write.h"
#include "image_tools/models.h"
#include "image_tools/single_file.h"
#include "io/weight_source.h"
#include "models/controlnet/controlnet.h"
#include "models/controlnet/file.h"
#include "models/seeded.h"
#include "pipelines/upscaling.h"

#include "support/doctest_last.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

std::string data(const std::string& file) { return std::string(ATELIER_TEST_DATA) + "/control/" + file; }

const Json& cases() {
  static const Json all = base::read_json_file(data("cases.json"));
  return all;
}

/// All cases of one tool on one model as jobs.
std::string jobs_of(const std::string& model, const std::string& kind, const TempFolder& folder) {
  std::string lines;
  for (const Json& c : cases()) {
    if (c["model"] != model || c["tool"] != kind) continue;
    Json job = c["flags"];
    job["id"] = c["name"];
    job["output"] = folder.file(c["name"].get<std::string>() + "_%d.png");
    for (Json& control : job["control"])
      control = tiny_control(control[0].get<std::string>()) + ":" + data(control[1].get<std::string>()) + ":" +
                control[2].dump();
    if (job["control"].size() == 1) job["control"] = Json(job["control"][0]);  // a text is a list of one
    if (kind != "txt2img") job["init"] = picture_data("init.png");
    if (kind == "inpaint") {
      job["mask"] = picture_data("mask.png");
      job["feather"] = 0;
    }
    lines += job.dump() + "\n";
  }
  return lines;
}

void compare_all(const std::string& model, const std::string& kind) {
  static const auto goldens = io::WeightSource::open(data("goldens.safetensors"));
  const TempFolder folder;
  const Result result = image_tool("sd-" + kind, model, {"--jobs", "-", "--quiet"}, jobs_of(model, kind, folder));
  CAPTURE(result.out);
  CHECK(result.code == 0);
  Distance worst{0, 0};
  int pictures = 0;
  for (const Json& c : cases()) {
    if (c["model"] != model || c["tool"] != kind) continue;
    const auto name = c["name"].get<std::string>();
    const std::string flags = c["flags"].dump();
    CAPTURE(flags);
    for (int i = 0; i < c["flags"]["count"].get<int>(); ++i, ++pictures) {
      const std::string number = std::to_string(i);
      const Distance d = distance(folder.file(name + "_" + number + ".png"),
                                  goldens->load(name + "." + number, at::kByte, at::kCPU), kind == "inpaint");
      CHECK(d.largest <= 2);
      CHECK(d.mean <= 0.1);
      worst = {std::max(worst.largest, d.largest), std::max(worst.mean, d.mean)};
    }
  }
  CHECK(pictures > 0);
  std::printf("%d pictures of %s with ControlNets beside diffusers': at most %g of 255 apart, %g on average\n",
              pictures, model.c_str(), worst.largest, worst.mean);
}

const std::vector<std::string> small = {"-p", "a cat in the sea", "-W", "32", "-H", "24", "--steps", "3", "-s",
                                        "3",  "--quiet"};

Result txt2img(const std::vector<std::string>& more, const std::string& model = "sd15") {
  std::vector<std::string> args = small;
  args.insert(args.end(), more.begin(), more.end());
  return image_tool("sd-txt2img", model, args);
}

std::string control(const std::string& name, const std::string& picture = "control.png",
                    const std::string& scale = "") {
  return tiny_control(name) + ":" + data(picture) + scale;
}

/// A file for --upscale: four times the size, or twice.
std::string write_upscaler(const TempFolder& folder, const std::string& name, std::int64_t unshuffle) {
  const models::rrdb::RrdbNet net({.unshuffle = unshuffle, .features = 4, .growth = 2, .blocks = 1});
  std::map<std::string, at::Tensor> tensors;
  for (const auto& entry : net.named_parameters()) {
    const at::Tensor& value = entry.value();
    const double fan = static_cast<double>(value.numel()) / static_cast<double>(value.size(0));
    tensors[entry.key()] = value.dim() == 1 ? seeded(entry.key(), value.sizes(), 0.05, 0.1)
                                            : seeded(entry.key(), value.sizes(), 0.8 / std::sqrt(fan), 0.5 / fan);
  }
  write_tensors(folder.file(name), tensors);
  return folder.file(name);
}

}  // namespace

TEST_CASE("text to image with ControlNets equals diffusers: SD 1.5") { compare_all("sd15", "txt2img"); }
TEST_CASE("text to image with ControlNets equals diffusers: SDXL") { compare_all("sdxl", "txt2img"); }
TEST_CASE("image to image with ControlNets equals diffusers") {
  compare_all("sd15", "img2img");
  compare_all("sdxl", "img2img");
}
TEST_CASE("inpainting with ControlNets equals diffusers inside the mask") {
  for (const char* model : {"sd15", "sdxl", "inpaint"}) compare_all(model, "inpaint");
}

TEST_CASE("a ControlNet as folder, as file with and without config.json, and in the original layout: one picture") {
  const TempFolder folder;
  const SingleFileModel model;
  model.write_folder(folder.file("m"));
  // Of the sizes that shapes alone can tell.
  const Json config = {{"_class_name", "ControlNetModel"},
                       {"block_out_channels", {32, 64}},
                       {"down_block_types", {"CrossAttnDownBlock2D", "DownBlock2D"}},
                       {"cross_attention_dim", 64},
                       {"attention_head_dim", 8},
                       {"conditioning_embedding_out_channels", {4, 8, 8, 8}}};
  const auto parsed = models::controlnet::parse_config(config, "config");
  const models::controlnet::ControlNet network(parsed);
  std::map<std::string, at::Tensor> own, original, inside;
  for (const auto& entry : network.named_parameters()) {
    const at::Tensor weight = seeded_weight(entry.key(), entry.value().sizes());
    own[entry.key()] = weight;
    original[original_stored(parsed, entry.key()).name] = weight;
    inside["control_model." + original_stored(parsed, entry.key()).name] = weight;
  }
  for (const char* sub : {"c", "bare"}) std::filesystem::create_directories(folder.file(sub));
  folder.write("c/config.json", config.dump());
  write_tensors(folder.file("c/diffusion_pytorch_model.fp16.safetensors"), own);
  write_tensors(folder.file("bare/a.safetensors"), own);
  write_tensors(folder.file("bare/original.safetensors"), original);
  write_checkpoint(folder.file("bare/inside.pth"), inside);
  std::string first;
  for (const char* file : {"c", "c/diffusion_pytorch_model.fp16.safetensors", "bare/a.safetensors",
                           "bare/original.safetensors", "bare/inside.pth"}) {
    CAPTURE(file);
    std::vector<std::string> args = {
        "--model", folder.file("m"),     "--threads", "1",
        "-o",      folder.file("a.png"), "--control", folder.file(file) + ":" + data("control.png")};
    args.insert(args.end(), small.begin(), small.end());
    const Result result = run({.program = tool("sd-txt2img"), .args = args});
    CAPTURE(result.err);
    CHECK(result.code == 0);
    const auto pixels = image::read_image(folder.file("a.png")).data;
    const std::string bytes(pixels.begin(), pixels.end());
    if (first.empty()) first = bytes;
    CHECK(bytes == first);
  }
}

TEST_CASE("--control changes the picture, by its strength, and not where it does not act") {
  const TempFolder folder;
  const auto made = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"-o", folder.file("a.png")};
    args.insert(args.end(), more.begin(), more.end());
    const Result result = txt2img(args);
    CAPTURE(result.err);
    CHECK(result.code == 0);
    return image::read_image(folder.file("a.png")).data;
  };
  const auto plain = made({});
  const auto full = made({"--control", control("sd15")});
  CHECK(full != plain);
  CHECK(made({"--control", control("sd15", "control.png", ":0")}) == plain);
  CHECK(made({"--control", control("sd15", "control.png", ":0.5")}) != full);
  CHECK(made({"--control", control("sd15", "control.png", ":1.0")}) == full);
  // Of 4 evaluations none lies between these.
  CHECK(made({"--control", control("sd15"), "--control-start", "0.3", "--control-end", "0.4"}) == plain);
  CHECK(made({"--control", control("sd15"), "--control-prepare", "canny"}) != full);
  CHECK(made({"--control", control("sd15"), "--control-prepare", "canny", "--canny-high", "2000", "--canny-low",
              "1900"}) != made({"--control", control("sd15"), "--control-prepare", "canny"}));
  // A prompt of more chunks than its negative, so that both go through the networks one after the other.
  CHECK(made({"-p", "a cat BREAK the sea", "--control", control("sd15")}) != made({"-p", "a cat BREAK the sea"}));
}

TEST_CASE("with ControlNets a picture of a batch is the same seed alone, bit for bit") {
  const TempFolder folder;
  for (const char* name : {"sd15", "pooled"}) {
    CAPTURE(name);
    const std::vector<std::string> flags = {"--control", control(name), "--sampler", "euler_a"};
    auto batch = flags, alone = flags;
    batch.insert(batch.end(), {"--count", "3", "--batch-size", "3", "-o", folder.file("b%d.png")});
    alone.insert(alone.end(), {"-s", "5", "-o", folder.file("alone.png")});
    CHECK(txt2img(batch).code == 0);
    CHECK(txt2img(alone).code == 0);
    CHECK(folder.read("b2.png") == folder.read("alone.png"));
  }
}

TEST_CASE("record, metadata and manifest tell of ControlNet and upscaler, and --reproduce makes the picture again") {
  const TempFolder folder;
  const std::string upscaler = write_upscaler(folder, "x2.safetensors", 2);
  const std::string made = folder.file("a.png");
  const Json record = one_record(
      txt2img({"--json", "--control", control("sd15", "large.png", ":0.75"), "--control-prepare", "canny",
               "--control-end", "0.8", "--upscale", upscaler, "--manifest", folder.file("m.json"), "-o", made}));
  CHECK(record["width"] == 64);
  CHECK(record["height"] == 48);
  CHECK(image::read_info(made).width == 64);
  REQUIRE(record["adapters"].size() == 2);
  const Json& used = record["adapters"][0];
  CHECK(used["kind"] == "controlnet");
  CHECK(used["path"] == tiny_control("sd15"));
  CHECK(used["picture"] == data("large.png"));
  CHECK(used["scale"] == 0.75);
  CHECK(used["end"] == 0.8);
  CHECK(used["prepare"] == "canny");
  CHECK(record["adapters"][1]["kind"] == "upscaler");
  CHECK(record["timings"]["upscale_s"].get<double>() > 0);
  Json listed = base::read_json_file(folder.file("m.json"))["adapters"];
  CHECK(listed[1]["sha256"].is_string());
  for (Json& adapter : listed) adapter.erase("sha256");  // which the manifest has besides
  CHECK(listed == record["adapters"]);
  const auto parameters = image::parse_parameters(*image::find_text(image::read_metadata(made), "parameters"));
  CHECK(
      *parameters.find("ControlNet 0") ==
      "Module: canny, Model: sd15, Weight: 0.75, Threshold A: 100, Threshold B: 200, Guidance Start: 0, Guidance End: "
      "0.8, Control Mode: Balanced");
  CHECK(*parameters.find("Postprocess upscaler") == "x2");
  CHECK(*parameters.find("Postprocess upscale by") == "2");
  CHECK(*parameters.find("Size") == "32x24");
  CHECK(image_tool("sd-txt2img", "sd15", {"--reproduce", made, "-o", folder.file("again.png")}).code == 0);
  CHECK(folder.read("again.png") == folder.read("a.png"));
}

TEST_CASE("--upscale enlarges what is made without it, after the second pass, in every tool") {
  const TempFolder folder;
  const std::string file = write_upscaler(folder, "x4.safetensors", 1);
  const auto network = pipelines::Upscaler::load(pipelines::UpscalerFiles::open(file), at::kCPU);
  const auto check = [&](const std::string& name, const std::vector<std::string>& args) {
    auto with = small;
    with.insert(with.end(), args.begin(), args.end());
    auto without = with;
    with.insert(with.end(), {"--upscale", file, "-o", folder.file("large.png")});
    without.insert(without.end(), {"-o", folder.file("small.png")});
    CHECK(image_tool(name, "sd15", with).code == 0);
    CHECK(image_tool(name, "sd15", without).code == 0);
    const auto expected = network->enlarge(image::read_image(folder.file("small.png")), 256);
    CHECK(image::read_image(folder.file("large.png")) == expected.picture);
    CHECK(expected.picture.width >= 128);
  };
  check("sd-txt2img", {"--hires", "2"});
  check("sd-img2img", {"--init", picture_data("init.png"), "--colour-match", "mean"});
  check("sd-inpaint", {"--init", picture_data("init.png"), "--mask", picture_data("mask.png")});
  const Result tiles = txt2img({"-W", "128", "-H", "104", "--upscale", file, "--upscale-tile", "96", "--progress",
                                "always", "-o", folder.file("t.png")});
  CHECK(tiles.code == 0);
  CHECK(image::read_info(folder.file("t.png")).width == 512);
}

TEST_CASE("jobs: each with its own ControlNets, and those that name none have none") {
  const TempFolder folder;
  const auto line = [&](const std::string& id, const Json& more) {
    Json job = {{"id", id}, {"prompt", "a cat in the sea"}, {"seed", 3}, {"output", folder.file(id + ".png")}};
    job.update(more);
    return job.dump() + "\n";
  };
  const std::string jobs =
      line("plain", Json::object()) + line("one", {{"control", control("sd15")}}) +
      line("two", {{"control", {control("sd15"), control("other", "same.png", ":0.5")}}, {"control_start", {0, 0.5}}}) +
      line("again", {{"control", {control("sd15")}}}) + line("last", Json::object()) +
      line("bad", {{"control", control("sd15", "none.png")}});
  const Result result =
      image_tool("sd-txt2img", "sd15", {"--jobs", "-", "-W", "32", "-H", "24", "--steps", "3", "--quiet"}, jobs);
  CHECK(result.code == 3);
  const auto records = json_lines(result.out);
  REQUIRE(records.size() == 6);
  CHECK(records[0].contains("adapters") == false);
  CHECK(records[2]["adapters"].size() == 2);
  CHECK(records[2]["adapters"][1]["start"] == 0.5);
  CHECK(records[4].contains("adapters") == false);
  CHECK(records[5]["code"] == 66);
  CHECK(distance_of_files(folder.file("plain.png"), folder.file("last.png")).largest == 0);
  CHECK(distance_of_files(folder.file("one.png"), folder.file("again.png")).largest == 0);
  CHECK(distance_of_files(folder.file("one.png"), folder.file("two.png")).largest > 0);
}

TEST_CASE("inpainting only what is masked cuts the ControlNet's picture likewise") {
  const TempFolder folder;
  const auto made = [&](const std::string& picture) {
    const Result result = image_tool("sd-inpaint", "sd15",
                                     {"-p",
                                      "a cat",
                                      "--init",
                                      picture_data("init.png"),
                                      "--mask-shape",
                                      "rect:12,10,6,5",
                                      "--only-masked",
                                      "--padding",
                                      "4",
                                      "-W",
                                      "32",
                                      "-H",
                                      "32",
                                      "--steps",
                                      "3",
                                      "-s",
                                      "3",
                                      "--control",
                                      tiny_control("sd15") + ":" + picture,
                                      "--dump-tensors",
                                      folder.file("t.safetensors"),
                                      "-o",
                                      folder.file("a.png")});
    CAPTURE(result.err);
    CHECK(result.code == 0);
    return io::WeightSource::open(folder.file("t.safetensors"))->load("control.0", at::kFloat, at::kCPU);
  };
  // White but for its left third, which lies outside.
  image::Image picture(32, 24, 3, 255);
  image::paste(picture, image::Image(6, 24, 3, 0), 0, 0);
  folder.write("c.png", image::encode_png(picture));
  const at::Tensor seen = made(folder.file("c.png"));
  CHECK(seen.sizes().vec() == std::vector<std::int64_t>{1, 3, 32, 32});
  CHECK(seen.min().item<float>() == 1);
}

TEST_CASE("--plan counts ControlNets and the upscaler") {
  const TempFolder folder;
  const std::string upscaler = write_upscaler(folder, "x4.safetensors", 1);
  const auto bytes = [](const Json& plan, const char* what) { return plan["bytes"][what].get<std::int64_t>(); };
  const Json plain = one_record(txt2img({"--plan"}));
  const Json two = one_record(
      txt2img({"--plan", "--control", control("sd15"), "--control", control("sd15"), "--upscale", upscaler}));
  const auto size_of = [](const io::WeightSource& source) {
    std::int64_t numbers = 0;
    for (const auto& name : source.names()) numbers += static_cast<std::int64_t>(source.info(name).elements());
    return 4 * numbers;
  };
  const auto net = io::WeightSource::open(tiny_control("sd15"), "diffusion_pytorch_model");
  const auto enlarger = io::WeightSource::open(upscaler);
  CHECK(bytes(two, "weights") - bytes(plain, "weights") == size_of(*net) + size_of(*enlarger));
  CHECK(bytes(two, "activations") > bytes(plain, "activations"));
  CHECK(two["model"]["files"].size() == plain["model"]["files"].size() + 2);
  CHECK(two["missing"].empty());
  CHECK(two["unused"].empty());
}

TEST_CASE("wrong --control and --upscale end with one line and the contract's code") {
  const TempFolder folder;
  const std::string output = folder.file("a.png");
  const auto fails = [&](int code, const std::string& part, std::vector<std::string> more, const char* model = "sd15") {
    more.insert(more.end(), {"-o", output});
    const Result result = txt2img(more, model);
    CAPTURE(result.err);
    CHECK(result.code == code);
    CHECK(contains(result.err, part));
    CHECK(result.out.empty());
    CHECK(!std::filesystem::exists(output));
  };
  const std::string net = tiny_control("sd15"), picture = data("control.png");
  fails(64, "the picture is missing", {"--control", net});
  fails(64, "the picture is missing", {"--control", net + ":"});
  fails(64, "the picture is missing", {"--control", net + ":0.5"});
  fails(64, "file is missing", {"--control", ":" + picture});
  fails(64, "\"much\" is no scale", {"--control", net + ":" + picture + ":much"});
  fails(64, "\"\" is no scale", {"--control", net + ":" + picture + ":"});
  fails(64, "\"nan\" is no scale", {"--control", net + ":" + picture + ":nan"});
  fails(64, "between 0 and 100", {"--control", net + ":" + picture + ":-1"});
  fails(66, "none.safetensors", {"--control", folder.file("none.safetensors") + ":" + picture + ":1"});
  fails(66, "none.png", {"--control", net + ":" + folder.file("none.png")});
  fails(66, "none.png", {"--control", net + ":" + folder.file("none.png") + ":0.5"});
  fails(65, "for sdxl, the model is sd1", {"--control", control("sdxl")});
  fails(65, "for sd1, the model is sdxl", {"--control", control("sd15")}, "sdxl");
  fails(65, "JPEG", {"--control", net + ":" + net + "/config.json"});
  fails(65, "not a ControlNet",
        {"--control", tiny_model("sd15") + "/vae/diffusion_pytorch_model.safetensors:" + picture});
  fails(66, "config.json", {"--control", folder.path().string() + ":" + picture});
  fails(64, "needs --control", {"--control-start", "0.5"});
  fails(64, "not before", {"--control", net + ":" + picture, "--control-start", "0.5", "--control-end", "0.5"});
  fails(64, "2 values for 1", {"--control", net + ":" + picture, "--control-end", "0.5", "--control-end", "0.6"});
  fails(64, "--control-end", {"--control", net + ":" + picture, "--control-end", "1.5"});
  fails(64, "--control-prepare", {"--control", net + ":" + picture, "--control-prepare", "cany"});
  fails(66, "none.pth", {"--upscale", folder.file("none.pth")});
  fails(65, "not an RRDB", {"--upscale", net + "/diffusion_pytorch_model.safetensors"});
  fails(64, "--upscale-tile", {"--upscale", write_upscaler(folder, "x4.safetensors", 1), "--upscale-tile", "32"});
  fails(65, "--upscale", {"--upscale", folder.file("x4.safetensors"), "-W", "2056", "-H", "2056"});
  // Names with colons are known by what is there.
  std::filesystem::copy(net, folder.path() / "a:0.5");
  std::filesystem::copy(picture, folder.path() / "b:1.png");
  CHECK(txt2img({"--control", folder.file("a:0.5") + ":" + folder.file("b:1.png") + ":0.5", "-o", output}).code == 0);
  CHECK(txt2img({"--control", folder.file("a:0.5") + ":" + folder.file("b:1.png"), "-o", output}).code == 0);
}
