#include "cli/image_run.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "base/log.h"
#include "base/progress.h"
#include "base/seed.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "base/stopwatch.h"
#include "cli/default_model.h"
#include "cli/image_job.h"
#include "cli/image_loras.h"
#include "cli/image_memory.h"
#include "cli/image_metadata.h"
#include "cli/image_networks.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/records.h"
#include "image/read.h"
#include "image/write.h"
#include "io/file_system.h"
#include "pipelines/image_adapters.h"
#include "pipelines/image_plan.h"
#include "pipelines/preview.h"
#include "pipelines/textual_inversion.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

constexpr std::size_t kMaxPromptBytes = 1u << 20;

/// The prompt from a pipe, without its last newline; looks at the stop flag while it waits.
std::string read_prompt() {
  if (isatty(STDIN_FILENO)) base::log_info("reading the prompt from the terminal; Ctrl-D ends it");
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    base::throw_if_stopped();
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error(ExitCode::no_input, "stdin cannot be read");
    if (n == 0) break;
    text.append(buffer, static_cast<std::size_t>(n));
    if (text.size() > kMaxPromptBytes) throw Error(ExitCode::data, "stdin is longer than 1 MiB");
  }
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  if (text.empty()) base::log_warning("stdin held no prompt, so the picture is of nothing in particular");
  return text;
}

/// Tensors of --dump-tensors, kept until the run is over.
class TensorDump {
 public:
  void add(const std::string& name, const at::Tensor& tensor) {
    if (!tensors_.contains(name)) tensors_[name] = tensor.detach().to(at::kCPU, at::kFloat).contiguous().clone();
  }

  void write(const std::string& path) const {
    std::vector<io::TensorBytes> list;
    for (const auto& [name, tensor] : tensors_) {
      io::TensorBytes entry;
      entry.info.name = name;
      entry.info.dtype = io::DType::F32;
      entry.info.shape = tensor.sizes().vec();
      entry.data = {static_cast<const std::byte*>(tensor.data_ptr()), static_cast<std::size_t>(tensor.nbytes())};
      list.push_back(entry);
    }
    io::write_safetensors(path, list, {});
  }

 private:
  std::map<std::string, at::Tensor> tensors_;
};

/// One run of the tool.
class Run {
 public:
  Run(const ImageOptions& options, ImageTask task)
      : options_(options), task_(task), next_seed_(options.common.seed ? *options.common.seed : base::draw_seed()) {}

  int go() {
    check_flags();
    const std::string path = model_or_default(options_.common.model, "tiny-sd");
    pipelines::set_threads(options_.common.threads);
    files_ = pipelines::ImageModelFiles::open(path, {options_.common.device, options_.common.dtype}, options_.vae,
                                              options_.tokenizer);
    note_model(path);
    if (options_.common.plan || options_.common.max_ram_bytes()) {
      const Plan plan = make_plan();
      if (options_.common.plan) {
        output_.record(plan_json(plan));
        return plan_exit_code(plan);
      }
      require_fit(plan);
    }
    read_embeddings();
    if (!options_.common.jobs.empty()) {
      load();
      return run_jobs();
    }
    // Flags, prompt and pictures that cannot be used are found out before a large model is loaded.
    ImageOptions o = options_;
    if (!o.prompt || *o.prompt == "-") o.prompt = read_prompt();
    o.common.seed = next_seed_;
    ImageJob job(files_, o, task_);
    load();
    return run_single(job);
  }

 private:
  /// How a job's pictures are named: by `pattern`, numbered from `first`.
  struct Naming {
    std::string pattern;
    std::int64_t first = 0;
    bool several = false;
    std::string path(std::int64_t i) const { return picture_path(pattern, first + i, several); }
  };

