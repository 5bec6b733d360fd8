// gemma-chat through pipes and files.
#include "tools/chat.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

const std::vector<std::string> turns = {"Write a caption for a picture of a red circle.", "Now in German.", "Hello!"};

std::string joined(const std::vector<std::string>& lines) {
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  return all;
}

Json message(const char* role, const Json& content) { return {{"role", role}, {"content", content}}; }

}  // namespace

TEST_CASE("each line of a pipe is one turn, each reply ends with a newline") {
  const Result result = chat({"--seed", "3", "--quiet"}, joined(turns));
  CHECK(result.code == 0);
  CHECK(result.err.empty());
  CHECK(result.out.ends_with("\n"));
  const auto all = records(chat({"--seed", "3", "--json"}, joined(turns)));
  REQUIRE(all.size() == 3);
  std::string texts;
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(all[i]["index"] == i);
    CHECK(all[i]["seed"] == 3 + i);
    const std::string text = all[i]["text"].get<std::string>();
    texts += text.ends_with("\n") ? text : text + "\n";
  }
  CHECK(texts == result.out);
  CHECK(chat({"--seed", "3", "--quiet"}, turns[0] + "\r\n\n  \n" + turns[1] + "\n" + turns[2]).out == result.out);
  CHECK(chat({"--quiet"}, "").out.empty());
}

TEST_CASE("a turn puts in only what is new") {
  const auto all = records(chat({"--seed", "3", "--json"}, joined(turns)));
  REQUIRE(all.size() == 3);
  CHECK(all[0]["usage"]["cached_tokens"] == 0);
  for (std::size_t i = 1; i < all.size(); ++i)
    CHECK(all[i]["usage"]["cached_tokens"] == all[i - 1]["usage"]["prompt_tokens"]);
}

TEST_CASE("a given history is answered as the conversation is") {
  const TempFolder folder;
  const auto all = records(chat({"--seed", "3", "--json", "--system", "Be brief."}, joined(turns)));
  REQUIRE(all.size() == 3);
  Json history = Json::array({message("system", "Be brief.")});
  for (std::size_t i = 0; i < turns.size(); ++i) {
    history.push_back(message("user", turns[i]));
    const std::string seed = std::to_string(3 + i);
    const Json once = record(chat({"--messages", folder.write("h.json", history.dump()), "--seed", seed, "--json"}));
    CHECK(reply(once) == reply(all[i]));
    CHECK(record(chat({"--messages", "-", "--seed", seed, "--json"}, Json{{"messages", history}}.dump()))["text"] == once["text"]);
    CHECK(chat({"--messages", history.dump(), "--seed", seed, "--quiet"}).out == once["text"].get<std::string>() + "\n");
    history.push_back(message("assistant", once["text"]));
  }
}

TEST_CASE("the record is gemma-generate's") {
  const Json one = record(chat({"--messages", Json::array({message("user", turns[0])}).dump(), "--seed", "5", "--json", "--logprobs", "2"}));
  const Json other = record(generate({"-p", turns[0], "--seed", "5", "--json", "--logprobs", "2", "--model", shipped, "--threads", "1"}));
  CHECK(reply(one) == reply(other));
  CHECK(one["logprobs"] == other["logprobs"]);
  CHECK(one["truncated"] == 0);
}

TEST_CASE("jobs bring histories, and a bad one costs only its own record") {
  const std::string jobs = Json{{"id", "a"}, {"messages", Json::array({message("user", "Hello!")})}, {"seed", 4}}.dump() + "\n" +
                           Json{{"id", "b"}, {"messages", Json::array({message("usr", "Hello!")})}}.dump() + "\n" +
                           Json{{"id", "c"}, {"seed", 1}}.dump() + "\n";
  const Result result = chat({"--jobs", "-", "--quiet"}, jobs);
  CHECK(result.code == 3);
  const auto all = records(result);
  REQUIRE(all.size() == 3);
  CHECK(all[0]["id"] == "a");
  CHECK(all[0]["seed"] == 4);
  CHECK(all[1]["code"] == 65);
  CHECK(all[2]["error"] == "the job has no \"messages\"");
}

