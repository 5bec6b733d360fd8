// Names of samplers and schedules, and what configurations and requests are refused.
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "base/json.h"
#include "schedulers/samplers.h"
#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/scratch.h"

namespace {

using namespace atelier;
using base::ExitCode;
using base::Json;
using schedulers::parse_sampler;
using schedulers::Sampler;
using schedulers::SamplerChoice;
using schedulers::Schedule;
using test::contains;

const Json pndm = {{"_class_name", "PNDMScheduler"},   {"_diffusers_version", "0.6.0"}, {"beta_end", 0.012},
                   {"beta_schedule", "scaled_linear"}, {"beta_start", 0.00085},         {"num_train_timesteps", 1000},
                   {"set_alpha_to_one", false},        {"skip_prk_steps", true},        {"steps_offset", 1},
                   {"trained_betas", nullptr},         {"clip_sample", false}};
const Json flow = {{"_class_name", "FlowMatchEulerDiscreteScheduler"}, {"num_train_timesteps", 1000}, {"shift", 3.0}};

Json with(Json config, const char* key, Json value) {
  config[key] = std::move(value);
  return config;
}

std::unique_ptr<schedulers::Scheduler> make(const Json& config, std::string_view sampler = {},
                                            std::string_view schedule = {}) {
  return schedulers::make_scheduler(config, "config", parse_sampler(sampler, schedule));
}

void check_parsed(std::string_view name, Sampler sampler, Schedule schedule = Schedule::of_config) {
  CAPTURE(name);
  const SamplerChoice choice = parse_sampler(name);
  CHECK(schedulers::name_of(choice.sampler) == schedulers::name_of(sampler));
  CHECK(schedulers::name_of(choice.schedule) == schedulers::name_of(schedule));
}

std::string error_of(ExitCode code, const Json& config, std::string_view sampler = {}, std::string_view schedule = {}) {
  return test::error_of(code, [&] { make(config, sampler, schedule); });
}

std::string hint_of(std::string_view sampler, std::string_view schedule = {}) {
  try {
    parse_sampler(sampler, schedule);
  } catch (const base::Error& error) {
    CHECK(static_cast<int>(error.code()) == static_cast<int>(ExitCode::usage));
    return error.hint();
  }
  return "(no error)";
}

}  // namespace

TEST_CASE("every name of the contract is known and builds from Stable Diffusion's configuration") {
  CHECK(schedulers::sampler_names().size() == 18);
  for (const std::string& name : schedulers::sampler_names()) {
    CAPTURE(name);
    CHECK(schedulers::name_of(parse_sampler(name).sampler) == name);
    CHECK(schedulers::name_of(parse_sampler(schedulers::a1111_name(parse_sampler(name).sampler)).sampler) == name);
    const auto scheduler = make(pndm, name);
    scheduler->set_timesteps(6);
    CHECK(scheduler->timesteps().size() >= 6);
  }
  CHECK(schedulers::schedule_names().size() == 8);
  for (const std::string& name : schedulers::schedule_names()) {
    CAPTURE(name);
    CHECK(schedulers::name_of(parse_sampler({}, name).schedule) == name);
    CHECK(schedulers::name_of(parse_sampler({}, schedulers::a1111_name(parse_sampler({}, name).schedule)).schedule) ==
          name);
  }
}

TEST_CASE("diffusers, ComfyUI and A1111 spell them in their own ways") {
  check_parsed("", Sampler::of_config);
  check_parsed("default", Sampler::of_config);
  check_parsed("EulerAncestralDiscreteScheduler", Sampler::euler_a);
  check_parsed("euler_ancestral", Sampler::euler_a);
  check_parsed("Euler a", Sampler::euler_a);
  check_parsed("DPMSolverMultistepScheduler", Sampler::dpmpp_2m);
  check_parsed("DPMSolverSDEScheduler", Sampler::dpmpp_sde);
  check_parsed("KDPM2AncestralDiscreteScheduler", Sampler::dpm2_a);
  check_parsed("dpm_2", Sampler::dpm2);
  check_parsed("dpm_2_ancestral", Sampler::dpm2_a);
  check_parsed("dpmpp_2s_ancestral", Sampler::dpmpp_2s_a);
  check_parsed("dpmpp_2m_sde_gpu", Sampler::dpmpp_2m_sde);
  check_parsed("uni_pc", Sampler::unipc);
  check_parsed("DPM++ 2M", Sampler::dpmpp_2m);
  check_parsed("DPM++ 2M Karras", Sampler::dpmpp_2m, Schedule::karras);
  check_parsed("dpm++ 2m sde exponential", Sampler::dpmpp_2m_sde, Schedule::exponential);
  check_parsed("DPM++ SDE Karras", Sampler::dpmpp_sde, Schedule::karras);
  check_parsed("DPM++ 2S a Karras", Sampler::dpmpp_2s_a, Schedule::karras);
  check_parsed("DPM++ 3M SDE", Sampler::dpmpp_3m_sde);
  check_parsed("LMS Karras", Sampler::lms, Schedule::karras);
  check_parsed("Euler SGM Uniform", Sampler::euler, Schedule::sgm_uniform);
  check_parsed("DDIM", Sampler::ddim);
  check_parsed("PLMS", Sampler::pndm);
  CHECK(parse_sampler("DPM++ 2M SDE Heun Karras").heun_solver);
  CHECK(parse_sampler("DPM++ 2M Karras", "beta").schedule == Schedule::beta);
}

