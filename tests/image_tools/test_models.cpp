// What a picture may be made with besides a diffusers folder: single files, another autoencoder or tokenizer, LoRA.
#include <filesystem>

#include "image/parameters.h"
#include "image/read.h"
#include "image_tools/models.h"
#include "image_tools/single_file.h"
#include "io/weight_source.h"
#include "models/seeded.h"

#include "support/doctest_last.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

Result made(const std::string& model, const std::string& output, std::vector<std::string> more = {}) {
  std::vector<std::string> args = {"--model", model,     "-p", "a cat in the sea", "-W", "32",     "-H", "24",  "-s",
                                   "3",       "--steps", "3",  "--threads",        "1",  "--json", "-o", output};
  args.insert(args.end(), more.begin(), more.end());
  return run({.program = tool("sd-txt2img"), .args = args});
}

double difference_of(const TempFolder& folder, const std::string& a, const std::string& b) {
  return distance_of_files(folder.file(a), folder.file(b)).largest;
}

}  // namespace

TEST_CASE("a single file in the original layout gives the folder's picture: safetensors, ckpt, autoencoder alone") {
  const TempFolder folder;
  const SingleFileModel model;
  model.write_folder(folder.file("m"));
  write_tensors(folder.file("m.safetensors"), model.original());
  write_checkpoint(folder.file("m.ckpt"), model.original());
  const std::vector<std::string> tokenizer = {"--tokenizer", small_tokenizer()};
  CHECK(made(folder.file("m"), folder.file("folder.png")).code == 0);
  for (const char* file : {"m.safetensors", "m.ckpt"}) {
    const Result result = made(folder.file(file), folder.file("file.png"), tokenizer);
    CAPTURE(result.err);
    CHECK(result.code == 0);
    CHECK(difference_of(folder, "folder.png", "file.png") == 0);
  }
  const Json plan = json_lines(
      made(folder.file("m.safetensors"), folder.file("no.png"), {"--plan", "--tokenizer", small_tokenizer()}).out)[0];
  CHECK(plan["model"]["family"] == "sd1");
  CHECK(plan["model"]["files"].size() == 1);
  CHECK(plan["model"]["tensors"] == model.original().size());
  CHECK(plan["missing"].empty());
  CHECK(plan["unused"].empty());

  // CLIP's own vocabulary is built in, and this model is too small for it.
  const Result builtin = made(folder.file("m.safetensors"), folder.file("no.png"));
  CHECK(builtin.code == 65);
  CHECK(contains(builtin.err, "49407"));

  std::map<std::string, at::Tensor> vae;
  for (const auto& [name, tensor] : model.original())
    if (name.starts_with("first_stage_model.")) vae[name.substr(18)] = tensor;
  write_tensors(folder.file("vae.safetensors"), vae);
  CHECK(made(folder.file("m"), folder.file("vae.png"), {"--vae", folder.file("vae.safetensors")}).code == 0);
  CHECK(difference_of(folder, "folder.png", "vae.png") == 0);
  vae["decoder.conv_out.bias"] = at::ones({3});
  write_tensors(folder.file("other.safetensors"), vae);
  CHECK(made(folder.file("m.ckpt"), folder.file("vae.png"),
             {"--vae", folder.file("other.safetensors"), "--tokenizer", small_tokenizer()})
            .code == 0);
  CHECK(difference_of(folder, "folder.png", "vae.png") > 0);
  // In diffusers' layout config.json lies beside.
  const std::string inner = folder.file("m/vae/diffusion_pytorch_model.safetensors");
  CHECK(made(folder.file("m"), folder.file("vae.png"), {"--vae", inner}).code == 0);
  CHECK(difference_of(folder, "folder.png", "vae.png") == 0);
}

TEST_CASE("with CLIP's built-in vocabulary a single file needs nothing beside it") {
  const TempFolder folder;
  auto tensors = SingleFileModel().original();
  const std::string table = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight";
  tensors[table] = seeded("table", {49408, 64}, 0.1);
  write_tensors(folder.file("m.safetensors"), tensors);
  const Result result = made(folder.file("m.safetensors"), folder.file("a.png"));
  CAPTURE(result.err);
  CHECK(result.code == 0);
  CHECK(folder.entries() == std::vector<std::string>{"a.png", "m.safetensors"});
}

