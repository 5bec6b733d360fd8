#include "cli/image_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/validators.h"
#include "schedulers/samplers.h"

namespace atelier::cli {
namespace {

constexpr long long kMaxSide = 1 << 15, kMaxSteps = 10000;

CLI::Option* number(CLI::App& app, const std::string& name, std::int64_t& target, const std::string& text,
                    long long low, long long high) {
  return app.add_option(name, target, text)->check(whole_in_range(low, high))->type_name("N")->capture_default_str();
}

CLI::Option* fraction(CLI::App& app, const std::string& name, double& target, const std::string& text, double low,
                      double high) {
  return app.add_option(name, target, text)->check(in_range(low, high))->type_name("X")->capture_default_str();
}

CLI::Option* file(CLI::App& app, const std::string& name, std::string& target, const std::string& text) {
  return app.add_option(name, target, text)->type_name("FILE");
}

CLI::Option* word(CLI::App& app, const std::string& name, std::string& target, const std::string& text,
                  std::vector<std::string> choices) {
  return app.add_option(name, target, text)->check(one_of(std::move(choices)))->capture_default_str();
}

/// One of these words, or of others that mean the same and are looked up later.
CLI::Option* name(CLI::App& app, const std::string& flag, std::string& target, const std::string& text,
                  const std::vector<std::string>& words) {
  const auto any = [](std::string&) { return std::string(); };
  return app.add_option(flag, target, text)
      ->type_name("NAME")
      ->check(CLI::Validator(any, fmt::format("{{{}}}", fmt::join(words, ","))));
}

void in_group(const std::string& group, std::initializer_list<CLI::Option*> options) {
  for (CLI::Option* option : options) option->group(group);
}

void add_prompt_flags(CLI::App& app, ImageOptions& o) {
  in_group(
      "Prompt",
      {app.add_option(
              "-p,--prompt", o.prompt,
              "What the picture shows; left out or -, it is read from stdin. (x) and (x:1.5) weigh a part more, [x] "
              "less, \\( is a bracket, BREAK begins a new chunk of 75 tokens; any length")
           ->type_name("TEXT"),
       app.add_option("-n,--negative", o.negative,
                      "What it does not show; left out it is empty, with SDXL a zero embedding")
           ->type_name("TEXT"),
       word(app, "--weighting", o.weighting,
            "What weights do: a1111 multiplies and restores the mean, comfy interpolates from the empty prompt, none "
            "takes brackets as text",
            {"a1111", "comfy", "none"}),
       app.add_option("--clip-skip", o.clip_skip,
                      "Text encoder's layer, counted from the end: 1 the last, 2 the last but one (left out, the "
                      "model's own)")
           ->check(whole_in_range(1, 64))
           ->type_name("N"),
       add_list(app, "--embedding", o.embeddings, "Textual-inversion embedding; prompts call it by its file's name")
           ->type_name("FILE"),
       app.add_option("--embedding-dir", o.embedding_dir, "All embeddings of a folder")->type_name("DIR"),
       add_list(app, "--lora", o.loras, "LoRA, LoCon, DoRA, LoHa or LoKr file, with its strength (left out, 1)")
           ->type_name("FILE[:SCALE]"),
       app.add_option("--lora-dir", o.lora_dir, "Where <lora:NAME:SCALE> in a prompt finds NAME.safetensors")
           ->type_name("DIR"),
       app.add_flag("--strict", o.strict,
                    "An adapter's key that matches nothing in the model ends the run (exit code 65)"),
       app.add_option("--tokenizer", o.tokenizer,
                      "Tokenizer in place of the model's own (of single files: CLIP's, which is built in)")
           ->type_name("DIR")});
}

void add_picture_flags(CLI::App& app, ImageOptions& o, ImageTask task) {
  const bool given = task != ImageTask::txt2img;
  const std::string size = given ? " (left out, the given picture's)" : " (left out, what the model was trained on)";
  in_group(
      "Picture",
      {number(app, "-W,--width", o.width, "Width in pixels, a multiple of 8" + size, 8, kMaxSide)->default_str(""),
       number(app, "-H,--height", o.height, "Height in pixels, a multiple of 8" + size, 8, kMaxSide)->default_str(""),
       number(app, "--steps", o.steps, "Denoising steps", 1, kMaxSteps),
       fraction(app, "--cfg-scale", o.cfg_scale, "Guidance; 1 or less: none, and no negative prompt", 0, 1000),
       name(app, "--sampler", o.sampler,
            "Sampler, also by the names of diffusers, ComfyUI or A1111 (left out, the model's own)",
            schedulers::sampler_names()),
       name(app, "--schedule", o.schedule, "Spacing of the noise levels (left out, the model's own)",
            schedulers::schedule_names()),
       app.add_option(
              "--vae", o.vae,
              "Another autoencoder: a folder in diffusers layout, also of a TAESD, or a file in the original layout")
           ->type_name("FILE|DIR"),
       app.add_flag("--vae-tiling", o.vae_tiling,
                    "Encode and decode in tiles: less memory for large pictures, slightly other pixels")});
  if (task == ImageTask::txt2img)
    in_group("Picture", {fraction(app, "--hires", o.hires,
                                  "Second pass: the picture enlarged by this factor, then image-to-image", 1, 8),
                         fraction(app, "--hires-strength", o.hires_strength, "Strength of that pass", 0, 1),
                         word(app, "--hires-upscaler", o.hires_upscaler,
                              "How it is enlarged: its pixels, or its latents, which want a strength above 0.5",
                              hires_upscalers())});
}

void add_control_flags(CLI::App& app, ImageOptions& o) {
  const auto fractions = [&](const char* name, std::vector<std::string>& target, const std::string& text) {
    return add_list(app, name, target, text)->check(in_range(0, 1))->type_name("X");
  };
  in_group(
      "ControlNet",
      {add_list(app, "--control", o.controls,
                "A ControlNet (file, or folder in diffusers layout), the picture that it follows, and its strength "
                "(left out, 1)")
           ->type_name("FILE:IMAGE[:SCALE]"),
       add_list(app, "--control-prepare", o.control_prepare,
                "What is done to that picture first: none, it shows what the ControlNet was trained on, or canny, its "
                "edges are found (once for all, or once for each --control; so the next two)")
           ->check(one_of({"none", "canny"})),
       fractions("--control-start", o.control_start, "Fraction of the run from which it acts (left out, 0)"),
       fractions("--control-end", o.control_end, "Fraction of the run until which it acts (left out, 1)"),
       number(app, "--canny-low", o.canny_low, "Change above which what hangs together with an edge is one", 0, 2040),
       number(app, "--canny-high", o.canny_high, "Change above which a pixel is an edge", 0, 2040)});
}

void add_upscale_flags(CLI::App& app, ImageOptions& o) {
  in_group("Picture",
           {file(app, "--upscale", o.upscale,
                 "Enlarge the finished picture by this network (ESRGAN, Real-ESRGAN: RRDB networks of factor 1 to 16)"),
            number(app, "--upscale-tile", o.upscale_tile,
                   "Side of the squares, in pixels before, in which it works: larger ones take more memory",
                   kSmallestUpscaleTile, 8192)});
}

void add_init_flags(CLI::App& app, ImageOptions& o, ImageTask task) {
  const std::string group = "Given picture";
  in_group(group,
           {file(app, "--init", o.init, "The picture to begin with (PNG or JPEG)"),
            fraction(app, "--strength", o.strength, "How much of the run is made: 1 forgets the given picture", 0, 1),
            word(app, "--resize-mode", o.resize_mode,
                 "How the given picture comes to another size: stretch, crop the middle, pad by its edges",
                 {"stretch", "crop", "pad"})});
  if (task == ImageTask::img2img)
    in_group(group, {app.add_option("--strength-schedule", o.strength_schedule,
                                    "Weight of the model's own picture against the given one over the run, as "
                                    "FRACTION:WEIGHT,...: \"0:1,0.5:0.6,1:0.2\"; constant 1 is plain image-to-image")
                         ->type_name("LIST"),
                     word(app, "--colour-match", o.colour_match, "Give the result the given picture's colours",
                          {"none", "mean", "histogram"})});
}

void add_mask_flags(CLI::App& app, ImageOptions& o) {
  in_group(
      "Mask",
      {file(app, "--mask", o.mask,
            "White is repainted; in a picture without grey levels what is transparent (left out with the other mask "
            "flags: what is transparent in --init)"),
       file(app, "--mask-svg", o.mask_svg, "A drawing, stretched over the picture"),
       add_list(app, "--mask-shape", o.mask_shapes,
                "rect:x,y,w,h, ellipse:cx,cy,rx,ry or polygon:x,y x,y ... in pixels of --init"),
       app.add_flag("--invert-mask", o.invert_mask, "Repaint what is not masked"),
       number(app, "--grow", o.grow, "Grow the mask by so many pixels; negative shrinks it", -4096, 4096),
       fraction(app, "--feather", o.feather, "Soften the mask's edge over so many pixels to both sides", 0, 1024),
       word(app, "--masked-content", o.masked_content, "What the masked part begins as",
            {"original", "fill", "noise", "nothing"}),
       app.add_flag("--only-masked", o.only_masked,
                    "Work on the mask's surroundings alone, at the size of --width and --height"),
       number(app, "--padding", o.padding, "Pixels around the mask that --only-masked takes in", 0, 4096),
       word(app, "--blend", o.blend, "How the new part comes into the picture",
            {"normal", "multiply", "screen", "overlay", "soft-light", "luminosity", "poisson"})});
  in_group(
      "Soft inpainting",
      {app.add_flag(
           "--soft-inpaint", o.soft_inpaint,
           "Let grey levels of the mask, its feather included, fade the picture out over the steps, and show it "
           "again where hardly anything changed (as A1111's extension of that name)"),
       fraction(app, "--soft-bias", o.soft.schedule_bias, "Above 1 keeps the picture early in the run, below 1 late", 0,
                8),
       fraction(app, "--soft-preservation", o.soft.preservation, "How strongly grey levels keep the picture", 0, 8),
       fraction(app, "--soft-contrast", o.soft.contrast_boost, "Above 1 leans towards the stronger content", 1, 32),
       fraction(app, "--soft-mask-influence", o.soft.mask_influence, "Of the mask on the final composition", 0, 1),
       fraction(app, "--soft-threshold", o.soft.difference_threshold,
                "Change of the latents at which the picture is half covered", 0, 8),
       fraction(app, "--soft-sharpness", o.soft.difference_contrast, "How sharp the transition there is", 0, 8)});
}

void add_output_flags(CLI::App& app, ImageOptions& o) {
  in_group(
      "Output",
      {file(app, "-o,--output", o.output,
            "The picture, PNG or JPEG by its ending (left out, out.png); %d or %03d in it is the picture's number, "
            "which is put before the ending where several pictures would have one name; - is stdout"),
       number(app, "-b,--count", o.count, "Pictures for each prompt; picture i uses seed N+i", 1, 1 << 20),
       number(app, "--batch-size", o.batch_size, "Pictures computed at once; it never changes them", 1, 64),
       file(
           app, "--preview", o.preview,
           "Write a small preview of the unfinished picture here while it is made; %d or %03d in the name is the step"),
       number(app, "--preview-every", o.preview_every, "Steps between previews", 1, kMaxSteps),
       app.add_option(
              "--preview-vae", o.preview_vae,
              "A TAESD that decodes previews in full size (left out, they are estimates of an eighth to a half)")
           ->type_name("FILE|DIR"),
       file(app, "--reproduce", o.reproduce,
            "Take the settings from this picture's metadata; flags on the command line win"),
       file(app, "--dump-tensors", o.dump_tensors,
            "Write prompt embeddings, latents after every step and the raw picture to a safetensors file"),
       app.add_flag("--keep-nan", o.keep_nan, "Save a picture even if it holds NaN (else exit code 4)")});
}

const char* example_of(ImageTask task) {
  switch (task) {
    case ImageTask::txt2img:
      return "sd-txt2img -p \"a red circle on a blue background\" --seed 1 -o circle.png\n"
             "  sd-txt2img -p \"a (blue:1.3) square\" --count 4 --sampler dpmpp_2m --schedule karras -o out_%03d.png\n"
             "  gemma-generate -p \"Write a caption for a picture of a star.\" | sd-txt2img -p - -o star.png\n"
             "  sd-txt2img --jobs jobs.jsonl --resume > records.jsonl\n"
             "  sd-txt2img --reproduce circle.png -o again.png";
    case ImageTask::img2img:
      return "sd-img2img --init sketch.png -p \"a red circle\" --strength 0.6 --seed 1 -o circle.png";
    case ImageTask::inpaint:
      return "sd-inpaint --init photo.png --mask mask.png -p \"a red circle\" --seed 1 -o out.png\n"
             "  sd-inpaint --init photo.png --mask-shape ellipse:64,64,30,20 --only-masked -p \"a hat\" -o out.png";
  }
  return "";
}

}  // namespace

std::vector<std::string> hires_upscalers() {
  return {"lanczos",        "bicubic",
          "bilinear",       "nearest",
          "latent",         "latent-antialiased",
          "latent-bicubic", "latent-bicubic-antialiased",
          "latent-nearest", "latent-nearest-exact"};
}

void define_image_flags(CLI::App& app, ImageOptions& o, ImageTask task) {
  add_common_options(app, o.common, example_of(task));
  add_prompt_flags(app, o);
  add_picture_flags(app, o, task);
  add_upscale_flags(app, o);
  add_control_flags(app, o);
  if (task != ImageTask::txt2img) add_init_flags(app, o, task);
  if (task == ImageTask::inpaint) add_mask_flags(app, o);
  add_output_flags(app, o);
}

JobRules image_job_rules() {
  return {.whole_run = {"batch-size", "vae", "tokenizer", "embedding", "embedding-dir", "reproduce", "dump-tensors",
                        "preview", "preview-every", "preview-vae"},
          .json = {}};
}

base::Json picture_settings(const ImageOptions& o, ImageTask task) {
  base::Json s = base::Json::object();
  s["prompt"] = o.prompt.value_or("");
  if (o.negative) s["negative"] = *o.negative;
  s["width"] = o.width;
  s["height"] = o.height;
  s["steps"] = o.steps;
  s["cfg_scale"] = o.cfg_scale;
  if (!o.sampler.empty()) s["sampler"] = o.sampler;
  if (!o.schedule.empty()) s["schedule"] = o.schedule;
  s["weighting"] = o.weighting;
  if (o.clip_skip) s["clip_skip"] = *o.clip_skip;
  if (!o.vae.empty()) s["vae"] = o.vae;
  if (!o.embeddings.empty()) s["embedding"] = o.embeddings;
  if (!o.embedding_dir.empty()) s["embedding_dir"] = o.embedding_dir;
  if (!o.tokenizer.empty()) s["tokenizer"] = o.tokenizer;
  if (!o.loras.empty()) s["lora"] = o.loras;
  if (!o.lora_dir.empty()) s["lora_dir"] = o.lora_dir;
  s["vae_tiling"] = o.vae_tiling;
  if (o.common.seed) s["seed"] = *o.common.seed;
  if (!o.controls.empty()) {
    s["control"] = o.controls;
    s["control_prepare"] = o.control_prepare;
    s["control_start"] = o.control_start;
    s["control_end"] = o.control_end;
    s["canny_low"] = o.canny_low;
    s["canny_high"] = o.canny_high;
  }
  if (!o.upscale.empty()) {
    s["upscale"] = o.upscale;
    s["upscale_tile"] = o.upscale_tile;
  }
  if (task == ImageTask::txt2img) {
    s["hires"] = o.hires;
    s["hires_strength"] = o.hires_strength;
    s["hires_upscaler"] = o.hires_upscaler;
    return s;
  }
  s["init"] = o.init;
  s["strength"] = o.strength;
  s["resize_mode"] = o.resize_mode;
  if (task == ImageTask::img2img) {
    if (!o.strength_schedule.empty()) s["strength_schedule"] = o.strength_schedule;
    s["colour_match"] = o.colour_match;
    return s;
  }
  if (!o.mask.empty()) s["mask"] = o.mask;
  if (!o.mask_svg.empty()) s["mask_svg"] = o.mask_svg;
  s["mask_shape"] = o.mask_shapes;
  s["invert_mask"] = o.invert_mask;
  s["grow"] = o.grow;
  s["feather"] = o.feather;
  s["masked_content"] = o.masked_content;
  s["only_masked"] = o.only_masked;
  s["padding"] = o.padding;
  s["blend"] = o.blend;
  if (!o.soft_inpaint) return s;
  s["soft_inpaint"] = true;
  s["soft_bias"] = o.soft.schedule_bias;
  s["soft_preservation"] = o.soft.preservation;
  s["soft_contrast"] = o.soft.contrast_boost;
  s["soft_mask_influence"] = o.soft.mask_influence;
  s["soft_threshold"] = o.soft.difference_threshold;
  s["soft_sharpness"] = o.soft.difference_contrast;
  return s;
}

}  // namespace atelier::cli
