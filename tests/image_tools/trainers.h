#pragma once

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <ATen/ops/equal.h>

#include "image/write.h"
#include "image_tools/models.h"
#include "io/tensor_file.h"

#include "support/doctest_last.h"

#include "support/scratch.h"

namespace atelier::test {

/// A way to train with everything on that a resume must take up again. Five pictures, two a batch: an epoch is three steps, the
/// last batch of it smaller.
struct Way {
  std::string name, tool, output;  ///< output: ends in .safetensors, or is a folder
  std::vector<std::string> args;
};

inline const std::vector<Way>& ways() {
  static const std::vector<Way> all{
      {"lora, all caches",
       "sd-train-lora",
       ".safetensors",
       {"--data", "data", "--cache-latents", "--shuffle-captions", "--caption-dropout", "0.2", "--flip", "--dropout",
        "0.1"}},
      {"lora, text encoder, several micro-batches, random crops",
       "sd-train-lora",
       ".safetensors",
       {"--data", "data", "--train-text-encoder", "--grad-accum", "2", "--random-crop", "--noise-offset", "0.1"}},
      {"dreambooth, all weights, class pictures",
       "sd-dreambooth",
       "",
       {"--instance-images", "data", "--class", "cat", "--token", "sea", "--num-class-images", "3", "--class-steps",
        "2", "--train-text-encoder", "--cache-latents", "--flip", "--template", "{token}", "--template",
        "the {token} {class}"}},
      {"dreambooth, lora, class pictures",
       "sd-dreambooth",
       ".safetensors",
       {"--instance-images", "data", "--class", "cat", "--token", "sea", "--num-class-images", "3", "--class-steps",
        "2", "--method", "lora", "--cache-latents"}}};
  return all;
}

inline const Way& way(const std::string& name) {
  return *std::find_if(ways().begin(), ways().end(), [&](const Way& w) { return w.name.starts_with(name); });
}

/// Small pictures with these captions into the folder "data": 0.png, 0.txt, ...
inline void write_pictures(const TempFolder& folder, const std::vector<std::string>& captions) {
  std::filesystem::create_directory(folder.path() / "data");
  for (std::size_t i = 0; i < captions.size(); ++i) {
    image::Image picture(40, 40, 3);
    for (std::size_t k = 0; k < picture.data.size(); ++k)
      picture.data[k] = static_cast<std::uint8_t>((k * (7 + i) + k / 120) % 256);
    const std::string name = "data/" + std::to_string(i);
    image::write_image(folder.file(name + ".png"), picture);
    folder.write(name + ".txt", captions[i]);
  }
}

/// Pictures with captions, and what sd-train-lora and sd-dreambooth make of them.
class Studio {
 public:
  Studio() { write_pictures(folder, {"a cat, the sea, old", "an old man", "a cat, sea", "the sea", "a man, a cat"}); }

  std::string file(const std::string& name) const { return folder.file(name); }

  Process process(const Way& w, const std::string& name, int steps, std::vector<std::string> more = {}) const {
    Process p{.program = tool(w.tool),
              .args = {"--model", tiny_model("sd15"), "--output", name + w.output, "--threads", "1", "--seed", "5",
                       "--resolution", "32", "--batch-size", "2", "--unet-lr", "1e-3", "--quiet", "--steps",
                       std::to_string(steps)},
              .folder = folder.path().string(),
              .timeout = std::chrono::minutes(2)};
    p.args.insert(p.args.end(), w.args.begin(), w.args.end());
    p.args.insert(p.args.end(), more.begin(), more.end());
    return p;
  }

  void finish(const Way& w, const std::string& name, int steps, const std::vector<std::string>& more = {}) const {
    const Result r = run(process(w, name, steps, more));
    CAPTURE(r.err);
    REQUIRE(r.code == 0);
  }

  std::string run_of(const Way&, const std::string& name) const { return file(name + ".run"); }

  /// The same weights, states, random numbers and losses.
  void check_same_state(const Way& w, const std::string& a, const std::string& b, int step, bool ema = true) const {
    for (const char* part : {"weights", "optimizer", "ema", "history", "random"}) {
      if (!ema && std::string(part) == "ema") continue;
      CAPTURE(part);
      const std::string path = "/checkpoint-" + std::to_string(step) + "/" + part + ".safetensors";
      const std::string whole = read(run_of(w, a) + path);
      CHECK(!whole.empty());
      CHECK(whole == read(run_of(w, b) + path));
    }
  }

  /// The same bytes in the file, or in all files of the folder.
  void check_same_output(const Way& w, const std::string& a, const std::string& b) const {
    for (const std::string& inner : files_of(file(a + w.output))) {
      CAPTURE(inner);
      if (w.output.empty())
        CHECK(read(file(a) + "/" + inner) == read(file(b) + "/" + inner));
      else  // the file's own name stands in its metadata
        CHECK(same_tensors(file(a + w.output), file(b + w.output)));
    }
    CHECK(files_of(file(a + w.output)) == files_of(file(b + w.output)));
  }

  /// What makes an output one: the file, or the folder's index.
  bool has_output(const Way& w, const std::string& name) const {
    return std::filesystem::exists(file(name + w.output) + (w.output.empty() ? "/model_index.json" : ""));
  }

  /// Half-written files that are left anywhere.
  std::vector<std::string> litter(const std::string& name) const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path()))
      if (entry.path().native().find(name) != std::string::npos && entry.path().filename().native().starts_with("."))
        found.push_back(entry.path());
    return found;
  }

  TempFolder folder;

 private:
  static std::string read(const std::string& path) { return std::filesystem::exists(path) ? get_file(path) : ""; }
  static std::set<std::string> files_of(const std::string& path) {
    if (!std::filesystem::is_directory(path)) return {std::filesystem::path(path).extension()};
    std::set<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path))
      if (entry.is_regular_file()) found.insert(entry.path().lexically_relative(path));
    return found;
  }
  static bool same_tensors(const std::string& a, const std::string& b) {
    const auto first = io::read_tensors(a), second = io::read_tensors(b);
    return first.size() == second.size() && std::all_of(first.begin(), first.end(), [&](const auto& entry) {
             return second.contains(entry.first) && at::equal(entry.second, second.at(entry.first));
           });
  }
};

}  // namespace atelier::test
