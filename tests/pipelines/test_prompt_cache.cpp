#include <filesystem>

#include "pipelines/generation.h"
#include "pipelines/prompt.h"
#include "pipelines/prompt_cache.h"
#include "support/scratch.h"
#include "support/doctest_last.h"

namespace {

using namespace atelier;
namespace fs = std::filesystem;
using pipelines::GenerationRequest;
using pipelines::GenerationResult;
using pipelines::PromptCache;
using pipelines::TextModel;
using pipelines::TextModelFiles;
using test::Scratch;

constexpr std::uint64_t plenty = 1u << 30;

const TextModelFiles& files() {
  static const auto opened = TextModelFiles::open(std::string(ATELIER_MODELS) + "/tiny-gemma", {"cpu", "auto"});
  return opened;
}

std::shared_ptr<const TextModel> model() {
  static const auto loaded = TextModel::load(files());
  return loaded;
}

/// A prompt of about 500 tokens that ends with `end`.
std::vector<text::TokenId> prompt(const std::string& end) {
  std::string text;
  for (int i = 0; i < 30; ++i) text += "There is a small red circle at the top of picture " + std::to_string(i) + ". ";
  pipelines::PromptOptions options;
  return pipelines::build_prompt(*model(), text + end, options).ids;
}

GenerationResult answer(PromptCache* cache, const std::vector<text::TokenId>& tokens) {
  GenerationRequest request;
  request.prompt = tokens;
  request.max_tokens = 20;
  request.seed = 7;
  if (cache != nullptr) request.shared = cache->state();
  return pipelines::generate_one(*model(), request);
}

std::vector<fs::path> blocks(const Scratch& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path()))
    if (entry.is_regular_file()) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

PromptCache open(const Scratch& folder, std::uint64_t limit = plenty, const std::vector<std::string>& adapters = {}) {
  return PromptCache(folder.path().string(), limit, files(), adapters);
}

}  // namespace

TEST_CASE("another process finds the beginning, and says the same") {
  const Scratch folder;
  const auto tokens = prompt("How many?"), other = prompt("Write a caption.");
  REQUIRE(tokens.size() > 300);
  PromptCache first = open(folder);
  const auto missed = answer(&first, tokens);
  CHECK(missed.prefilled_tokens == missed.prompt_tokens);
  CHECK(blocks(folder).size() == tokens.size() / 128);

  PromptCache second = open(folder);
  const auto hit = answer(&second, tokens);
  CHECK(hit.prefilled_tokens == hit.prompt_tokens - static_cast<std::int64_t>((tokens.size() - 1) / 128 * 128));
  CHECK(hit.token_ids == missed.token_ids);

  const auto fork = answer(&second, other);  // the shared blocks only
  CHECK(fork.prefilled_tokens < 256);
  const Scratch empty;
  PromptCache alone = open(empty);
  CHECK(fork.token_ids == answer(&alone, other).token_ids);
}

TEST_CASE("other weights' places, adapters and tokens are other keys") {
  const Scratch folder;
  const auto tokens = prompt("How many?");
  PromptCache cache = open(folder);
  answer(&cache, tokens);
  PromptCache adapted = open(folder, plenty, {"adapter"});
  CHECK(answer(&adapted, tokens).prefilled_tokens == static_cast<std::int64_t>(tokens.size()));
  auto changed = tokens;
  changed[1] += 1;
  CHECK(answer(&cache, changed).prefilled_tokens == static_cast<std::int64_t>(tokens.size()));
}

TEST_CASE("damaged entries are ignored, and replaced") {
  const Scratch folder;
  const auto tokens = prompt("How many?");
  PromptCache cache = open(folder);
  const auto expected = answer(&cache, tokens);
  const auto damage = [&](const std::function<std::string(std::string)>& change) {
    for (const auto& path : blocks(folder)) {
      const std::string bytes = test::get_file(path.string());
      test::put_file(path.string(), change(bytes));
    }
    const auto result = answer(&cache, tokens);
    CHECK(result.prefilled_tokens == result.prompt_tokens);
    CHECK(result.token_ids == expected.token_ids);
    CHECK(answer(&cache, tokens).prefilled_tokens < result.prompt_tokens);  // whole again
  };
  damage([](std::string bytes) { return bytes.substr(0, bytes.size() / 2); });
  damage([](std::string) { return std::string(); });
  damage([](std::string bytes) { return bytes[bytes.size() - 100] ^= 1, bytes; });
  damage([](std::string) { return std::string("not a tensor"); });
}

TEST_CASE("the folder keeps its size: what was unused longest goes") {
  const Scratch folder;
  PromptCache cache = open(folder);
  answer(&cache, prompt("How many?"));
  const auto one = fs::file_size(blocks(folder)[0]);
  PromptCache small = open(folder, 2 * one + one / 2);
  answer(&small, prompt("Which is the largest of them all, and where is it?"));
  CHECK(blocks(folder).size() <= 2);
}

TEST_CASE("a folder that cannot be made is no failure") {
  const Scratch folder;
  test::put_file(folder.file("file"), "x");
  PromptCache cache(folder.file("file") + "/cache", plenty, files(), {});
  const auto result = answer(&cache, prompt("How many?"));
  CHECK(result.prefilled_tokens == result.prompt_tokens);
  CHECK(!result.token_ids.empty());
}

TEST_CASE("what is not an entry stays, however full the folder is") {
  const Scratch folder;
  fs::create_directories(folder.path() / "gemma-2-2b");
  for (const char* name : {"model.safetensors", "gemma-2-2b/model.safetensors", "notes.txt"})
    test::put_file(folder.file(name), std::string(1 << 20, 'x'));
  PromptCache cache = open(folder, /*limit=*/1);
  answer(&cache, prompt("How many?"));
  CHECK(blocks(folder).size() == 3);
}