TEST_CASE("an unknown name is answered with the nearest") {
  CHECK(test::error_of(ExitCode::usage, [] { parse_sampler("eulr"); }) == "unknown sampler \"eulr\"");
  CHECK(hint_of("eulr") == "did you mean \"euler\"?");
  CHECK(hint_of("dpmpp_2n") == "did you mean \"dpmpp_2m\"?");
  CHECK(hint_of("DPM++ 2M Karas") == "did you mean \"DPM++ 2M Karras\"?");
  CHECK(hint_of("UniPCMultistepSchedulr") == "did you mean \"unipc\"?");
  CHECK(contains(hint_of("something else entirely"), "known are ddpm, ddim, pndm"));
  CHECK(hint_of("euler", "karas") == "did you mean \"karras\"?");
  CHECK(contains(hint_of("euler", "???"), "known are default, karras"));
}

TEST_CASE("a key that no scheduler knows is refused, since it might change the pictures") {
  CHECK(error_of(ExitCode::data, with(pndm, "beta_scedule", "linear")) == "config: unknown key \"beta_scedule\"");
  CHECK(error_of(ExitCode::data, with(pndm, "sigma_data", 0.5)) == "config: unknown key \"sigma_data\"");
  CHECK(error_of(ExitCode::data, with(pndm, "predict_epsilon", false)) == "config: unknown key \"predict_epsilon\"");
  CHECK(error_of(ExitCode::data, with(pndm, "predict_epsilon", true)) == "(no error)");
  CHECK(error_of(ExitCode::data, with(pndm, "_anything", 1)) == "(no error)");
  CHECK(error_of(ExitCode::data, with(pndm, "tensor_format", "pt")) == "(no error)");
  // Another class's key has no effect on this one, as in diffusers.
  CHECK(error_of(ExitCode::data, with(pndm, "use_karras_sigmas", true)) == "(no error)");
}

TEST_CASE("values are checked, and the message names the key") {
  CHECK(contains(error_of(ExitCode::data, with(pndm, "beta_schedule", "cubic")), "\"beta_schedule\" is \"cubic\""));
  CHECK(contains(error_of(ExitCode::data, with(pndm, "timestep_spacing", "even")),
                 "known are linspace, leading, trailing"));
  CHECK(contains(error_of(ExitCode::data, with(pndm, "num_train_timesteps", 1)), "\"num_train_timesteps\" is 1"));
  CHECK(contains(error_of(ExitCode::data, with(pndm, "steps_offset", 1000)), "\"steps_offset\""));
  CHECK(contains(error_of(ExitCode::data, with(pndm, "beta_end", "x")), "\"beta_end\""));
  CHECK(contains(error_of(ExitCode::data, with(pndm, "trained_betas", {0.1, 0.2})), "list of 1000 numbers"));
  CHECK(contains(error_of(ExitCode::data, with(pndm, "prediction_type", "sample")), "PNDMScheduler cannot use"));
  CHECK(
      contains(error_of(ExitCode::data, with(pndm, "prediction_type", "flow_prediction")), "PNDMScheduler cannot use"));
  CHECK(contains(error_of(ExitCode::data, with(pndm, "_class_name", "PNDMSheduler")),
                 "\"PNDMSheduler\" is not supported"));
  Json nameless = pndm;
  nameless.erase("_class_name");
  CHECK(contains(error_of(ExitCode::data, nameless), "\"_class_name\" is missing"));
  CHECK(error_of(ExitCode::data, nameless, "euler") == "(no error)");
  CHECK(contains(error_of(ExitCode::data, Json::array()), "expected a JSON object"));
  const Json twice = with(with(pndm, "use_karras_sigmas", true), "use_beta_sigmas", true);
  CHECK(contains(error_of(ExitCode::data, twice, "euler"), "only one of"));
  CHECK(contains(error_of(ExitCode::data, with(pndm, "algorithm_type", "dpmsolver"), "dpmpp_2m"), "final_sigmas_type"));
  CHECK(contains(error_of(ExitCode::data, with(pndm, "solver_p", Json::object()), "unipc"), "solver_p"));
}

