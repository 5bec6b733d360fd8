#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "schedulers/scheduler.h"

namespace atelier::schedulers {

/// The contract's samplers. `of_config` is the class that scheduler_config.json names.
enum class Sampler {
  of_config,
  ddpm,
  ddim,
  pndm,
  euler,
  euler_a,
  heun,
  dpm2,
  dpm2_a,
  lms,
  dpmpp_2m,
  dpmpp_2s_a,
  dpmpp_sde,
  dpmpp_2m_sde,
  dpmpp_3m_sde,
  unipc,
  deis,
  lcm,
  tcd,
};

/// How the noise levels are spaced. `of_config` leaves the configuration's own.
enum class Schedule { of_config, karras, exponential, beta, sgm_uniform, simple, normal, ddim_uniform };

/// What the user asked for.
struct SamplerChoice {
  Sampler sampler = Sampler::of_config;
  Schedule schedule = Schedule::of_config;
  bool heun_solver = false;  ///< "DPM++ 2M SDE Heun": solver_type heun
};

/// Reads the flags --sampler and --schedule; empty means default. Accepted are the contract's names and the spellings of
/// diffusers ("DPMSolverMultistepScheduler"), ComfyUI ("dpmpp_2m", "euler_ancestral", "uni_pc_bh2") and A1111 ("DPM++ 2M
/// Karras", "Euler a"), whatever their case and punctuation. A1111's names may end with a schedule, which `schedule`
/// overrides. Error(usage) naming the nearest known name.
SamplerChoice parse_sampler(std::string_view sampler, std::string_view schedule = {});

std::vector<std::string> sampler_names();   ///< the contract's, for --help and completions
std::vector<std::string> schedule_names();  ///< likewise, "default" first
std::string name_of(Sampler sampler);       ///< the contract's name; "default" for of_config
std::string name_of(Schedule schedule);

/// What A1111 writes into its metadata for these ("DPM++ 2M", "Karras").
std::string a1111_name(Sampler sampler);
std::string a1111_name(Schedule schedule);

struct SchedulerOptions {
  double eta = 0;  ///< of DDIM and TCD: 0 is deterministic. diffusers' pipelines pass 0 unless told otherwise.
};

/// Reads scheduler_config.json. diffusers writes -Infinity into some, which is not JSON: it is read as the lowest double.
base::Json read_scheduler_config(const std::string& path);

/// Builds the sampler from a scheduler's configuration as diffusers' `X.from_config(config)` does: the keys that both
/// classes know are taken over, for the rest X's defaults hold. `what` names the configuration in errors. Names beyond a
/// class follow diffusers' table of A1111 names: dpmpp_2m_sde is DPMSolverMultistep with algorithm_type sde-dpmsolver++,
/// dpmpp_3m_sde the same with solver_order 3, dpmpp_2s_a is DPMSolverSinglestep, dpmpp_sde DPMSolverSDE; sgm_uniform and
/// simple are timestep_spacing trailing, normal is linspace, ddim_uniform leading. With the configuration of a flow model
/// euler and heun mean FlowMatchEuler and FlowMatchHeun, dpmpp_2m DPMSolverMultistep with flow sigmas.
///
/// Error(data): a value out of range or unknown, a key that no scheduler of diffusers knows (it might change the result; keys
/// that begin with "_" never do), a class that is not supported. Error(usage): a sampler or schedule that this model or
/// sampler cannot take.
std::unique_ptr<Scheduler> make_scheduler(const base::Json& config, const std::string& what,
                                          const SamplerChoice& choice = {}, const SchedulerOptions& options = {});

/// What the model predicts according to the configuration: "epsilon" (also where it is silent), "v_prediction", "sample" or
/// "flow_prediction".
std::string prediction_type(const base::Json& config, const std::string& what);

/// What make_scheduler would build, for records: sampler and schedule with of_config resolved where it can be (a class of
/// diffusers that has a contract name; a schedule that the configuration switches on).
SamplerChoice resolve(const base::Json& config, const std::string& what, const SamplerChoice& choice);

}  // namespace atelier::schedulers
