// gemma-generate and everything that can be wrong with what it is given.
#include <fstream>

#include "tools/generate.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;
namespace fs = std::filesystem;

/// A copy of the shipped model to damage; its weights are linked, not copied.
class Model {
 public:
  Model() {
    for (const auto& entry : fs::directory_iterator(shipped)) {
      const std::string name = entry.path().filename();
      if (name == "model.safetensors")
        fs::create_symlink(entry.path(), folder.path() / name);
      else
        fs::copy(entry.path(), folder.path() / name);
    }
  }
  std::string path() const { return folder.path(); }
  void remove(const std::string& name) const { fs::remove(folder.path() / name); }
  void set(const std::string& key, const Json& value) const {
    Json config = base::read_json_file(folder.file("config.json"));
    config[key] = value;
    folder.write("config.json", config.dump());
  }
  std::string weights() const { return get_file(shipped + "/model.safetensors"); }

  TempFolder folder;
};

Result use(const Model& model, std::vector<std::string> more = {}) {
  more.insert(more.begin(), {"--model", model.path(), "-p", "Hello", "-n", "2"});
  return generate(more);
}

}  // namespace

TEST_CASE("wrong flags and values: 64, the name and the nearest right one") {
  struct Case {
    std::vector<std::string> args;
    const char* part;
  };
  const Case cases[] = {{{"--promt", "x"}, "--prompt"},
                        {{"-p", "x", "--temperature", "-1"}, "--temperature"},
                        {{"-p", "x", "--temperature", "hot"}, "--temperature"},
                        {{"-p", "x", "--temperature", "nan"}, "--temperature"},
                        {{"-p", "x", "--top-p", "1.5"}, "--top-p"},
                        {{"-p", "x", "--top-k", "-3"}, "--top-k"},
                        {{"-p", "x", "-n", "1e9"}, "--max-tokens"},
                        {{"-p", "x", "--device", "gpu"}, "--device"},
                        {{"-p", "x", "--dtype", "fp64"}, "--dtype"},
                        {{"-p", "x", "--dtype", "fp16"}, "fp16"},
                        {{"-p", "x", "--truncate", "front"}, "--truncate"},
                        {{"-p", "x", "--batch-size", "0"}, "--batch-size"},
                        {{"-p", "x", "--seed", "-1"}, "--seed"},
                        {{"-p", "x", "--stop", ""}, "--stop"},
                        {{"-p", "x", "--json-schema", ""}, "--json-schema"},
                        {{"-p", "x", "--regex="}, "--regex"},
                        {{"-p", "x", "--tools", ""}, "--tools"},
                        {{"-p", "x", "--translate", ""}, "--translate"},
                        {{"-p", "x", "--safety", ""}, "--safety"},
                        {{"-p", "x", "--logprobs", "2"}, "--json"},
                        {{"-p", "x", "--resume"}, "--jobs"},
                        {{"-p", "x", "--raw", "--chat"}, "--raw"},
                        {{"-p", "x", "--raw", "--system", "y"}, "--chat"},
                        {{"-p", "x", "-f", "y"}, "--file"},
                        {{"-p", "x", "--max-ram", "lots"}, "--max-ram"},
                        {{"stray"}, "stray"}};
  for (const Case& c : cases) {
    CAPTURE(c.part);
    check_failure(generate(c.args), 64, c.part);
  }
}

TEST_CASE("missing things: 66; devices that are not there: 69") {
  check_failure(generate({"-p", "x", "--model", "/nonexistent"}), 66, "/nonexistent");
  check_failure(generate({"-f", "/nonexistent"}), 66, "/nonexistent");
  check_failure(generate({"--jobs", "/nonexistent"}), 66, "/nonexistent");
  check_failure(generate({"-p", "x", "--config", "/nonexistent"}), 66, "/nonexistent");
  check_failure(generate({"-p", "x", "--device", "cuda:99"}), 69, "cuda:99");
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.model"}) {
    CAPTURE(name);
    const Model model;
    model.remove(name);
    check_failure(use(model), 66, model.path());
  }
}