TEST_CASE("a session file's options count, and the command line's more") {
  const TempFolder folder;
  const Json session = {{"messages", Json::array({message("user", "Hello!")})}, {"options", {{"max_tokens", 2}, {"temperature", 0}}}};
  const std::string file = folder.write("s.json", session.dump());
  CHECK(record(chat({"--messages", file, "--json"}))["token_ids"].size() == 2);
  CHECK(record(chat({"--messages", file, "--json", "-n", "1"}))["token_ids"].size() == 1);
  const auto all = records(chat({"--load", file, "--json"}, "Hi\n"));  // its last turn first, then the line
  CHECK(all.size() == 2);
}

TEST_CASE("broken histories are refused with one line") {
  const TempFolder folder;
  const auto refused = [&](const std::string& text, const std::string& part, const char* flag = "--messages") {
    check_chat_failure(chat({flag, folder.write("bad.json", text)}), 65, part);
  };
  refused("{", "bad.json: ");
  refused("3", "expected a list of messages");
  refused("{}", "expected a list of messages");
  refused("[]", "no user's message: nothing to answer");
  refused(R"([{"role":"usr","content":"x"}])", "message 1: unknown role \"usr\"");
  refused(R"([{"role":"user","content":"a"},{"role":"user","content":"b"}])", "message 2: two user turns in a row");
  refused(R"([{"role":"user","content":"a"},{"role":"model","content":"b"}])", "nothing to answer");
  refused(R"([{"role":"user","content":7}])", "\"content\" must be a text");
  refused(R"({"messages":[{"role":"user","content":"a"}],"options":{"temprature":1}})", "unknown key \"temprature\"");
  refused(R"({"messages":[{"role":"user","content":"a"}],"options":{"temperature":-1}})", "--temperature");
  refused(R"({"messages":[{"role":"user","content":"a"}],"options":[]})", "\"options\" must be an object", "--load");
  refused(std::string(600000, '['), "bad.json");
  check_chat_failure(chat({"--messages", folder.file("missing.json")}), 66, "missing.json");
  check_chat_failure(chat({"--messages", "[]", "--load", "x"}), 64, "does not go with");
  check_chat_failure(chat({"--quiet"}, "\xff\n"), 65, "UTF-8");
}

TEST_CASE("--help shows the shapes of values, on lines that fit") {
  const Result result = chat({"--help"});
  for (const char* part : {"--translate FROM:TO", "--safety POLICY[:LEVEL],...", "--variant auto|plain|", "/help lists the commands"}) {
    INFO(part);
    CHECK(result.out.find(part) != std::string::npos);
  }
  for (const std::string& line : result.out_lines()) CHECK(line.size() <= 100);
}

TEST_CASE("a full context forgets the oldest turns and says how many") {
  std::string lines;
  for (int i = 0; i < 40; ++i)
    lines += "There are a small red circle at the top, a large red heart in the centre and a medium green circle at the bottom on a "
             "white background. How many circles are there?\n";
  const Result result = chat({"--seed", "1", "--json", "-n", "16"}, lines);
  CHECK(result.code == 0);
  CHECK(result.out_lines().size() == 40);
  CHECK(result.err.find("the context is full: 1 oldest turn was forgotten") != std::string::npos);
}

TEST_CASE("200 turns take no more memory than 50") {
  const auto peak = [](int count) {
    std::string lines;
    for (int i = 0; i < count; ++i) lines += "Write a caption for a picture of a large yellow diamond number " + std::to_string(i) + ".\n";
    const Result result = run([&] {
      Process p = chat_process({"--seed", "1", "--quiet", "-n", "12"}, lines);
      p.timeout = std::chrono::minutes(5);
      return p;
    }());
    CHECK(result.code == 0);
    return static_cast<double>(result.peak_rss);
  };
  const double few = peak(50), many = peak(200);
  MESSAGE("peak: " << few / 1e6 << " MB after 50 turns, " << many / 1e6 << " MB after 200");
  CHECK(many < few * 1.03);
}
