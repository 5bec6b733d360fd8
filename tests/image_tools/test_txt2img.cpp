// sd-txt2img as its users see it: files, records, metadata, batches, jobs, plans, bad input.
#include "image_tools/models.h"

#include <csignal>
#include <filesystem>
#include <set>

#include "base/sha256.h"
#include "image/parameters.h"
#include "image/read.h"
#include "image/write.h"
#include "io/weight_source.h"

#include "support/doctest_last.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

const std::vector<std::string> small = {"-p", "a cat in the sea", "-W", "32", "-H", "24", "--steps", "3", "--quiet"};

Result txt2img(const std::vector<std::string>& more, const std::string& input = {}, const std::string& model = "sd15") {
  std::vector<std::string> args = small;
  args.insert(args.end(), more.begin(), more.end());
  return image_tool("sd-txt2img", model, args, input);
}

}  // namespace

TEST_CASE("a prompt gives a picture, its path on stdout, and the same bytes again") {
  const TempFolder folder;
  const std::string first = folder.file("a.png"), second = folder.file("b.png");
  const Result result = txt2img({"-s", "3", "-o", first});
  CHECK(result.code == 0);
  CHECK(result.out == first + "\n");
  CHECK(result.err.empty());
  CHECK(image::read_info(first).width == 32);
  CHECK(image::read_info(first).height == 24);
  CHECK(txt2img({"-s", "3", "-o", second}).code == 0);
  CHECK(folder.read("a.png") == folder.read("b.png"));
  CHECK(txt2img({"-s", "4", "-o", second}).code == 0);
  CHECK(folder.read("a.png") != folder.read("b.png"));
  CHECK(txt2img({"-s", "3", "-o", folder.file("c.jpg")}).code == 0);
  CHECK(image::read_info(folder.file("c.jpg")).format == image::Format::jpeg);
}

TEST_CASE("the prompt may come from a pipe, the picture may go into one") {
  const TempFolder folder;
  CHECK(txt2img({"-s", "3", "-o", folder.file("a.png")}).code == 0);
  const Result piped = image_tool("sd-txt2img", "sd15", {"-W", "32", "-H", "24", "--steps", "3", "-s", "3", "-o", "-"},
                                  "a cat in the sea\n");
  CHECK(piped.code == 0);
  CHECK(piped.out == folder.read("a.png"));
  const Result dash =
      image_tool("sd-txt2img", "sd15", {"-p", "-", "-W", "32", "-H", "24", "--steps", "3", "-s", "3", "-o", "-"},
                 "a cat in the sea\n");
  CHECK(dash.out == piped.out);
}

TEST_CASE("the record has the contract's keys") {
  const TempFolder folder;
  const Json record = one_record(txt2img({"--json", "-o", folder.file("a.png")}));
  std::string keys;
  for (const auto& [key, value] : record.items()) keys += key + " ";
  CHECK(keys == "index path sha256 seed width height timings ");
  CHECK(record["sha256"] == base::sha256_hex(folder.read("a.png")));
  CHECK(record["width"] == 32);
  CHECK(record["seed"].is_number_unsigned());  // drawn
}

TEST_CASE("picture k of a batch is the same seed alone, bit for bit, and carries its own metadata") {
  const TempFolder folder;
  for (const char* model : {"sd15", "sdxl"}) {
    for (const char* size : {"1", "3"})
      CHECK(txt2img({"-s", "7", "--count", "3", "--sampler", "euler_a", "--batch-size", size, "-o",
                     folder.file(std::string("b") + size + "_%d.png")},
                    {}, model)
                .code == 0);
    for (int k = 0; k < 3; ++k) {
      CHECK(txt2img({"-s", std::to_string(7 + k), "--sampler", "euler_a", "-o", folder.file("alone.png")}, {}, model)
                .code == 0);
      const std::string alone = folder.read("alone.png");
      CHECK(folder.read("b1_" + std::to_string(k) + ".png") == alone);
      CHECK(folder.read("b3_" + std::to_string(k) + ".png") == alone);
    }
  }
}