TEST_CASE("requests that a sampler cannot meet end with exit 64") {
  CHECK(contains(error_of(ExitCode::usage, pndm, "ddim", "karras"), "DDIMScheduler has no schedule karras"));
  CHECK(contains(error_of(ExitCode::usage, pndm, "lcm", "simple"), "LCMScheduler has no schedule simple"));
  CHECK(contains(error_of(ExitCode::usage, flow, "ddim"), "the sampler ddim is not for flow models"));
  CHECK(contains(error_of(ExitCode::usage, flow, "dpmpp_2m", "karras"), "no schedule karras"));
  const auto too_many = [&](const char* sampler, std::int64_t steps) {
    return test::error_of(ExitCode::usage, [&] { make(pndm, sampler)->set_timesteps(steps); });
  };
  CHECK(contains(too_many("ddim", 1001), "at most 1000"));
  CHECK(contains(too_many("lcm", 51), "at most original_inference_steps 50"));
  CHECK(contains(too_many("euler", 0), "0 steps"));
  CHECK(contains(too_many("ddim", -3), "-3 steps"));
  const Json runge_kutta = with(pndm, "skip_prk_steps", false);
  CHECK(contains(test::error_of(ExitCode::usage, [&] { make(runge_kutta)->set_timesteps(3); }), "at least 4"));
  const Json leading = with(pndm, "timestep_spacing", "leading");
  CHECK(contains(test::error_of(ExitCode::usage, [&] { make(leading, "euler")->set_timesteps(2000); }), "too many"));
}

TEST_CASE("what was chosen can be told") {
  const auto told = [](const Json& config, std::string_view sampler = {}, std::string_view schedule = {}) {
    const SamplerChoice choice = schedulers::resolve(config, "config", parse_sampler(sampler, schedule));
    return schedulers::name_of(choice.sampler) + " " + schedulers::name_of(choice.schedule);
  };
  CHECK(told(pndm) == "pndm default");
  CHECK(told(pndm, "DPM++ 2M Karras") == "dpmpp_2m karras");
  CHECK(told(with(pndm, "use_karras_sigmas", true), "heun") == "heun karras");
  Json sde = with(with(pndm, "_class_name", "DPMSolverMultistepScheduler"), "algorithm_type", "sde-dpmsolver++");
  CHECK(told(sde) == "dpmpp_2m_sde default");
  CHECK(told(with(sde, "solver_order", 3)) == "dpmpp_3m_sde default");
  CHECK(told(sde, "dpmpp_2m") == "dpmpp_2m default");
  CHECK_FALSE(make(sde, "dpmpp_2m")->stochastic());
  CHECK(told(flow) == "euler default");
  CHECK(schedulers::prediction_type(pndm, "config") == "epsilon");
  CHECK(schedulers::prediction_type(with(pndm, "prediction_type", "v_prediction"), "config") == "v_prediction");
  CHECK(schedulers::prediction_type(flow, "config") == "flow_prediction");
}

TEST_CASE("the ancestral Euler takes A1111's schedules, which diffusers' class ignores") {
  const auto plain = make(with(pndm, "use_karras_sigmas", true), "euler_a"), karras = make(pndm, "euler_a", "karras"),
             euler = make(pndm, "euler", "karras");
  for (const auto* scheduler : {&plain, &karras, &euler}) (*scheduler)->set_timesteps(10);
  CHECK(plain->timesteps() != karras->timesteps());
  CHECK(euler->timesteps() == karras->timesteps());
}