  void check_flags() const {
    const bool jobs = !options_.common.jobs.empty();
    const auto needs = [](const char* flag, const char* other) {
      throw Error(ExitCode::usage, fmt::format("{} needs {}", flag, other));
    };
    if (options_.common.resume && !jobs) needs("--resume", "--jobs");
    if (jobs && !options_.dump_tensors.empty())
      throw Error(ExitCode::usage, "--dump-tensors goes with a single prompt, not with --jobs");
    if (options_.output == "-" && (jobs || options_.common.json || options_.count > 1))
      throw Error(ExitCode::usage, "--output -: one picture without records can go to stdout");
    check_output(options_.output);
    if (!options_.preview.empty()) {
      image::check_output_path(options_.preview);
      preview_path(0);  // for its errors
    }
    if (!options_.preview_vae.empty() && options_.preview.empty()) needs("--preview-vae", "--preview");
  }

  /// The file of a preview; %d in its name is the step.
  std::string preview_path(std::size_t step) const {
    return picture_path(options_.preview, static_cast<std::int64_t>(step), false, "--preview");
  }

  static void check_output(const std::string& pattern) { image::check_output_path(picture_path(pattern, 0, false)); }

  void note_model(const std::string& path) {
    Manifest& m = *options_.common.record;
    m.model_path = path;
    for (const auto& file : files_.weight_files()) m.model_files.push_back(file.path);
    m.model_files.insert(m.model_files.end(), files_.config_files.begin(), files_.config_files.end());
    m.device = files_.device.str();
  }

  Plan make_plan() const {
    std::int64_t width = files_.native_size(), height = width;
    if (!options_.init.empty() && !options_.only_masked) {
      const auto given = image::read_info(options_.init);
      width = given.width, height = given.height;
    }
    if (options_.width > 0) width = options_.width;
    if (options_.height > 0) height = options_.height;
    const auto scaled = [&](std::int64_t side) {
      return static_cast<std::int64_t>(static_cast<double>(side) * options_.hires);
    };
    const bool jobs = !options_.common.jobs.empty();
    const std::int64_t batch = jobs ? options_.batch_size : std::min(options_.batch_size, options_.count);
    pipelines::ImagePlanRequest request;
    request.width = scaled(width), request.height = scaled(height), request.batch = batch;
    request.tiled_vae = options_.vae_tiling;
    for (const ControlRequest& control : control_requests(options_))
      request.controls.push_back(pipelines::ControlNetFiles::open(control.network, files_));
    std::optional<pipelines::UpscalerFiles> upscaler;
    if (!options_.upscale.empty())
      request.upscaler = &upscaler.emplace(pipelines::UpscalerFiles::open(options_.upscale));
    request.upscale_tile = options_.upscale_tile;
    request.finished_width = request.width, request.finished_height = request.height;
    if (options_.only_masked && !options_.init.empty()) {
      const auto given = image::read_info(options_.init);
      request.finished_width = given.width, request.finished_height = given.height;
    }
    Plan plan = image_plan(files_, request);
    plan.max_ram = options_.common.max_ram_bytes();
    return plan;
  }

  void read_embeddings() {
    std::vector<std::string> paths = options_.embeddings;
    std::vector<std::string> of_folder;
    if (!options_.embedding_dir.empty()) of_folder = pipelines::embedding_files(options_.embedding_dir);
    for (const std::string& path : paths) embeddings_.push_back(pipelines::read_textual_inversion(path, files_));
    for (const std::string& path : of_folder) {
      try {
        embeddings_.push_back(pipelines::read_textual_inversion(path, files_));
      } catch (const Error& error) {
        base::log_warning(fmt::format("{} is left out: {}", path, error.what()));  // a folder may serve several models
      }
    }
    for (const auto& embedding : embeddings_) note_adapter({{"path", embedding->path}, {"kind", "embedding"}});
  }

  /// For --manifest: every file that took part, once.
  void note_adapter(const Json& adapter) const {
    Json& all = options_.common.record->adapters;
    if (std::find(all.begin(), all.end(), adapter) == all.end()) all.push_back(adapter);
  }