TEST_CASE("several pictures get numbers in their names") {
  const TempFolder folder;
  CHECK(txt2img({"--count", "2", "-o", folder.file("a.png")}).code == 0);
  CHECK(txt2img({"--count", "2", "-o", folder.file("b%02d%%.png")}).code == 0);
  CHECK(folder.entries() == std::vector<std::string>{"a_000.png", "a_001.png", "b00%.png", "b01%.png"});
  for (const char* bad : {"%s.png", "%d%d.png", "%5d.png", "a.gif"})
    CHECK(txt2img({"-o", folder.file(bad)}).code == 64);
}

TEST_CASE("metadata in A1111's format and the manifest make the picture again") {
  const TempFolder folder;
  const std::string made = folder.file("a.png");
  CHECK(image_tool("sd-txt2img", "sd15", {"-p",          "a (cat:1.2), in: \"the\" sea",
                                          "-n",          "an old man",
                                          "-W",          "32",
                                          "-H",          "24",
                                          "--steps",     "4",
                                          "--sampler",   "DPM++ 2M Karras",
                                          "--cfg-scale", "3.5",
                                          "--clip-skip", "2",
                                          "-s",          "11",
                                          "-o",          made})
            .code == 0);
  const auto text = image::read_metadata(made);
  const std::string* parameters = image::find_text(text, "parameters");
  REQUIRE(parameters != nullptr);
  const auto parsed = image::parse_parameters(*parameters);
  CHECK(parsed.prompt == "a (cat:1.2), in: \"the\" sea");
  CHECK(parsed.negative_prompt == "an old man");
  CHECK(*parsed.find("Steps") == "4");
  CHECK(*parsed.find("Sampler") == "DPM++ 2M");
  CHECK(*parsed.find("Schedule type") == "Karras");
  CHECK(*parsed.find("CFG scale") == "3.5");
  CHECK(*parsed.find("Seed") == "11");
  CHECK(*parsed.find("Size") == "32x24");
  CHECK(*parsed.find("Clip skip") == "2");
  const std::string* own = image::find_text(text, "atelier");
  REQUIRE(own != nullptr);
  CHECK(base::parse_json(*own, "atelier")["tool"] == "sd-txt2img");

  const auto again = [&](const std::string& source, std::vector<std::string> more = {}) {
    std::vector<std::string> args = {"--reproduce", source, "-o", folder.file("again.png")};
    args.insert(args.end(), more.begin(), more.end());
    CHECK(image_tool("sd-txt2img", "sd15", args).code == 0);
    return distance_of_files(made, folder.file("again.png")).largest;
  };
  CHECK(again(made) == 0);
  CHECK(folder.read("again.png") == folder.read("a.png"));
  CHECK(again(made, {"-s", "12"}) > 0);  // a flag wins
  // A picture with A1111's text alone.
  image::Metadata theirs = {{"parameters", *parameters}};
  folder.write("theirs.png", image::encode_png(image::Image(8, 8, 3), theirs));
  CHECK(again(folder.file("theirs.png")) == 0);
  folder.write("none.png", image::encode_png(image::Image(8, 8, 3)));
  CHECK(image_tool("sd-txt2img", "sd15", {"--reproduce", folder.file("none.png")}).code == 65);
  CHECK(image_tool("sd-txt2img", "sd15", {"--reproduce", folder.file("missing.png")}).code == 66);
}

