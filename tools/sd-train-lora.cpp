// sd-train-lora: teaches Stable Diffusion pictures. Flags -> TrainLoraOptions -> one library call -> exit code.
#include <memory>

#include "cli/train_lora.h"

int main(int argc, char** argv) {
  using namespace atelier::cli;
  return run_main(argc, argv, "sd-train-lora",
                  "Teach Stable Diffusion a subject or a style from a folder of pictures.", [](CLI::App& app) {
                    const auto options = std::make_shared<TrainLoraOptions>();
                    define_train_lora_flags(app, *options);
                    options->train.given = [&app](const std::string& name) {
                      const CLI::Option* option = app.get_option_no_throw("--" + name);
                      return option != nullptr && option->count() > 0;
                    };
                    return [options] { return run_train_lora(*options); };
                  });
}