  /// Puts the job's LoRA files into the weights, and says what became of them. A batch says it once for each set.
  void use_loras(const ImageJob& job) {
    if (job.loras().empty() && !loras_) return;
    if (!loras_) loras_ = std::make_unique<pipelines::ImageLoras>(*model_);
    const Json before = lora_records_;
    const auto& reports = loras_->use(job.loras());
    lora_records_ = describe_loras(reports);
    if (lora_records_ != before || job.options().strict) check_matches(reports, job.options().strict);
    for (const Json& report : lora_records_) note_adapter(report);
  }

  /// What a record and a picture's metadata say of adapters.
  Json adapters() const {
    Json all = Json::array();
    for (const auto& embedding : embeddings_) all.push_back({{"path", embedding->path}, {"kind", "embedding"}});
    for (const Json& report : lora_records_) all.push_back(report);
    for (const Json& record : network_records_) all.push_back(record);
    return all;
  }

  void load() {
    model_ = pipelines::ImageModel::load(files_, pipelines::ImageModel::Weights::packed);
    options_.common.record->timings["load_s"] = model_->load_seconds;
    if (!options_.preview_vae.empty())  // its errors come before the first step
      preview_ = std::make_unique<pipelines::LatentPreview>(*model_, options_.preview_vae);
  }

  int run_single(ImageJob& job) {
    const auto count = options_.count;
    const Naming naming{options_.output, 0, count > 1};
    TensorDump tensors;
    dump_ = options_.dump_tensors.empty() ? nullptr : &tensors;
    std::int64_t damaged = 0;
    make_pictures(job, nullptr, naming, [&](const Json& record, bool saved) {
      damaged += saved ? 0 : 1;
      if (!saved) return;
      if (options_.common.json)
        output_.record(record);
      else if (options_.output != "-")
        output_.text(record["path"].get<std::string>() + "\n");
    });
    if (dump_ != nullptr) {
      tensors.write(options_.dump_tensors);
      options_.common.record->outputs.push_back(options_.dump_tensors);
    }
    if (damaged > 0) throw nan_error(damaged, count);
    return 0;
  }

  static Error nan_error(std::int64_t damaged, std::int64_t count) {
    return {ExitCode::condition,
            count == 1 ? "the picture holds NaN; nothing was saved"
                       : fmt::format("{} of {} pictures hold NaN and were not saved", damaged, count),
            "the weights may be damaged, or too large for the number format: try --dtype fp32; --keep-nan saves them"};
  }

  /// All pictures of a job, batch by batch; `done` gets each record, and whether its picture was saved.
  void make_pictures(ImageJob& job, const Json& id, const Naming& naming,
                     const std::function<void(const Json&, bool)>& done) {
    const ImageOptions& o = job.options();
    use_loras(job);
    networks_.attach(job);
    network_records_ = job.describe_networks();
    for (const Json& record : network_records_) note_adapter(record);
    base::Progress progress(progress_label_, job.evaluations(options_.batch_size), "steps");
    std::uint64_t steps = 0;
    for (std::int64_t first = 0; first < o.count; first += options_.batch_size) {
      const std::int64_t size = std::min(options_.batch_size, o.count - first);
      const auto on_step = [&](const pipelines::StepReport& report) {
        progress.update(++steps, o.count > 1 ? fmt::format("picture {} of {}", first + 1, o.count) : "");
        maybe_preview(report);
      };
      std::function<void(const std::string&, const at::Tensor&)> dump;
      if (dump_ != nullptr && first == 0)
        dump = [this](const std::string& name, const at::Tensor& tensor) { dump_->add(name, tensor); };
      preview_seconds_ = 0;
      const auto pictures = job.make(*model_, embeddings_, first, size, on_step, dump);
      for (std::size_t k = 0; k < pictures.size(); ++k) {
        const auto index = first + static_cast<std::int64_t>(k);
        save(job, id, naming, index, pictures[k], done);
      }
    }
  }