TEST_CASE("jobs: records in order, a bad line spoils nothing, --resume makes only what is missing") {
  const TempFolder folder;
  const std::string jobs = R"({"id":"a","prompt":"a cat","seed":3,"output":")" + folder.file("a.png") + R"("}
not json
{"id":"b","prompt":"the sea","sampler":"euller"}
{"id":"c","prompt":"the sea","count":2,"width":40}
{"id":"d"}
)";
  const std::vector<std::string> args = {
      "--jobs", "-", "-W", "32", "-H", "24", "--steps", "2", "-s", "50", "-o", folder.file("run.png"), "--quiet"};
  const Result result = image_tool("sd-txt2img", "sd15", args, jobs);
  CHECK(result.code == 3);
  const auto records = json_lines(result.out);
  REQUIRE(records.size() == 6);
  CHECK(records[0]["id"] == "a");
  CHECK(records[0]["seed"] == 3);
  CHECK(records[1]["code"] == 65);
  CHECK(contains(records[2]["error"].get<std::string>(), "euller"));
  CHECK(records[2]["code"] == 64);
  CHECK(records[3]["id"] == "c");
  CHECK(records[3]["index"] == 0);
  CHECK(records[3]["width"] == 40);
  CHECK(records[4]["seed"] == records[3]["seed"].get<int>() + 1);
  CHECK(records[5]["error"] == "no prompt: the job has no \"prompt\"");
  for (const Json& record : {records[0], records[3], records[4]})
    CHECK(std::filesystem::exists(record["path"].get<std::string>()));

  std::filesystem::remove(records[3]["path"].get<std::string>());
  auto resumed_args = args;
  resumed_args.push_back("--resume");
  const std::string kept = folder.read("a.png");
  const auto resumed = json_lines(image_tool("sd-txt2img", "sd15", resumed_args, jobs).out);
  REQUIRE(resumed.size() == 5);  // "a" is there already
  CHECK(resumed[2]["id"] == "c");
  CHECK(resumed[2]["sha256"] == records[3]["sha256"]);
  CHECK(folder.read("a.png") == kept);
}

TEST_CASE("--plan and --max-ram") {
  const Json plan = one_record(txt2img({"--plan"}));
  CHECK(plan["model"]["family"] == "sd1");
  CHECK(plan["missing"].empty());
  CHECK(plan["unused"].empty());
  CHECK(plan["fits"] == true);
  CHECK(plan["bytes"]["weights"].get<int>() == 4 * plan["model"]["parameters"].get<int>());
  CHECK(txt2img({"--plan", "--max-ram", "1K"}).code == 71);
  CHECK(txt2img({"--max-ram", "1K", "-o", "/nowhere/a.png"}).code == 71);
  CHECK(one_record(txt2img({"--plan"}, {}, "sdxl"))["model"]["family"] == "sdxl");
}

TEST_CASE("--manifest, --preview and --dump-tensors") {
  const TempFolder folder;
  CHECK(txt2img({"-s", "3", "--manifest", folder.file("m.json"), "--preview", folder.file("p.png"), "--preview-every",
                 "1", "--dump-tensors", folder.file("t.safetensors"), "-o", folder.file("a.png")})
            .code == 0);
  const Json manifest = base::read_json_file(folder.file("m.json"));
  CHECK(manifest["tool"] == "sd-txt2img");
  CHECK(manifest["seeds"] == Json::array({3}));
  CHECK(manifest["outputs"][0]["sha256"] == base::sha256_hex(folder.read("a.png")));
  CHECK(manifest["model"]["files"].size() >= 3);
  CHECK(image::read_info(folder.file("p.png")).width == 16);
  CHECK(txt2img({"-s", "3", "--preview", folder.file("p.png"), "--preview-vae", tiny_model("taesd"), "--preview-every",
                 "3", "-o", folder.file("b.png")})
            .code == 0);
  CHECK(image::read_info(folder.file("p.png")).width == 32);
  CHECK(folder.read("a.png") == folder.read("b.png"));
  CHECK(txt2img({"--preview-vae", tiny_model("taesd")}).code == 64);
  // One file for each, where the name has a place for the step; the record says what they took.
  const Json timed = one_record(
      txt2img({"--json", "--preview", folder.file("p%02d.png"), "--preview-every", "2", "-o", folder.file("c.png")}));
  CHECK(std::filesystem::exists(folder.file("p02.png")));
  CHECK(std::filesystem::exists(folder.file("p04.png")));
  CHECK(timed["timings"]["preview_s"] > 0);
  CHECK(txt2img({"--preview", folder.file("p%s.png")}).code == 64);
  const auto tensors = io::WeightSource::open(folder.file("t.safetensors"));
  CHECK(tensors->info("prompt_embeds").shape == std::vector<std::int64_t>{1, 77, 24});
  for (const char* name : {"negative_prompt_embeds", "initial_latents", "latents.001", "final_latents", "picture"})
    CHECK(tensors->has(name));
}

