// Folders with packed weights: what is written is what is read, for every generation and layout of names; and how far a quantised
// model is from the original.
#include <filesystem>
#include <string>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>

#include "base/stop.h"
#include "io/file_system.h"
#include "io/weight_source.h"
#include "io/whole_folder.h"
#include "models/gemma/names.h"
#include "nn/quantised_loading.h"
#include "pipelines/quantisation.h"

#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/instrumented_file_system.h"
#include "support/scratch.h"

namespace {

using namespace atelier;
using base::ExitCode;
using models::gemma::CausalLm;
using pipelines::TextModelFiles;

std::string data(const std::string& name) { return std::string(ATELIER_TEST_DATA) + "/gemma/" + name; }

/// Without a tokenizer, which the folders of tests/data/gemma do not have.
std::shared_ptr<CausalLm> network_of(const TextModelFiles& files) {
  const at::NoGradGuard no_grad;
  auto network = std::make_shared<CausalLm>(files.config);
  nn::load_quantised(*network, *files.weights, models::gemma::Names(*files.weights, files.config.tied_head), files.dtype,
                  files.quantisation);
  network->share_quantised();
  return network;
}

at::Tensor logits(const CausalLm& network) {
  const c10::InferenceMode inference;
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 24; ++i) tokens.push_back(2 + i * 7 % 60);
  auto cache = network.new_cache();
  nn::KvCache* const caches[] = {&cache};
  return network.logits(network.forward({tokens, caches}));
}

const std::string shipped = std::string(ATELIER_MODELS) + "/tiny-gemma";

const char* const sample =
    "<start_of_turn>user\nWrite a caption for a picture of a red circle.<end_of_turn>\n<start_of_turn>model\na red "
    "circle<end_of_turn>\n<start_of_turn>user\nTranslate into German: a large yellow diamond at the top right on a "
    "black "
    "background<end_of_turn>\n<start_of_turn>model\neine große gelbe Raute oben rechts auf einem schwarzen "
    "Hintergrund<end_of_turn>\n";

}  // namespace

TEST_CASE("a packed folder computes as the model that it was written from, whatever the layout of names") {
  for (const char* base : {"gemma1", "gemma2", "gemma3", "gemma3-multimodal"})
    for (const int bits : {8, 4}) {
      CAPTURE(base);
      CAPTURE(bits);
      const test::Scratch scratch;
      const std::string folder = scratch.file("packed");
      const TextModelFiles files = TextModelFiles::open(data(base), {"cpu", "fp32", {bits, 32}});
      const auto network = network_of(files);
      pipelines::write_model_folder(folder, files, pipelines::quantised_tensors(*network));
      const TextModelFiles read = TextModelFiles::open(folder, {"cpu", "fp32"});
      CHECK(read.quantised);
      CHECK(read.config_json["quantization_config"]["bits"] == bits);
      CHECK(read.config_json["quantization_config"]["group_size"] == 32);
      CHECK(at::equal(logits(*network_of(read)), logits(*network)));
      // The plan knows all of its tensors, and what they weigh.
      const auto plan = pipelines::plan_memory(read, 16, 1);
      CHECK(plan.missing.empty());
      CHECK(plan.unused.empty());
      CHECK(plan.weight_bytes == pipelines::plan_memory(files, 16, 1).weight_bytes);
      // Made dense again, it is a plain folder.
      const std::string dense = scratch.file("dense");
      pipelines::write_model_folder(dense, read, pipelines::merged_tensors(*network_of(read)));
      const TextModelFiles plain = TextModelFiles::open(dense, {"cpu", "fp32"});
      CHECK(!plain.quantised);
      CHECK(!plain.config_json.contains("quantization_config"));
      CHECK(plain.config.tied_head == files.config.tied_head);
      for (const std::string& name : files.weights->names()) CHECK(plain.weights->has(name));
    }
}

TEST_CASE("what is quantised already, or by others, is refused") {
  const test::Scratch scratch;
  const std::string folder = scratch.file("packed");
  const TextModelFiles files = TextModelFiles::open(data("gemma2"), {"cpu", "fp32", {4, 32}});
  pipelines::write_model_folder(folder, files, pipelines::quantised_tensors(*network_of(files)));
  CHECK(test::contains(test::error_of(ExitCode::usage, [&] { TextModelFiles::open(folder, {"cpu", "fp32", {8, 32}}); }),
                       "quantised already"));
  const auto config = base::read_json_file(folder + "/config.json");
  const auto with = [&](const base::Json& quantization) {
    auto changed = config;
    changed["quantization_config"] = quantization;
    io::write_atomically(folder + "/config.json", changed.dump());
  };
  for (const char* bad : {R"({"quant_method":"gptq","version":1})", R"({"quant_method":"atelier-packed","version":2})",
                          R"({"quant_method":"atelier-packed"})", R"({"version":1})", R"([])", R"("int4")"}) {
    CAPTURE(bad);
    with(base::parse_json(bad, "bad"));
    CHECK(test::error_of(ExitCode::data, [&] { TextModelFiles::open(folder, {"cpu", "fp32"}); }) != "(no error)");
  }
}

