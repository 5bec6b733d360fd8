// sd-dreambooth: teaches Stable Diffusion a subject from a few pictures. Flags -> DreamBoothOptions -> one library call ->
// exit code.
#include <memory>

#include "cli/dreambooth.h"

int main(int argc, char** argv) {
  using namespace atelier::cli;
  return run_main(argc, argv, "sd-dreambooth", "Teach Stable Diffusion a subject from a few pictures.",
                  [](CLI::App& app) {
                    const auto options = std::make_shared<DreamBoothOptions>();
                    define_dreambooth_flags(app, *options);
                    options->train.given = [&app](const std::string& name) {
                      const CLI::Option* option = app.get_option_no_throw("--" + name);
                      return option != nullptr && option->count() > 0;
                    };
                    return [options] { return run_dreambooth(*options); };
                  });
}
