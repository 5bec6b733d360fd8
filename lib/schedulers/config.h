#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace atelier::schedulers {

/// The classes of diffusers that are reproduced here.
enum class Kind {
  ddpm,
  ddim,
  pndm,
  euler,
  euler_ancestral,
  heun,
  kdpm2,
  kdpm2_ancestral,
  lms,
  dpm_multistep,
  dpm_singlestep,
  dpm_sde,
  unipc,
  deis,
  lcm,
  tcd,
  flow_euler,
  flow_heun,
};

enum class Prediction { epsilon, v, sample, flow };
enum class Spacing { linspace, leading, trailing };
/// What replaces the spaced sigmas; at most one of them.
enum class Conversion { none, karras, exponential, beta };
enum class Algorithm { dpmsolver, dpmsolver_pp, sde_dpmsolver, sde_dpmsolver_pp };
enum class Variance { fixed_small, fixed_small_log, fixed_large, learned, learned_range };
enum class SolverType { midpoint, heun, bh1, bh2 };

/// Everything that scheduler_config.json may say to a class, range-checked; where it is silent, that class's own defaults. Names are
/// diffusers' but for the enums.
struct Config {
  Kind kind = Kind::ddim;

  // The noise that the model was trained with.
  std::int64_t num_train_timesteps = 1000;
  double beta_start = 1e-4, beta_end = 0.02;
  std::string beta_schedule = "linear";
  std::vector<double> trained_betas;
  bool rescale_betas_zero_snr = false;
  Prediction prediction = Prediction::epsilon;
  bool set_alpha_to_one = true;

  // Where the steps lie.
  Spacing spacing = Spacing::linspace;
  std::int64_t steps_offset = 0;
  Conversion conversion = Conversion::none;
  bool use_lu_lambdas = false;
  std::optional<double> sigma_min, sigma_max;  ///< ends of a conversion, instead of the schedule's
  bool final_sigma_zero = true;                ///< final_sigmas_type
  double lambda_min_clipped = -std::numeric_limits<double>::infinity();
  bool log_linear_interpolation = false;  ///< Euler's interpolation_type
  bool continuous_timesteps = false;      ///< Euler's timestep_type
  std::int64_t original_inference_steps = 50;
  double timestep_scaling = 10;

  // What is done to the estimate of the finished sample.
  bool clip_sample = false;
  double clip_sample_range = 1;
  bool thresholding = false;
  double dynamic_thresholding_ratio = 0.995, sample_max_value = 1;

  // Solvers.
  bool skip_prk_steps = false;
  Variance variance = Variance::fixed_small;
  bool learned_variance = false;  ///< DPM-Solver's variance_type: only the first 3 channels are the prediction
  std::int64_t solver_order = 2;
  Algorithm algorithm = Algorithm::dpmsolver_pp;
  SolverType solver_type = SolverType::midpoint;
  bool lower_order_final = true;
  bool euler_at_final = false;
  bool predict_x0 = true;
  std::vector<std::int64_t> disable_corrector;
  std::optional<std::uint64_t> noise_sampler_seed;

  // Flow matching.
  bool use_flow_sigmas = false;
  double flow_shift = 1;  ///< also FlowMatch's `shift`
  bool use_dynamic_shifting = false;
  bool linear_time_shift = false;  ///< time_shift_type
  double base_shift = 0.5, max_shift = 1.15;
  std::int64_t base_image_seq_len = 256, max_image_seq_len = 4096;
  std::optional<double> shift_terminal;
  bool invert_sigmas = false;
  bool stochastic_sampling = false;

  bool stochastic_algorithm() const {
    return algorithm == Algorithm::sde_dpmsolver || algorithm == Algorithm::sde_dpmsolver_pp;
  }
};

std::string class_name(Kind kind);  ///< as in `_class_name`
/// Of `_class_name`; Error(data) where it is missing, or not one of the supported ones (naming the nearest).
Kind kind_of(const base::Json& config, const std::string& what);
/// Whether the configuration belongs to a flow-matching model: a FlowMatch class, prediction_type flow_prediction, or
/// use_flow_sigmas.
bool is_flow(const base::Json& config, const std::string& what);

/// The keys of `config` that `kind` knows, then `overrides` on top, as from_config(config, **overrides). Errors as
/// make_scheduler says.
Config parse_config(const base::Json& config, const std::string& what, Kind kind,
                    const base::Json& overrides = base::Json::object());

}  // namespace atelier::schedulers
