// gemma-generate: continues a prompt with a Gemma model. Flags -> GenerateOptions -> one library call -> exit code.
#include <memory>

#include "cli/generate.h"

int main(int argc, char** argv) {
  using namespace atelier::cli;
  return run_main(argc, argv, "gemma-generate", "Generate text with a Gemma model.", [](CLI::App& app) {
    const auto options = std::make_shared<GenerateOptions>();
    define_generate_flags(app, *options);
    return [options] { return run_generate(*options); };
  });
}