TEST_CASE("progress says how far a run is and what time is left") {
  const TempFolder folder;
  const Result result =
      image_tool("sd-txt2img", "sd15",
                 {"-p", "a cat", "-W", "32", "-H", "24", "--steps", "3", "--count", "2", "--hires", "2",
                  "--hires-strength", "0.7", "--progress", "always", "-o", folder.file("a.png")});
  CHECK(result.code == 0);
  // PNDM: 4 evaluations for 3 steps, and 3 of them at this strength, for each picture.
  CHECK(contains(result.err, "/14 steps"));
  CHECK(contains(result.err, "14/14 steps"));
  CHECK(contains(result.err, " left"));
  CHECK(txt2img({"--hires", "2", "--hires-strength", "0.1", "--sampler", "euler"}).code == 64);
}

TEST_CASE("--hires makes a larger picture from the first one") {
  const TempFolder folder;
  const Json record = one_record(txt2img({"--json", "-s", "3", "--hires", "2", "-o", folder.file("a.png")}));
  CHECK(record["width"] == 64);
  CHECK(record["height"] == 48);
  // Each way to enlarge makes another picture, and A1111's text names it.
  std::set<std::string> hashes = {record["sha256"].get<std::string>()};
  for (const char* how : {"nearest", "latent", "latent-antialiased", "latent-bicubic-antialiased", "latent-nearest"}) {
    const std::string made = folder.file(std::string(how) + ".png"), again = folder.file("again.png");
    const std::vector<std::string> flags = {"--json",           "-s", "3",  "--hires", "2", "--hires-strength", "0.7",
                                            "--hires-upscaler", how,  "-o", made};
    CHECK(hashes.insert(one_record(txt2img(flags))["sha256"].get<std::string>()).second);
    const auto text = image::read_metadata(made);
    folder.write("theirs.png",
                 image::encode_png(image::Image(8, 8, 3), {{"parameters", *image::find_text(text, "parameters")}}));
    CHECK(image_tool("sd-txt2img", "sd15", {"--reproduce", folder.file("theirs.png"), "-o", again}).code == 0);
    CHECK(distance_of_files(made, again).largest == 0);
  }
}

TEST_CASE("unbalanced brackets are text, with a warning") {
  const TempFolder folder;
  const Result result =
      image_tool("sd-txt2img", "sd15",
                 {"-p", "a (cat", "-W", "32", "-H", "24", "--steps", "2", "-s", "3", "-o", folder.file("a.png")});
  CHECK(result.code == 0);
  CHECK(contains(result.err, "not balanced"));
}

