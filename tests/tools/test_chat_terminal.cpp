// gemma-chat in a pseudo-terminal.
#include <csignal>
#include <thread>

#include "tools/chat.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;
using std::chrono::seconds;

/// A chat in a terminal of its own, with a history file of its own.
class Terminal {
 public:
  explicit Terminal(std::vector<std::string> args = {}, const std::string& history = {})
      : session_([&] {
          args.insert(args.end(), {"--history", history.empty() ? folder.file("history") : history});
          Process p = chat_process(std::move(args));
          p.pty = true;
          p.timeout = seconds(120);
          p.env = {{"TERM", "xterm"}, {"LC_ALL", "C"}};
          return p;
        }()) {
    REQUIRE(expect("> "));
  }

  /// Types a line, waits for what must come, and for the next prompt.
  bool say(const std::string& line, const std::string& wanted = {}) {
    session_.send(line + "\r");
    return (wanted.empty() || expect(wanted)) && expect("> ");
  }

  bool expect(const std::string& text) {
    const bool found = session_.expect(text, seconds(60));
    if (!found) MESSAGE("the terminal has: " << session_.out());
    return found;
  }
  Session& session() { return session_; }

  Result leave() {
    session_.send("/exit\r");
    return session_.wait();
  }

  TempFolder folder;

 private:
  Session session_;
};

}  // namespace

TEST_CASE("a conversation, its commands, and the way out") {
  Terminal t({"--seed", "3", "-n", "24"});
  CHECK(t.say("Hello!"));
  CHECK(t.say("/tokens", "context "));
  CHECK(t.say("/set", "temperature"));
  CHECK(t.say("/set temperature 0"));
  CHECK(t.say("/set temprature 0", "did you mean"));
  CHECK(t.say("/set warmth 0", "/set alone shows"));
  CHECK(t.say("/set status on"));
  CHECK(t.say("Who are you?", "tok/s"));
  CHECK(t.say("/retry", "tok/s"));
  CHECK(t.say("/system Be brief."));
  CHECK(t.say("/system", "Be brief."));
  CHECK(t.say("/help", "/retry"));
  CHECK(t.say("/hlep", "did you mean \"/help\"?"));
  CHECK(t.say("/undo"));
  const std::string file = t.folder.file("session.json");
  CHECK(t.say("/save " + file, "saved"));
  const Json saved = base::parse_json(t.folder.read("session.json"), "session");
  CHECK(saved["messages"].size() == 3);
  CHECK(saved["messages"][0]["content"] == "Be brief.");
  CHECK(saved["messages"][1]["content"] == "Hello!");
  CHECK(saved["options"]["temperature"] == 0);
  CHECK(t.say("/reset"));
  CHECK(t.say("/undo", "no turn"));
  CHECK(t.say("/load " + file, "3 messages"));
  CHECK(t.say("/load " + file + ".missing", "error"));
  CHECK(t.say("/save /nonexistent/x", "error"));
  const Result end = t.leave();
  CHECK(end.code == 0);
  // What was typed is kept, for its owner only.
  CHECK(t.folder.read("history").starts_with("Hello!\n/tokens\n"));
  const auto mode = std::filesystem::status(t.folder.file("history")).permissions();
  CHECK((mode & (std::filesystem::perms::group_all | std::filesystem::perms::others_all)) == std::filesystem::perms::none);
}

TEST_CASE("the same reply as for the same history") {
  Terminal t({"--seed", "11", "-n", "40"});
  const std::vector<std::string> turns = {"Write a caption for a picture of a red circle.", "Now in French."};
  for (const std::string& turn : turns) REQUIRE(t.say(turn));
  const std::string file = t.folder.file("s.json");
  REQUIRE(t.say("/save " + file, "saved"));
  t.leave();
  Json saved = base::parse_json(t.folder.read("s.json"), "session");
  REQUIRE(saved["messages"].size() == 4);
  for (int i : {1, 0}) {
    const Json said = saved["messages"].back()["content"];
    saved["messages"].erase(saved["messages"].end() - 1);
    const Json once = record(chat({"--messages", saved.dump(), "--seed", std::to_string(11 + i), "--json"}));
    CHECK(once["text"] == said);
    saved["messages"].erase(saved["messages"].end() - 1);
  }
}

