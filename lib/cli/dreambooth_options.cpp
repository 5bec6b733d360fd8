#include "cli/dreambooth_options.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/preset_option.h"
#include "cli/validators.h"
#include "text/utf8.h"
#include "train/image/dreambooth.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using train::image::DreamBoothPlan;
using train::image::fill_template;

constexpr const char* kTemplate = "a photo of {token} {class}";

void in_group(const std::string& group, std::initializer_list<CLI::Option*> options) {
  for (CLI::Option* option : options) option->group(group);
}

CLI::Option* whole(CLI::App& app, const std::string& name, std::int64_t& target, const std::string& text, long long low,
                   long long high) {
  return app.add_option(name, target, text)->check(whole_in_range(low, high))->type_name("N")->capture_default_str();
}

void add_subject_flags(CLI::App& app, DreamBoothOptions& o) {
  in_group("Subject",
           {app.add_option("--instance-images", o.instance_images, "Folder of 3 to 5 pictures of the subject")
                ->type_name("DIR"),
            app.add_option("--token", o.token, "The word that names it; a rare one")
                ->type_name("WORD")
                ->capture_default_str(),
            app.add_option("--class", o.class_name, "What it is one of: dog, backpack")->type_name("WORD"),
            add_list(app, "--template", o.templates,
                     "What its pictures are called; of several one is drawn each time (left out, \"a photo of {token} "
                     "{class}\")"),
            app.add_flag("--check-token", o.check_token,
                         "Say what the text encoder makes of --token, what is spelled alike, and what might do better; "
                         "and exit")});
}

void add_class_flags(CLI::App& app, DreamBoothOptions& o) {
  in_group(
      "Prior preservation",
      {app.add_option("--class-images", o.class_images,
                      "Folder of pictures of the class; what it lacks is drawn by the model first (left out, class in "
                      "the run's folder)")
           ->type_name("DIR"),
       whole(app, "--num-class-images", o.num_class_images, "How many there are to be; 0: no prior preservation", 0,
             100000),
       app.add_option("--class-prompt", o.class_prompt,
                      "What they are called (left out, the template without the token)")
           ->type_name("TEXT"),
       whole(app, "--class-steps", o.class_steps, "Denoising steps of each", 1, 10000),
       whole(app, "--drift-report", o.drift_report,
             "Draw so many pictures of the class before and after the training, into drift.png in the run's folder", 0,
             64)});
}

std::string joined(const DreamBoothOptions& o, const std::string& token) {
  std::string lines;
  for (const std::string& text : o.templates.empty() ? std::vector<std::string>{kTemplate} : o.templates)
    lines += (lines.empty() ? "" : "\n") + fill_template(text, token, o.class_name);
  return lines;
}

}  // namespace

DreamBoothOptions::DreamBoothOptions() {
  train.method = "full";
  data.prior_weight = 1;
}

std::string DreamBoothOptions::instance_prompts() const { return joined(*this, token); }

std::string DreamBoothOptions::class_prompts() const { return class_prompt.empty() ? joined(*this, "") : class_prompt; }

std::string DreamBoothOptions::class_folder() const {
  return class_images.empty() ? run_folder(train) + "/class" : class_images;
}

void define_dreambooth_flags(CLI::App& app, DreamBoothOptions& o) {
  add_trainer_options(app, o.train.common,
                      "sd-dreambooth --model sd15 --instance-images photos --class dog --output my-dog\n"
                      "  sd-dreambooth --model sd15 --instance-images photos --class dog --method lora \\\n"
                      "    --output my-dog.safetensors --num-class-images 50 --drift-report 4\n"
                      "  sd-dreambooth --token sks --check-token");
  add_preset_option(app)->group("Input and output");
  add_subject_flags(app, o);
  add_class_flags(app, o);
  app.add_option(
         "--method", o.train.method,
         "full: all weights are trained, and a diffusers folder is written; lora: an adapter, a .safetensors file")
      ->check(one_of({"full", "lora"}))
      ->capture_default_str()
      ->group("Method");
  add_bucket_flags(app, o.data);
  add_picture_flags(app, o.data);
  add_lora_flags(app, o.train);
  add_image_train_flags(app, o.train);
  app.add_option("-o,--output", o.train.output, "The folder (full) or file (lora) that is written")
      ->type_name("PATH")
      ->group("Output");
}

void check_dreambooth_flags(const DreamBoothOptions& o) {
  const auto require = [](bool good, const std::string& message, const std::string& hint = {}) {
    if (!good) throw Error(ExitCode::usage, message, hint);
  };
  require(!o.token.empty(), "--token is empty");
  for (const auto& [flag, text] :
       {std::pair{"--token", o.token}, {"--class", o.class_name}, {"--class-prompt", o.class_prompt}})
    require(text::is_utf8(text) && text.find('\n') == std::string::npos,
            fmt::format("{} is not one line of UTF-8", flag));
  if (o.check_token) return;
  require(!o.instance_images.empty(), "--instance-images is missing", "it names the folder of the subject's pictures");
  require(!o.class_name.empty() || (!o.templates.empty() && (!o.class_prompt.empty() || !o.prior())),
          "--class is missing", "it says what the subject is one of, as in --class dog");
  o.instance_prompts();
  o.class_prompts();
  check_data_flags(o.data);
  if (o.data.check) return;
  require(!o.train.output.empty() || o.train.common.plan, "--output is missing", "it names what is written");
  require(o.prior() || !o.train.given("class-images"), "--class-images goes with prior preservation",
          "--prior-weight and --num-class-images must be above 0");
  check_image_train_flags(o.train);
}

void choose_steps_and_rates(DreamBoothOptions& o, std::int64_t pictures) {
  ImageTrainOptions& t = o.train;
  const DreamBoothPlan plan = train::image::dreambooth_plan({.pictures = pictures,
                                                             .batch_size = t.train.batch_size * t.train.accumulation,
                                                             .full = o.full(),
                                                             .text_encoder = t.train_text_encoder,
                                                             .prior = o.prior()});
  if (!t.train.steps && !t.given("epochs")) t.train.steps = plan.steps;
  if (!t.given("unet-lr")) t.unet_lr = plan.unet_lr;
  if (!t.given("te-lr")) t.te_lr = plan.text_encoder_lr;
  const std::string length =
      t.train.steps ? fmt::format("{} steps", *t.train.steps) : fmt::format("{} epochs", t.train.epochs);
  base::log_info(fmt::format("{} pictures: {} at a rate of {:g}{}", pictures, length, t.unet_lr,
                             t.train_text_encoder ? fmt::format(", {:g} of the text encoder", t.te_lr) : ""));
  if (pictures == 1) base::log_warning("one picture: what is learnt of it will hardly be drawn from another side");
}

}  // namespace atelier::cli
