// gemma-finetune: teaches a Gemma model rows of text. Flags -> FinetuneOptions -> one library call -> exit code.
#include <memory>

#include "cli/finetune.h"

int main(int argc, char** argv) {
  using namespace atelier::cli;
  return run_main(argc, argv, "gemma-finetune", "Fine-tune a Gemma model, or train one from nothing.",
                  [](CLI::App& app) {
                    const auto options = std::make_shared<FinetuneOptions>();
                    define_finetune_flags(app, *options);
                    options->given = [&app](const std::string& name) {
                      const CLI::Option* option = app.get_option_no_throw("--" + name);
                      return option != nullptr && option->count() > 0;
                    };
                    return [options] { return run_finetune(*options); };
                  });
}