  void save(const ImageJob& job, const Json& id, const Naming& naming, std::int64_t index, const MadePicture& made,
            const std::function<void(const Json&, bool)>& done) {
    options_.common.record->seeds.push_back(made.seed);
    if (!made.finite && !job.options().keep_nan) {
      done({}, false);
      return;
    }
    if (!made.finite) base::log_warning(fmt::format("picture {} holds NaN", index));
    ImageOptions own = job.options();
    own.common.seed = made.seed;
    const base::Stopwatch watch;
    const std::string path = naming.path(index);
    const std::string bytes =
        image::write_image(path, made.picture, picture_metadata(own, task_, files_, job.sampler(), adapters()));
    const double seconds = watch.seconds();
    if (path != "/dev/stdout") options_.common.record->outputs.push_back(path);
    done(record_of(id, index, path, bytes, made, seconds), true);
  }

  Json record_of(const Json& id, std::int64_t index, const std::string& path, const std::string& bytes,
                 const MadePicture& made, double save_seconds) const {
    Json record = Json::object();
    if (!id.is_null()) record["id"] = id;
    record["index"] = index;
    record["path"] = path;
    record["sha256"] = base::sha256_hex(bytes);
    record["seed"] = made.seed;
    record["width"] = made.picture.width;
    record["height"] = made.picture.height;
    if (const Json used = adapters(); !used.empty()) record["adapters"] = used;
    record["timings"] = {
        {"load_s", model_->load_seconds},
        {"text_s", made.text_seconds},
        {"encode_s", made.encode_seconds},
        {"denoise_s", made.denoise_seconds},
        {"step_s", made.denoise_seconds / static_cast<double>(std::max<std::int64_t>(1, made.evaluations))},
        {"decode_s", made.decode_seconds},
        {"save_s", save_seconds}};
    if (made.upscale_seconds > 0) record["timings"]["upscale_s"] = made.upscale_seconds;
    if (!options_.preview.empty()) record["timings"]["preview_s"] = preview_seconds_;  // a part of denoise_s
    return record;
  }

  void maybe_preview(const pipelines::StepReport& report) {
    const auto every = static_cast<std::size_t>(options_.preview_every);
    if (options_.preview.empty() || report.step % every != 0 || !report.denoised.defined()) return;
    const base::Stopwatch watch;
    if (!preview_) preview_ = std::make_unique<pipelines::LatentPreview>(*model_, options_.preview_vae);
    image::write_image(preview_path(report.step), preview_->draw(report.denoised[0]), {}, {.png_compression = 1});
    preview_seconds_ += watch.seconds();
  }

  int run_jobs() {
    JobReader reader(options_.common.jobs);
    RecordWriter records(output_, "", options_.common.resume, /*leaves_files=*/true);
    try {
      while (const auto job = reader.next()) take_job(*job, records);
    } catch (const base::Stopped&) {
      records.stop();
    }
    return records.finish();
  }

  void take_job(const Job& job, RecordWriter& records) {
    const std::uint64_t place = records.reserve();
    const std::int64_t number = next_number_;
    try {
      if (job.error) throw Error(*job.error);
      const auto define = [this](CLI::App& app, ImageOptions& o) { define_image_flags(app, o, task_); };
      ImageOptions o = job_options(options_, define, job.fields, image_job_rules());
      const bool own_seed = job.fields.contains("seed") && !job.fields["seed"].is_null();
      const bool own_output = job.fields.contains("output") && !job.fields["output"].is_null();
      // Every job moves the counters, so that seeds and names do not depend on what was done earlier.
      if (!own_seed) o.common.seed = next_seed_;
      next_seed_ += static_cast<std::uint64_t>(o.count);
      next_number_ += o.count;
      check_output(o.output);
      if (picture_path(o.output, 0, false) == "/dev/stdout")
        throw Error(ExitCode::usage, "\"output\": a job's picture cannot go to stdout");
      const Naming naming{o.output, own_output ? 0 : number, own_output ? o.count > 1 : true};
      if (options_.common.resume && skip_done(job, o.count, naming, place, records)) return;
      if (!o.prompt) throw Error(ExitCode::usage, "no prompt: the job has no \"prompt\"");
      run_job(job, std::move(o), naming, place, records);
    } catch (const base::Stopped&) {
      throw;
    } catch (const Error& error) {
      records.fail(place, job.id, describe_failure(error));
    }
  }