TEST_CASE("tiny-gemma: 8 bits are within 1e-3 of the original; calibrated 4 bits beat rounding") {
  const auto original = pipelines::TextModel::load(TextModelFiles::open(shipped, {"cpu", "auto"}));
  const auto windows = pipelines::text_windows(*original, {sample}, 24, 1 << 20, "text");
  REQUIRE(windows.size() >= 2);
  for (const auto& window : windows) {
    CHECK(window.front() == original->bos);
    CHECK(window.size() <= 24);
  }
  const auto same = pipelines::compare_models(*original, *original, windows);
  CHECK(same.kl == 0);
  CHECK(same.same_top == 1);
  CHECK(same.perplexity == same.reference_perplexity);

  const auto rounded = [&](int bits) {
    return pipelines::TextModel::load(TextModelFiles::open(shipped, {"cpu", "auto", {bits, 32}}));
  };
  const auto eight = pipelines::compare_models(*rounded(8), *original, windows);
  CHECK(eight.tokens == same.tokens);
  CHECK(eight.kl > 0);
  CHECK(eight.kl < 1e-3);
  const auto four = pipelines::compare_models(*rounded(4), *original, windows);
  const auto fitted = pipelines::TextModel::load(TextModelFiles::open(shipped, {"cpu", "auto"}));
  std::int64_t layers = 0;
  pipelines::quantise_calibrated(*fitted->network, {4, 32}, windows, [&](std::int64_t done) { layers = done; });
  CHECK(layers == fitted->network->config().layers + 1);
  CHECK(fitted->network->is_quantised());
  const auto calibrated = pipelines::compare_models(*fitted, *original, windows);
  MESSAGE("KL: 8 bits " << eight.kl << ", 4 bits " << four.kl << ", calibrated " << calibrated.kl);
  CHECK(calibrated.kl < 0.5 * four.kl);
}

TEST_CASE("a text of one token is none; the last window is the rest; the most tokens are kept to") {
  const auto model = pipelines::TextModel::load(TextModelFiles::open(shipped, {"cpu", "auto"}));
  CHECK(test::error_of(ExitCode::data, [&] { pipelines::text_windows(*model, {"a"}, 64, 100, "text"); }) !=
        "(no error)");
  const auto windows = pipelines::text_windows(*model, {sample}, 20, 50, "text");
  REQUIRE(windows.size() == 3);
  CHECK(windows[0].size() == 20);
  CHECK(windows[1].size() == 20);
  CHECK(windows[2].size() == 1 + 12);
  // Texts do not run into one another.
  const auto two = pipelines::text_windows(*model, {sample, sample}, 20, 1 << 20, "text");
  const auto one = pipelines::text_windows(*model, {sample}, 20, 1 << 20, "text");
  CHECK(two.size() == 2 * one.size());
  CHECK(two[one.size()] == one[0]);
}

TEST_CASE("a folder is there whole or not at all, wherever the disk fails") {
  const TextModelFiles files = TextModelFiles::open(data("gemma2"), {"cpu", "fp32", {4, 32}});
  const auto network = network_of(files);
  const auto write = [&](const std::string& folder) {
    io::write_whole_folder(folder, [&](const std::string& partial) {
      pipelines::write_model_folder(partial, files, pipelines::quantised_tensors(*network));
    });
  };
  int moments = 0;
  {
    const test::Scratch scratch;
    test::InstrumentedFileSystem counting([](int, auto) {});
    const io::ScopedFileSystem scope(counting);
    write(scratch.file("out"));
    moments = counting.moments();
  }
  REQUIRE(moments > 10);
  for (int k = 0; k < moments; ++k) {
    CAPTURE(k);
    const test::Scratch scratch;
    const std::string folder = scratch.file("out");
    test::InstrumentedFileSystem failing([&](int moment, auto) {
      if (moment == k) throw base::Error(ExitCode::io, "the disk is full");
    });
    const io::ScopedFileSystem scope(failing);
    CHECK(test::contains(test::error_of(ExitCode::io, [&] { write(folder); }), "full"));
    const bool there = std::filesystem::exists(folder);
    if (there) CHECK(at::equal(logits(*network_of(TextModelFiles::open(folder, {"cpu", "fp32"}))), logits(*network)));
    // No litter.
    const auto entries = std::filesystem::directory_iterator(std::filesystem::path(folder).parent_path());
    CHECK(std::distance(begin(entries), end(entries)) == (there ? 1 : 0));
  }
}

TEST_CASE("a new folder may be an empty one, and nothing else that is there") {
  const test::Scratch scratch;
  const std::string folder = scratch.file("out");
  std::filesystem::create_directory(folder);
  io::write_whole_folder(folder + "/", [](const std::string& partial) { io::write_atomically(partial + "/a", "1"); });
  CHECK(io::read_file(folder + "/a", 10) == "1");
  bool called = false;
  CHECK(test::error_of(ExitCode::cannot_create,
                       [&] { io::write_whole_folder(folder, [&](auto&) { called = true; }); }) != "(no error)");
  CHECK(test::error_of(ExitCode::cannot_create, [&] { io::require_new_folder(folder + "/a"); }) != "(no error)");
  CHECK(!called);
}
