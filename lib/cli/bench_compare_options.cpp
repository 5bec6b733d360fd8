#include "cli/bench_compare_options.h"

#include "cli/command.h"
#include "cli/validators.h"

namespace atelier::cli {
namespace {

void add_grid_flags(CLI::App& app, CompareOptions& o) {
  const std::string group = "What is compared";
  add_words(app, "--models", o.axes.models, "PATH", "Diffusers folders or single files; left out, the model that ships")
      ->group(group);
  add_words(app, "--loras", o.axes.loras, "FILE[:SCALE]", "LoRA files, and none for no LoRA (left out, none)")
      ->group(group);
  add_words(app, "--dtypes", o.axes.dtypes, "DTYPE",
            "Number formats of the weights: auto, fp32, bf16, fp16 (left out, auto)")
      ->group(group);
  add_words(app, "--samplers", o.axes.samplers, "NAME",
            "Samplers by any of their names, \"DPM++ 2M Karras\" too (left out, each model's own)")
      ->group(group);
  add_words(app, "--steps", o.axes.steps, "N", "Step counts (left out, 20)")
      ->check(whole_in_range(1, 10000))
      ->group(group);
  app.add_option("--grid", o.grid,
                 "TOML file with these axes: models, loras, dtypes, samplers, steps, each a value or an array")
      ->type_name("FILE")
      ->group(group);
}

void add_picture_flags(CLI::App& app, CompareOptions& o) {
  const std::string group = "Pictures";
  app.add_option("--prompts", o.prompts, "A prompt on each line; or .jsonl with {\"prompt\", \"seed\"}")
      ->type_name("FILE")
      ->required()
      ->group(group);
  app.add_option("-n,--negative", o.negative, "Negative prompt of all")->type_name("TEXT")->group(group);
  app.add_option("-b,--count", o.count, "Pictures for each prompt")->check(whole_in_range(1, 1 << 20))->group(group);
  app.add_option("-W,--width", o.width, "Width in pixels (left out, what each model was trained on)")
      ->check(whole_in_range(8, 1 << 15))
      ->group(group)
      ->default_str("");
  app.add_option("-H,--height", o.height, "Height in pixels (left out, likewise)")
      ->check(whole_in_range(8, 1 << 15))
      ->group(group)
      ->default_str("");
  app.add_option("--cfg-scale", o.cfg_scale, "Guidance; 1 or less: none")->check(in_range(0, 1000))->group(group);
  app.add_option("--warmup", o.warmup, "Pictures made before those of a row are timed")
      ->check(whole_in_range(0, 1000))
      ->group(group);
}

void add_quality_flags(CLI::App& app, CompareOptions& o) {
  const std::string group = "Quality";
  QualityOptions& q = o.quality;
  app.add_option("--reference", q.reference, "Real pictures, or their features: FID and KID, with --inception")
      ->type_name("DIR")
      ->group(group);
  app.add_option("--inception", q.inception, "Inception's weights (scripts/convert-metrics makes them)")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--resize", q.resize, "How pictures come to Inception's size")
      ->check(one_of({"pytorch-fid", "clean-fid"}))
      ->group(group);
  app.add_option("--clip", q.clip, "CLIPModel: CLIP score of pictures and prompts")->type_name("DIR")->group(group);
  app.add_option("--preference", q.preference, "Model of what people prefer: PickScore, HPSv2, ImageReward")
      ->type_name("DIR")
      ->group(group);
  app.add_option("--predictor", q.predictor, "What --preference was trained as")
      ->check(one_of({"pickscore", "hpsv2", "imagereward"}))
      ->group(group);
  app.add_option("--lpips", q.lpips, "LPIPS weights: diversity of a row's pictures")->type_name("FILE")->group(group);
  app.add_option("--bootstrap", q.bootstrap, "Samples that 95 % intervals are made of; 0: none")
      ->check(whole_in_range(0, 1000000))
      ->group(group);
}

void add_result_flags(CLI::App& app, CompareOptions& o) {
  const std::string group = "Results";
  app.add_option(
         "-o,--output", o.output,
         "Folder of the reports, and of everything that was made: the same command goes on where it was stopped")
      ->type_name("DIR")
      ->required()
      ->group(group);
  app.add_flag("--overwrite", o.overwrite, "Make and measure everything anew")->group(group);
  app.add_option("--shown", o.shown, "Prompts whose pictures are shown in the reports")
      ->check(whole_in_range(0, 1000))
      ->group(group);
  app.add_option("--baseline", o.baseline, "results.jsonl of an earlier comparison")->type_name("FILE")->group(group);
  add_list(
      app, "--fail-if", o.fail_if,
      "Exit code 4 if this holds for any row: \"fid>+2%\" (against the baseline), \"step_s>0.5\"; times are medians")
      ->type_name("CONDITION")
      ->group(group);
}

}  // namespace

void define_compare_flags(CLI::App& app, CompareOptions& o) {
  add_grid_flags(app, o);
  add_picture_flags(app, o);
  add_quality_flags(app, o);
  add_result_flags(app, o);
  add_command_options(
      app, o.common,
      "sd-bench compare --models a/ b/ --samplers euler dpmpp_2m --steps 10 20 --prompts prompts.txt --output report\n"
      "  sd-bench compare --grid grid.toml --prompts prompts.txt --clip clip-vit-large-patch14/ --output report\n"
      "  sd-bench compare --grid grid.toml --prompts prompts.txt --output new --baseline old/results.jsonl "
      "--fail-if \"step_s>+10%\"",
      {.model = false, .dtype = false, .batches = false, .completions = false});
  // Drawn anew each time, nothing could ever be gone on with.
  app.get_option("--seed")->description(
      "Seed of the first picture; picture i uses seed + i (left out, 0, so that the same command goes on)");
}

}  // namespace atelier::cli
