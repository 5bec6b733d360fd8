#include "cli/train_lora_options.h"

#include "base/error.h"
#include "cli/preset_option.h"
#include "cli/validators.h"

namespace atelier::cli {

void define_train_lora_flags(CLI::App& app, TrainLoraOptions& o) {
  add_trainer_options(app, o.train.common,
                      "sd-train-lora --model sd15 --data photos --output cat.safetensors --steps 800\n"
                      "  sd-train-lora --data photos --check\n"
                      "  sd-train-lora --preset cpu-small --data dataset.toml --output style.safetensors \\\n"
                      "    --train-text-encoder --min-snr-gamma 5 --sample-prompts prompts.txt --sample-every 100\n"
                      "  sd-train-lora --method textual-inversion --token \"<toy>\" --init-word toy --data photos \\\n"
                      "    --output toy.safetensors");
  add_preset_option(app)->group("Input and output");
  add_data_flag(app, o.data);
  add_bucket_flags(app, o.data);
  add_picture_flags(app, o.data);
  add_caption_flags(app, o.data);
  app.add_option("--method", o.train.method,
                 "lora; dora, which learns the weights' magnitudes, too; or textual-inversion, which learns one word")
      ->check(one_of({"lora", "dora", "textual-inversion"}))
      ->capture_default_str()
      ->group("Method");
  add_lora_flags(app, o.train);
  add_token_flags(app, o.train);
  add_image_train_flags(app, o.train);
  app.add_option("-o,--output", o.train.output, "The file that is written, .safetensors")->type_name("FILE")->group("Output");
}

void check_train_lora_flags(const TrainLoraOptions& o) {
  if (o.data.data.empty())
    throw base::Error(base::ExitCode::usage, "--data is missing", "it names the folder of the pictures, or a dataset file");
  check_data_flags(o.data);
  if (o.data.check) return;
  if (o.train.output.empty() && !o.train.common.plan)
    throw base::Error(base::ExitCode::usage, "--output is missing", "it names the file that is written");
  check_image_train_flags(o.train);
}

}  // namespace atelier::cli
