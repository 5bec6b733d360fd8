// gemma-chat: a conversation with a Gemma model. Flags -> ChatOptions -> one library call -> exit code.
#include <memory>

#include "cli/chat.h"

int main(int argc, char** argv) {
  using namespace atelier::cli;
  return run_main(argc, argv, "gemma-chat", "Chat with a Gemma model.", [](CLI::App& app) {
    const auto options = std::make_shared<ChatOptions>();
    define_chat_flags(app, *options);
    options->given = [&app](const std::string& name) {
      const CLI::Option* option = app.get_option_no_throw("--" + name);
      return option != nullptr && option->count() > 0;
    };
    return [options] { return run_chat(*options); };
  });
}