TEST_CASE("prompts that cannot be: empty, not UTF-8, too long") {
  check_failure(generate({"-p", ""}), 65, "empty");
  check_failure(generate({}, ""), 65, "empty");
  check_failure(generate({}, "\n"), 65, "empty");
  check_failure(generate({}, "\xff\xfe"), 65, "UTF-8");
  std::string words;
  for (int i = 0; i < 5000; ++i) words += " red circle";
  check_failure(generate({}, words), 65, "context");
  for (const char* how : {"head", "middle", "tail"}) {
    const Result result = generate({"--truncate", how, "--json", "-n", "5"}, "first" + words + " last");
    CAPTURE(result.err);
    CHECK(result.code == 0);
    CHECK(record(result)["truncated"].get<int>() > 5000);
  }
  // What is cut is the user's text: the turns around it stay, so the score's last tokens are the model's turn.
  const auto scored = record(generate({"--truncate", "tail", "--json", "--score", "--chat"}, words));
  const auto& ids = scored["token_ids"];
  CHECK(ids[0] == 2);
  CHECK(std::count(ids.begin(), ids.end(), 106) == 2);
  CHECK(std::count(ids.begin(), ids.end(), 107) == 1);
}

TEST_CASE("damaged models: 65 and one line, whatever it is") {
  SUBCASE("weights cut off") {
    const Model model;
    model.remove("model.safetensors");
    model.folder.write("model.safetensors", model.weights().substr(0, 100000));
    check_failure(use(model), 65, "model.safetensors");
  }
  SUBCASE("not weights at all") {
    const Model model;
    model.remove("model.safetensors");
    model.folder.write("model.safetensors", std::string(100, 'x'));
    check_failure(use(model), 65, "model.safetensors");
  }
  SUBCASE("a layer too many") {
    const Model model;
    model.set("num_hidden_layers", base::read_json_file(shipped + "/config.json")["num_hidden_layers"].get<int>() + 1);
    check_failure(use(model), 65, "lack");
  }
  SUBCASE("another shape") {
    const Model model;
    model.set("hidden_size", 64);
    check_failure(use(model), 65, "shape");
  }
  SUBCASE("another architecture") {
    const Model model;
    model.set("model_type", "llama");
    check_failure(use(model), 65, "llama");
  }
  SUBCASE("a number out of range") {
    const Model model;
    model.set("head_dim", -1);
    check_failure(use(model), 65, "head_dim");
  }
  SUBCASE("config.json is no JSON") {
    const Model model;
    model.folder.write("config.json", "{");
    check_failure(use(model), 65, "config.json");
  }
  SUBCASE("a JSON bomb") {
    const Model model;
    model.folder.write("config.json", std::string(512000, '['));
    const Result result = use(model);
    check_failure(result, 65, "config.json");
    CHECK(result.seconds < 5);
  }
  SUBCASE("a broken tokenizer") {
    const Model model;
    model.folder.write("tokenizer.model", "rubbish");
    check_failure(use(model), 65, "tokenizer.model");
  }
  SUBCASE("a broken chat template") {
    const Model model;
    Json config = base::read_json_file(model.folder.file("tokenizer_config.json"));
    config["chat_template"] = "{% for x in %}";
    model.folder.write("tokenizer_config.json", config.dump());
    check_failure(use(model), 65, "template");
  }
  SUBCASE("a shard outside the folder") {
    const Model model;
    model.remove("model.safetensors");
    model.folder.write("model.safetensors.index.json", R"({"weight_map":{"model.norm.weight":"../x.safetensors"}})");
    check_failure(use(model), 65, "index");
  }
}

TEST_CASE("weights that are not numbers: 4") {
  const Model model;
  std::string bytes = model.weights();
  for (std::size_t i = bytes.size() / 2; i < bytes.size(); ++i) bytes[i] = '\xff';  // NaN in bf16
  model.remove("model.safetensors");
  model.folder.write("model.safetensors", bytes);
  check_failure(use(model), 4, "finite");
}

TEST_CASE("too little memory: 71 and one line") {
  if (with_address_sanitizer()) return;  // it needs terabytes of address space itself
  // A large vocabulary as a file with holes: mapping it is free, converting it to bf16 is not.
  const Model model;
  Json config = base::read_json_file(shipped + "/config.json");
  const std::int64_t hidden = config["hidden_size"], vocab = 2000000;
  model.set("vocab_size", vocab);
  const std::string bytes = model.weights();
  model.remove("model.safetensors");
  const std::uint64_t size = static_cast<std::uint64_t>(hidden) * vocab * 4;
  std::string header =
      Json{{"model.embed_tokens.weight", {{"dtype", "F32"}, {"shape", {vocab, hidden}}, {"data_offsets", {0, size}}}}}
          .dump();
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = header.size();
  {
    std::ofstream file(model.folder.file("model.safetensors"), std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), 8);
    file << header;
  }
  fs::resize_file(model.folder.file("model.safetensors"), 8 + header.size() + size);
  const Result result = run({.program = tool("gemma-generate"),
                             .args = {"--model", model.path(), "-p", "Hello", "--dtype", "bf16", "--threads", "1"},
                             .max_memory = size + (1200ULL << 20)});
  check_failure(result, 71, "memory");
}
