// gemma-quantize: makes a Gemma folder in 8 or 4 bits. Flags -> QuantizeOptions -> one library call -> exit code.
#include <memory>

#include "cli/quantize.h"

int main(int argc, char** argv) {
  using namespace atelier::cli;
  return run_main(argc, argv, "gemma-quantize", "Make a Gemma model folder in 8 or 4 bits.", [](CLI::App& app) {
    const auto options = std::make_shared<QuantizeOptions>();
    define_quantize_flags(app, *options);
    return [options] { return run_quantize(*options); };
  });
}