TEST_CASE("folders as they are published: variants, shards of variants, torch.save files") {
  namespace fs = std::filesystem;
  const TempFolder folder;
  const std::string model = tiny_model("sd15");
  CHECK(made(model, folder.file("plain.png")).code == 0);
  fs::copy(model, folder.path() / "m", fs::copy_options::recursive);
  const auto tensors_of = [&](const std::string& file) {
    const auto source = io::WeightSource::open(folder.file(file));
    std::map<std::string, at::Tensor> tensors;
    for (const std::string& name : source->names()) tensors[name] = source->load(name, at::kFloat, at::kCPU).clone();
    return tensors;
  };
  const std::string text = "m/text_encoder/model", unet = "m/unet/diffusion_pytorch_model",
                    vae = "m/vae/diffusion_pytorch_model";
  // As transformers 5 names them.
  std::map<std::string, at::Tensor> bare;
  for (const auto& [name, tensor] : tensors_of(text + ".safetensors"))
    bare[name.substr(std::string("text_model.").size())] = tensor;
  write_tensors(folder.file(text + ".fp16.safetensors"), bare);
  fs::remove(folder.file(text + ".safetensors"));
  write_tensors(folder.file("m/text_encoder/model.non_ema.safetensors"), {{"x", at::ones({1})}});  // confuses nobody
  write_checkpoint(folder.file(vae + ".bin"), tensors_of(vae + ".safetensors"));
  fs::remove(folder.file(vae + ".safetensors"));
  std::map<std::string, at::Tensor> halves[2];
  Json index = {{"metadata", Json::object()}, {"weight_map", Json::object()}};
  for (const auto& [name, tensor] : tensors_of(unet + ".safetensors")) {
    const int half = name.starts_with("up_blocks") ? 1 : 0;
    halves[half][name] = tensor;
    index["weight_map"][name] =
        "diffusion_pytorch_model.fp16-0000" + std::to_string(half + 1) + "-of-00002.safetensors";
  }
  for (const int half : {0, 1})
    write_tensors(folder.file(unet + ".fp16-0000" + std::to_string(half + 1) + "-of-00002.safetensors"), halves[half]);
  folder.write(unet + ".safetensors.index.fp16.json", index.dump());
  fs::remove(folder.file(unet + ".safetensors"));
  const Result result = made(folder.file("m"), folder.file("published.png"));
  CAPTURE(result.err);
  CHECK(result.code == 0);
  CHECK(difference_of(folder, "plain.png", "published.png") == 0);
  const Json plan = json_lines(made(folder.file("m"), folder.file("no.png"), {"--plan"}).out)[0];
  CHECK(plan["missing"].empty());
  CHECK(plan["unused"].empty());
}

TEST_CASE("files that are no Stable Diffusion are refused in one line") {
  const TempFolder folder;
  write_tensors(folder.file("other.safetensors"), {{"x", at::ones({2})}});
  folder.write("torn.safetensors", "abc");
  folder.write("torn.ckpt", "abc");
  auto half = SingleFileModel().original();
  std::erase_if(half, [](const auto& entry) { return entry.first.starts_with("first_stage_model."); });
  write_tensors(folder.file("half.safetensors"), half);
  for (const char* name : {"other.safetensors", "torn.safetensors", "torn.ckpt", "half.safetensors"}) {
    const Result result = made(folder.file(name), folder.file("a.png"));
    CAPTURE(result.err);
    CHECK(result.code == 65);
    CHECK(contains(result.err, name));
  }
  CHECK(made(folder.file("none.safetensors"), folder.file("a.png")).code == 66);
  CHECK(made(tiny_model("sd15"), folder.file("a.png"), {"--vae", folder.file("none")}).code == 66);
  CHECK(made(tiny_model("sd15"), folder.file("a.png"), {"--vae", folder.file("other.safetensors")}).code == 65);
  CHECK(made(tiny_model("sd15"), folder.file("a.png"), {"--tokenizer", folder.file("none")}).code == 66);
}