TEST_CASE("wrong flags and inputs end with one line and the contract's code") {
  const TempFolder folder;
  const auto code = [&](const std::vector<std::string>& more) {
    const Result result = txt2img(more);
    CHECK(result.out.empty());
    CHECK(!result.err.empty());
    return result.code;
  };
  CHECK(code({"-W", "33"}) == 64);
  CHECK(code({"--sampler", "eulr"}) == 64);
  CHECK(contains(txt2img({"--sampler", "eulr"}).err, "euler"));
  CHECK(code({"--steps", "0"}) == 64);
  CHECK(code({"--steps", "2000"}) == 64);
  CHECK(code({"--clip-skip", "9", "-o", folder.file("a.png")}) == 64);
  CHECK(code({"--init", "a.png"}) == 64);
  CHECK(code({"--resume"}) == 64);
  CHECK(code({"--embedding", folder.file("none.safetensors")}) == 66);
  CHECK(code({"-o", "/nowhere/a.png"}) == 73);
  CHECK(image_tool("sd-txt2img", "inpaint", {"-p", "a", "-W", "32", "-H", "24"}).code == 65);
  CHECK(run({.program = tool("sd-txt2img"), .args = {"--model", folder.file("none"), "-p", "a"}}).code == 66);
  CHECK(run({.program = tool("sd-txt2img"), .args = {"--model", folder.path().string(), "-p", "a"}}).code == 66);
  CHECK(folder.entries().empty());
}

TEST_CASE("damaged weights: a picture of NaN is not saved") {
  const TempFolder folder;
  std::filesystem::copy(tiny_model("sd15"), folder.path() / "m", std::filesystem::copy_options::recursive);
  const std::string weights = folder.file("m/unet/diffusion_pytorch_model.safetensors");
  std::string bytes = folder.read("m/unet/diffusion_pytorch_model.safetensors");
  for (std::size_t i = 0; i < 4; ++i) bytes[bytes.size() - 1 - i] = '\xff';
  folder.write("m/unet/diffusion_pytorch_model.safetensors", bytes);
  const std::vector<std::string> args = {
      "--model", folder.file("m"), "-p", "a", "-W", "32", "-H", "24", "--steps", "2", "-o", folder.file("a.png")};
  const Result result = run({.program = tool("sd-txt2img"), .args = args});
  CHECK(result.code == 4);
  CHECK(contains(result.err, "NaN"));
  CHECK(!std::filesystem::exists(folder.file("a.png")));
  auto kept = args;
  kept.push_back("--keep-nan");
  CHECK(run({.program = tool("sd-txt2img"), .args = kept}).code == 0);
  CHECK(std::filesystem::exists(folder.file("a.png")));
}

TEST_CASE("a batch that is stopped keeps its pictures, and the same command goes on with the rest") {
  const TempFolder folder;
  std::string jobs;
  for (int i = 0; i < 400; ++i) jobs += "{\"prompt\":\"a cat\"}\n";
  Process process{.program = tool("sd-txt2img"),
                  .args = {"--model", tiny_model("sd15"), "--jobs", folder.write("jobs.jsonl", jobs), "--resume", "-W",
                           "32", "-H", "24", "--steps", "1", "-s", "1", "-o", folder.file("%d.png")}};
  process.signal_when = [](const std::string& out, const std::string&) { return contains(out, "/1.png"); };
  process.signal = SIGTERM;
  const Result stopped = run(process);
  CHECK(stopped.code == 75);
  CHECK(contains(stopped.err, "the same command goes on from there"));
  CHECK(!contains(stopped.err, "warning"));
  const std::string first = folder.read("0.png");
  folder.write("jobs.jsonl", jobs.substr(0, jobs.find('\n') + 1));
  process.signal = 0;
  process.signal_when = nullptr;
  const Result rest = run(process);
  CHECK(rest.code == 0);
  CHECK(rest.out.empty());
  CHECK(folder.read("0.png") == first);
}

TEST_CASE("SIGTERM and SIGINT end a run between two steps") {
  const TempFolder folder;
  Process process{.program = tool("sd-txt2img"),
                  .args = {"--model", tiny_model("sd15"), "-p", "a cat", "-W", "32", "-H", "24", "--steps", "900",
                           "--progress", "always", "-o", folder.file("a.png")}};
  process.signal_when = [](const std::string&, const std::string& err) { return contains(err, " steps/s"); };
  for (const int signal : {SIGTERM, SIGINT}) {
    process.signal = signal;
    CHECK(run(process).code == 128 + signal);
    CHECK(folder.entries().empty());
  }
}