TEST_CASE("several lines make one turn") {
  Terminal t({"--seed", "1", "-n", "4"});
  t.session().send("one \\\r");
  REQUIRE(t.expect("... "));
  REQUIRE(t.say("two"));
  t.session().send("\"\"\"three\r");
  REQUIRE(t.expect("... "));
  REQUIRE(t.say("four\"\"\""));
  REQUIRE(t.say("//five"));
  REQUIRE(t.say("/save " + t.folder.file("s.json"), "saved"));
  t.leave();
  const Json saved = base::parse_json(t.folder.read("s.json"), "session");
  REQUIRE(saved["messages"].size() == 6);
  CHECK(saved["messages"][0]["content"] == "one \ntwo");
  CHECK(saved["messages"][2]["content"] == "three\nfour");
  CHECK(saved["messages"][4]["content"] == "/five");
}

TEST_CASE("Ctrl-C stops the reply and not the program; Ctrl-D leaves") {
  // A model that does not stop by itself: every token is allowed, and the hottest temperature.
  Terminal t({"--seed", "1", "-n", "1000", "--temperature", "100", "--top-k", "0", "--top-p", "1"});
  bool stopped = false;
  for (int i = 0; i < 3 && !stopped; ++i) {  // it may happen to end by itself
    t.session().send("Talk.\r");
    REQUIRE(t.expect("Talk."));
    REQUIRE(t.expect("\n"));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    t.session().send("\x03\x03");  // twice: impatience does not end the program either
    stopped = t.session().expect("stopped", seconds(5));
    REQUIRE(t.expect("> "));
  }
  CHECK(stopped);
  CHECK(t.say("/set temperature 0"));
  t.session().send("half a line\x03");
  REQUIRE(t.expect("^C"));
  REQUIRE(t.expect("> "));
  CHECK(t.say("/tokens", "context"));
  t.session().send("\x04");
  const Result end = t.session().wait();
  CHECK(end.code == 0);
  CHECK(end.signal == 0);
}

TEST_CASE("SIGTERM ends it with 143") {
  Terminal t;
  t.session().kill(SIGTERM);
  CHECK(t.session().wait().code == 143);
}

TEST_CASE("history and editing keys") {
  TempFolder folder;
  {
    Terminal t({"-n", "4", "--seed", "1"}, folder.file("history"));
    REQUIRE(t.say("first words"));
    t.leave();
  }
  Terminal t({"-n", "4", "--seed", "1"}, folder.file("history"));
  t.session().send("\x1b[A\x1b[A");  // Up twice: past /exit
  if (t.session().expect("first words", seconds(5))) {  // builds without libedit edit nothing
    t.session().send("\x01my \x05!\r");                 // Ctrl-A, insert; Ctrl-E, append
    REQUIRE(t.expect("> "));
    REQUIRE(t.say("/save " + t.folder.file("s.json"), "saved"));
    CHECK(base::parse_json(t.folder.read("s.json"), "s")["messages"][0]["content"] == "my first words!");
    REQUIRE(t.say("gr\xc3\xbc\xc3\x9f Gott"));
    REQUIRE(t.say("/save " + t.folder.file("s.json"), "saved"));
    CHECK(base::parse_json(t.folder.read("s.json"), "s")["messages"][2]["content"] == "gr\xc3\xbc\xc3\x9f Gott");
    t.leave();
  }
}

TEST_CASE("what a file holds cannot drive the terminal") {
  Terminal t({"--seed", "1", "-n", "2"});
  const std::string evil = "\x1b]0;owned\x07\x1b[2J";
  const std::string file = t.folder.write(
      "s.json", Json{{"messages", Json::array({{{"role", "system"}, {"content", "x" + evil + "y"}}})}}.dump());
  REQUIRE(t.say("/load " + file, "1 messages"));
  REQUIRE(t.say("/system", "xy"));
  const Result end = t.leave();
  CHECK(end.out.find("owned") == std::string::npos);
  CHECK(end.out.find("\x1b[2J") == std::string::npos);
}
