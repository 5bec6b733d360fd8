// Conversations on the model that ships: what is computed, and that it does not depend on how the conversation came about.
#include <csignal>

#include "base/stop.h"
#include "pipelines/chat.h"
#include "support/doctest_last.h"

namespace {

using namespace atelier;
using base::Json;
using pipelines::ChatReply;
using pipelines::ChatSession;
using pipelines::GenerationRequest;
using pipelines::TextModel;

std::shared_ptr<const TextModel> model() {
  static const auto loaded =
      TextModel::load(pipelines::TextModelFiles::open(std::string(ATELIER_MODELS) + "/tiny-gemma", {"cpu", "auto"}));
  return loaded;
}

const std::vector<std::string> lines = {
    "There are a small red circle at the top, a large red heart in the centre and a medium green circle at the bottom on a "
    "white background. How many circles are there?",
    "And how many hearts?", "Write a caption for it.", "Now in German.", "What is the capital of France?", "Hello!"};

GenerationRequest sampled(std::uint64_t seed, std::int64_t most = 24) {
  GenerationRequest request;
  request.seed = seed;
  request.max_tokens = most;
  return request;
}

ChatReply ask(ChatSession& session, const std::string& text, std::uint64_t seed) {
  session.add({{"role", "user"}, {"content", text}});
  return session.answer(sampled(seed), {});
}

/// The same history answered at once.
ChatReply answer_whole(const Json& messages, std::uint64_t seed) {
  ChatSession session(model());
  session.set_messages(messages);
  return session.answer(sampled(seed), {});
}

}  // namespace

TEST_CASE("turn by turn and as a whole a seed gives the same reply, beyond the sliding window too") {
  for (const bool settle : {false, true}) {
    ChatSession session(model());
    bool beyond = false;
    for (std::size_t i = 0; i < lines.size(); ++i) {
      session.add({{"role", "user"}, {"content", lines[i]}});
      const Json history = session.messages();
      const ChatReply reply = session.answer(sampled(40 + i), {});
      const ChatReply whole = answer_whole(history, 40 + i);
      CHECK(reply.result.token_ids == whole.result.token_ids);
      CHECK(reply.request.prompt == whole.request.prompt);
      CHECK(whole.result.prefilled_tokens == whole.result.prompt_tokens);
      beyond |= reply.result.prompt_tokens > 128;
      if (settle) session.settle({});
    }
    CHECK(beyond);
  }
}

TEST_CASE("a turn computes only what is new") {
  ChatSession session(model());
  std::int64_t known = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto result = ask(session, lines[i], i).result;
    CHECK(result.prefilled_tokens == result.prompt_tokens - known);  // the last reply, and this turn
    known = result.prompt_tokens;
  }
  // With the reply settled while the user types, only the turn itself is left.
  session.settle({});
  const std::int64_t settled = session.context_tokens();
  CHECK(settled > known);
  const auto result = ask(session, "Hi", 9).result;
  CHECK(result.prefilled_tokens == result.prompt_tokens - settled);
  CHECK(result.prefilled_tokens < 12);
}

TEST_CASE("retry and undo go back to the turn's border") {
  ChatSession session(model());
  for (int i = 0; i < 4; ++i) ask(session, lines[i], i);
  const ChatReply first = ask(session, lines[4], 5);
  REQUIRE(session.take_back_reply());
  const ChatReply again = session.answer(sampled(5), {});
  CHECK(again.result.token_ids == first.result.token_ids);
  CHECK(again.result.prefilled_tokens < 60);
  REQUIRE(session.take_back_reply());
  const Json asked = session.messages();
  CHECK(session.answer(sampled(77), {}).result.token_ids == answer_whole(asked, 77).result.token_ids);

  REQUIRE(session.undo());
  session.add({{"role", "user"}, {"content", "Draw me a big green square on white"}});
  const Json history = session.messages();
  const ChatReply other = session.answer(sampled(8), {});
  CHECK(other.result.token_ids == answer_whole(history, 8).result.token_ids);
  CHECK(other.result.prefilled_tokens < 90);
  while (session.undo()) {
  }
  CHECK(session.messages().empty());
  CHECK_FALSE(session.take_back_reply());
}

TEST_CASE("when the context is full the oldest turns go, the system text stays, and the cache is used again") {
  ChatSession session(model());
  session.set_system("You know about shapes.");
  std::int64_t forgotten = 0, recomputed = 0, largest = 0;
  std::int64_t bytes = 0;
  for (int i = 0; i < 60; ++i) {
    const ChatReply reply = ask(session, lines[i % 5], i);
    CHECK(reply.result.prompt_tokens + 24 <= model()->context);
    if (reply.forgotten > 0) {
      ++recomputed;
      largest = std::max(largest, reply.result.prefilled_tokens);
    }
    forgotten += reply.forgotten;
    if (i == 40) bytes = session.cache_bytes();
  }
  CHECK(forgotten > 10);
  CHECK(forgotten == session.forgotten_turns());
  CHECK(recomputed > 5);
  MESSAGE("largest prefill after turns were forgotten: " << largest);
  CHECK(largest < 150);  // of a context of about 1000
  CHECK(session.cache_bytes() <= bytes + bytes / 4);
  CHECK(session.messages().size() == 121);  // nothing is lost for /save
  CHECK(session.system() == "You know about shapes.");
}

TEST_CASE("a last turn that alone is too long is refused, or cut") {
  ChatSession session(model());
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "a red circle and ";
  session.add({{"role", "user"}, {"content", text}});
  CHECK_THROWS_AS(session.answer(sampled(1), {}), base::Error);
  pipelines::PromptOptions cut;
  cut.truncation = pipelines::Truncation::tail;
  const auto reply = session.answer(sampled(1), cut);
  CHECK(reply.truncated > 0);
}

TEST_CASE("a stop ends the reply, and the conversation goes on") {
  ChatSession session(model());
  session.add({{"role", "user"}, {"content", lines[0]}});
  GenerationRequest request = sampled(3);
  request.on_text = [](std::string_view) { base::request_stop(SIGINT); };
  const ChatReply reply = session.answer(request, {});
  base::clear_stop();
  CHECK(reply.stopped);
  CHECK(session.messages().size() == 2);
  CHECK(session.messages()[1]["content"] == reply.result.text);
  session.add({{"role", "user"}, {"content", lines[1]}});
  const Json history = session.messages();
  CHECK(session.answer(sampled(4), {}).result.token_ids == answer_whole(history, 4).result.token_ids);

  // Before anything was said: in the prompt.
  ChatSession other(model());
  other.add({{"role", "user"}, {"content", "Hi"}});
  base::request_stop(SIGINT);
  CHECK(other.answer(sampled(1), {}).stopped);
  base::clear_stop();
  CHECK(other.messages().size() == 1);
  CHECK_FALSE(other.answer(sampled(1), {}).stopped);
}