TEST_CASE("diffusers' -Infinity is read, other errors are not hidden") {
  const test::Scratch scratch;
  const std::string path = scratch.file("scheduler_config.json");
  const auto write = [&](const std::string& text) { test::put_file(path, text); };
  write(
      R"({"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "_note": "a \" -Infinity"})");
  const Json config = schedulers::read_scheduler_config(path);
  CHECK(config["_note"] == "a \" -Infinity");
  CHECK(config["lambda_min_clipped"].get<double>() < -1e300);
  const auto scheduler = make(config);
  scheduler->set_timesteps(4);
  CHECK(scheduler->timesteps() == std::vector<double>{999, 749, 500, 250});
  write(R"({"lambda_min_clipped": Infinity})");
  CHECK(contains(test::error_of(ExitCode::data, [&] { schedulers::read_scheduler_config(path); }), "malformed JSON"));
  CHECK(contains(test::error_of(ExitCode::no_input, [&] { schedulers::read_scheduler_config(path + "x"); }),
                 "No such file"));
}

TEST_CASE("img2img starts where diffusers starts") {
  const auto start = [](const char* sampler, std::int64_t steps, double strength) {
    const auto scheduler = make(pndm, sampler);
    scheduler->set_timesteps(steps);
    return scheduler->start_index(strength);
  };
  CHECK(start("ddim", 20, 1) == 0);
  CHECK(start("ddim", 20, 0.75) == 5);
  CHECK(start("ddim", 20, 0.3) == 14);
  CHECK(start("heun", 20, 0.75) == 10);
  CHECK(start("ddim", 20, 0.01) == 20);  // nothing left to do
}

TEST_CASE("steps must follow one another, and a run may start again") {
  const auto scheduler = make(pndm, "euler");
  const std::vector<std::uint64_t> seeds{1};
  schedulers::SeededNoise noise(seeds);
  const at::Tensor x = at::zeros({1, 1, 2, 2}, at::kFloat);
  scheduler->set_timesteps(5);
  scheduler->step(x, 2, x, noise);
  CHECK_FALSE(test::error_of(ExitCode::internal, [&] { scheduler->step(x, 2, x, noise); }) == "(no error)");
  scheduler->step(x, 3, x, noise);
  scheduler->set_timesteps(5);
  CHECK_FALSE(scheduler->denoised().defined());
  scheduler->step(x, 0, x, noise);
  CHECK(scheduler->denoised().defined());
}

TEST_CASE("image k of a batch is the image of its seed alone, whatever the sampler") {
  const std::vector<std::uint64_t> seeds{11, 12, 13};
  const auto run = [](schedulers::Scheduler& scheduler, std::span<const std::uint64_t> given, at::ScalarType dtype) {
    schedulers::SeededNoise noise(given);
    scheduler.set_timesteps(4);
    at::Tensor x =
        noise.normal({static_cast<std::int64_t>(given.size()), 4, 3, 3}, dtype) * scheduler.init_noise_sigma();
    for (std::size_t i = 0; i < scheduler.timesteps().size(); ++i) {
      x = scheduler.step((scheduler.scale_model_input(x, i) * 0.5).to(dtype), i, x, noise);
    }
    return x;
  };
  for (const std::string& name : schedulers::sampler_names()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
      CAPTURE(name);
      CAPTURE(static_cast<int>(dtype));
      const auto scheduler = schedulers::make_scheduler(pndm, "config", parse_sampler(name), {.eta = 0.5});
      const at::Tensor together = run(*scheduler, seeds, dtype);
      CHECK(at::isfinite(together).all().item<bool>());
      CHECK((together.scalar_type() == dtype));
      for (std::size_t k = 0; k < seeds.size(); ++k) {
        const at::Tensor alone = run(*scheduler, std::span(seeds).subspan(k, 1), dtype);
        CHECK(alone[0].equal(together[static_cast<std::int64_t>(k)]));
      }
    }
  }
}

TEST_CASE("no number of steps leaves the range of training, though some spacings count one step too many") {
  for (const char* name : {"ddpm", "ddim", "pndm"}) {
    const auto scheduler = make(with(pndm, "timestep_spacing", "trailing"), name);
    for (const std::int64_t steps : {1, 60, 61, 103, 999, 1000}) {
      CAPTURE(name);
      CAPTURE(steps);
      scheduler->set_timesteps(steps);
      CHECK(scheduler->timesteps().front() == 999);
      CHECK(scheduler->timesteps().back() >= 0);
    }
  }
}