TEST_CASE("LoRA: records say what matched, --strict insists, another family's file is refused") {
  const TempFolder folder;
  const std::string lora = tiny_loras() + "/lora-sd15.safetensors";
  const std::string model = tiny_model("sd15");
  CHECK(made(model, folder.file("plain.png")).code == 0);
  const Result result = made(model, folder.file("a.png"), {"--lora", lora + ":0.5", "--strict"});
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  const Json adapter = json_lines(result.out)[0]["adapters"][0];
  CHECK(adapter["path"] == lora);
  CHECK(adapter["scale"] == 0.5);
  CHECK(adapter["unmatched"] == 0);
  CHECK(adapter["matched"] == 3 * adapter["modules"].get<int>());
  CHECK(difference_of(folder, "plain.png", "a.png") > 0);
  // The same by a tag; --reproduce finds either again; a scale of 0 is none.
  CHECK(made(model, folder.file("tag.png"), {"-p", "a cat in the sea<lora:lora-sd15:0.5>", "--lora-dir", tiny_loras()})
            .code == 0);
  CHECK(difference_of(folder, "tag.png", "a.png") == 0);
  for (const char* source : {"tag.png", "a.png"}) {
    CHECK(run({.program = tool("sd-txt2img"),
               .args = {"--model", model, "--reproduce", folder.file(source), "-o", folder.file("again.png")}})
              .code == 0);
    CHECK(folder.read("again.png") == folder.read(source));
  }
  CHECK(made(model, folder.file("zero.png"), {"--lora", lora + ":0"}).code == 0);
  CHECK(difference_of(folder, "plain.png", "zero.png") == 0);
  // Scales of the text encoder and of the UNet apart.
  for (const char* tag : {"<lora:lora-sd15:0.5:0>", "<lora:lora-sd15:0:0.5>"}) {
    CHECK(
        made(model, folder.file("part.png"), {"-p", std::string("a cat in the sea") + tag, "--lora-dir", tiny_loras()})
            .code == 0);
    CHECK(difference_of(folder, "part.png", "a.png") > 0);
    CHECK(difference_of(folder, "part.png", "plain.png") > 0);
  }

  write_tensors(folder.file("half.safetensors"),
                {{"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", at::ones({1, 32, 1, 1})},
                 {"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight", at::ones({32, 1, 1, 1})},
                 {"lora_unet_no_such_place.lora_down.weight", at::ones({1, 4})}});
  const Result half = made(model, folder.file("b.png"), {"--lora", folder.file("half.safetensors")});
  CHECK(half.code == 0);
  CHECK(contains(half.err, "1 of 3 keys"));
  CHECK(json_lines(half.out)[0]["adapters"][0]["unmatched"] == 1);
  CHECK(made(model, folder.file("b.png"), {"--strict", "--lora", folder.file("half.safetensors")}).code == 65);

  const std::string other = tiny_loras() + "/lora-sdxl.safetensors";
  CHECK(made(model, folder.file("c.png"), {"--lora", other}).code == 65);
  write_tensors(folder.file("alien.safetensors"), {{"x.lora_up.weight", at::ones({2, 2})}});
  CHECK(made(model, folder.file("c.png"), {"--lora", folder.file("alien.safetensors")}).code == 65);
  CHECK(made(model, folder.file("c.png"), {"--lora", folder.file("none.safetensors")}).code == 66);
  CHECK(made(model, folder.file("c.png"), {"--lora", lora + ":much"}).code == 64);
  CHECK(made(model, folder.file("c.png"), {"-p", "a<lora:lora-sd15:1>"}).code == 64);
  const Result unknown = made(model, folder.file("c.png"), {"-p", "a<lora:lora-sd16:1>", "--lora-dir", tiny_loras()});
  CHECK(unknown.code == 66);
  CHECK(contains(unknown.err, "lora-sd15"));
  CHECK(made(model, folder.file("c.png"), {"-p", "a<lora:lora-sd15:x>", "--lora-dir", tiny_loras()}).code == 64);
  CHECK(!std::filesystem::exists(folder.file("c.png")));
}

TEST_CASE("embeddings: a folder of them, one of another family") {
  const TempFolder folder;
  std::filesystem::create_directory(folder.path() / "e");
  write_tensors(folder.file("e/toy.safetensors"), {{"emb_params", seeded("toy", {2, 24})}});
  write_tensors(folder.file("e/large.safetensors"), {{"emb_params", seeded("toy", {2, 768})}});
  write_checkpoint(folder.file("e/old.pt"), {{"emb_params", seeded("toy", {2, 24})}});
  const std::string model = tiny_model("sd15");
  const Result result =
      made(model, folder.file("a.png"), {"-p", "a toy in the sea", "--embedding-dir", folder.file("e")});
  CAPTURE(result.err);
  CHECK(result.code == 0);
  CHECK(contains(result.err, "large.safetensors is left out"));
  CHECK(json_lines(result.out)[0]["adapters"].size() == 2);
  CHECK(made(model, folder.file("b.png"), {"-p", "a old in the sea", "--embedding", folder.file("e/old.pt")}).code ==
        0);
  CHECK(difference_of(folder, "a.png", "b.png") == 0);
  CHECK(made(model, folder.file("b.png"), {"--embedding", folder.file("e/large.safetensors")}).code == 65);
}