  /// Whether an earlier run left the job's records or all of its pictures.
  static bool skip_done(const Job& job, std::int64_t count, const Naming& naming, std::uint64_t place,
                        RecordWriter& records) {
    if (records.done(job.id, static_cast<std::size_t>(count))) {
      records.skip(place, job.id);
      return true;
    }
    for (std::int64_t i = 0; i < count; ++i) {
      std::error_code failed;
      if (!std::filesystem::is_regular_file(naming.path(i), failed)) return false;
    }
    records.put(place, {});
    return true;
  }

  void run_job(const Job& job, ImageOptions o, const Naming& naming, std::uint64_t place, RecordWriter& records) {
    const std::int64_t count = o.count;
    progress_label_ = "job " + (job.id.is_string() ? base::printable(job.id.get<std::string>()) : job.id.dump());
    ImageJob image_job(files_, std::move(o), task_);
    std::vector<Json> made;
    make_pictures(image_job, job.id, naming, [&](const Json& record, bool saved) {
      if (saved) made.push_back(record);
    });
    const auto damaged = count - static_cast<std::int64_t>(made.size());
    if (damaged > 0) throw nan_error(damaged, count);
    records.put(place, made);
  }

  const ImageOptions& options_;
  ImageTask task_;
  std::uint64_t next_seed_;
  std::int64_t next_number_ = 0;  ///< of the next picture that the command line's --output names
  Output output_;
  pipelines::ImageModelFiles files_;
  std::shared_ptr<const pipelines::ImageModel> model_;
  ImageJob::Embeddings embeddings_;
  std::unique_ptr<pipelines::ImageLoras> loras_;
  ImageNetworks networks_{files_};
  Json lora_records_ = Json::array(), network_records_ = Json::array();  ///< of the job being made
  std::unique_ptr<pipelines::LatentPreview> preview_;
  double preview_seconds_ = 0;  ///< of the batch being made
  TensorDump* dump_ = nullptr;
  std::string progress_label_ = "denoising";
};

}  // namespace

int run_images(const ImageOptions& options, ImageTask task, const std::set<std::string>& given) {
  if (options.reproduce.empty()) return Run(options, task).go();
  if (!options.common.jobs.empty())
    throw Error(ExitCode::usage, "--reproduce makes one picture again: --jobs does not go with it");
  Json settings = settings_of_picture(options.reproduce, task);
  for (const std::string& key : given) settings.erase(key);
  const auto define = [task](CLI::App& app, ImageOptions& o) { define_image_flags(app, o, task); };
  return Run(job_options(options, define, settings, {}), task).go();
}

int image_main(int argc, char** argv, const std::string& name, const std::string& description, ImageTask task) {
  return run_main(argc, argv, name, description, [task](CLI::App& app) {
    const auto options = std::make_shared<ImageOptions>();
    // Inpainting repaints what is masked altogether unless told otherwise, as diffusers does.
    if (task == ImageTask::inpaint) options->strength = 1;
    define_image_flags(app, *options, task);
    return [options, task, &app] {
      std::set<std::string> given;
      for (const CLI::Option* option : app.get_options()) {
        if (option->count() == 0) continue;
        std::string key = option->get_single_name();
        std::replace(key.begin(), key.end(), '-', '_');
        given.insert(key);
      }
      return run_images(*options, task, given);
    };
  });
}

}  // namespace atelier::cli
