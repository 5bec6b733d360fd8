#include "schedulers/config.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/nearest.h"

namespace atelier::schedulers {
namespace {

using base::Json;
using base::JsonFields;

[[noreturn]] void bad(const std::string& message, std::string hint = {}) {
  throw base::Error(base::ExitCode::data, message, std::move(hint));
}

// Parameters of the classes' __init__, separated by spaces.
constexpr std::string_view kBetas = "num_train_timesteps beta_start beta_end beta_schedule trained_betas";
constexpr std::string_view kSigmas = "use_karras_sigmas use_exponential_sigmas use_beta_sigmas";
constexpr std::string_view kPrediction = "prediction_type";
constexpr std::string_view kSpacing = "timestep_spacing steps_offset";
constexpr std::string_view kThreshold = "thresholding dynamic_thresholding_ratio sample_max_value";
constexpr std::string_view kClip = "clip_sample clip_sample_range";
constexpr std::string_view kZeroSnr = "rescale_betas_zero_snr";
constexpr std::string_view kFlow = "use_flow_sigmas flow_shift use_dynamic_shifting time_shift_type";
constexpr std::string_view kSolver = "solver_order algorithm_type solver_type lower_order_final";
constexpr std::string_view kConsistency = "set_alpha_to_one original_inference_steps timestep_scaling";

struct Class {
  Kind kind;
  std::string_view name;
  std::array<std::string_view, 9> keys;
};

// A key that a class does not know has no effect on it, also where another class would obey it: EulerAncestral ignores
// use_karras_sigmas.
constexpr std::array<Class, 18> kClasses{{
    {Kind::ddpm, "DDPMScheduler", {kBetas, kPrediction, kSpacing, kThreshold, kClip, kZeroSnr, "variance_type"}},
    {Kind::ddim, "DDIMScheduler", {kBetas, kPrediction, kSpacing, kThreshold, kClip, kZeroSnr, "set_alpha_to_one"}},
    {Kind::pndm, "PNDMScheduler", {kBetas, kPrediction, kSpacing, "skip_prk_steps set_alpha_to_one"}},
    {Kind::euler,
     "EulerDiscreteScheduler",
     {kBetas, kPrediction, kSpacing, kSigmas, kZeroSnr,
      "interpolation_type sigma_min sigma_max timestep_type final_sigmas_type"}},
    {Kind::euler_ancestral, "EulerAncestralDiscreteScheduler", {kBetas, kPrediction, kSpacing, kZeroSnr}},
    {Kind::heun, "HeunDiscreteScheduler", {kBetas, kPrediction, kSpacing, kSigmas, kClip}},
    {Kind::kdpm2, "KDPM2DiscreteScheduler", {kBetas, kPrediction, kSpacing, kSigmas}},
    {Kind::kdpm2_ancestral, "KDPM2AncestralDiscreteScheduler", {kBetas, kPrediction, kSpacing, kSigmas}},
    {Kind::lms, "LMSDiscreteScheduler", {kBetas, kPrediction, kSpacing, kSigmas}},
    {Kind::dpm_multistep,
     "DPMSolverMultistepScheduler",
     {kBetas, kPrediction, kSpacing, kSigmas, kThreshold, kZeroSnr, kFlow, kSolver,
      "euler_at_final use_lu_lambdas final_sigmas_type lambda_min_clipped variance_type"}},
    {Kind::dpm_singlestep,
     "DPMSolverSinglestepScheduler",
     {kBetas, kPrediction, kSigmas, kThreshold, kFlow, kSolver, "final_sigmas_type lambda_min_clipped variance_type"}},
    {Kind::dpm_sde, "DPMSolverSDEScheduler", {kBetas, kPrediction, kSpacing, kSigmas, "noise_sampler_seed"}},
    {Kind::unipc,
     "UniPCMultistepScheduler",
     {kBetas, kPrediction, kSpacing, kSigmas, kThreshold, kZeroSnr, kFlow,
      "solver_order solver_type lower_order_final predict_x0 disable_corrector solver_p",
      "final_sigmas_type sigma_min sigma_max shift_terminal"}},
    {Kind::deis, "DEISMultistepScheduler", {kBetas, kPrediction, kSpacing, kSigmas, kThreshold, kFlow, kSolver}},
    {Kind::lcm, "LCMScheduler", {kBetas, kPrediction, kSpacing, kThreshold, kClip, kZeroSnr, kConsistency}},
    {Kind::tcd, "TCDScheduler", {kBetas, kPrediction, kSpacing, kThreshold, kClip, kZeroSnr, kConsistency}},
    {Kind::flow_euler,
     "FlowMatchEulerDiscreteScheduler",
     {kSigmas, "num_train_timesteps shift use_dynamic_shifting base_shift max_shift base_image_seq_len",
      "max_image_seq_len invert_sigmas shift_terminal time_shift_type stochastic_sampling"}},
    {Kind::flow_heun, "FlowMatchHeunDiscreteScheduler", {"num_train_timesteps shift"}},
}};

// Written by old versions of diffusers, and never of influence on the result.
constexpr std::array<std::string_view, 2> kHarmless{"tensor_format", "timestep_values"};

bool flow_class(Kind kind) { return kind == Kind::flow_euler || kind == Kind::flow_heun; }

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> list;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    if (end > 0) list.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return list;
}

std::vector<std::string> keys_of(const Class& of) {
  std::vector<std::string> keys;
  for (const std::string_view group : of.keys) {
    for (std::string& key : words(group)) keys.push_back(std::move(key));
  }
  return keys;
}

const Class& class_of(Kind kind) {
  return *std::find_if(kClasses.begin(), kClasses.end(), [&](const Class& c) { return c.kind == kind; });
}

bool contains(const std::vector<std::string>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

/// A key that no class knows may be a misspelt one, or belong to a newer diffusers: its effect would silently be missing.
void refuse_unknown_keys(const Json& config, const std::string& what) {
  std::vector<std::string> known;
  for (const Class& each : kClasses) {
    for (std::string& key : keys_of(each)) known.push_back(std::move(key));
  }
  for (const auto& [key, value] : config.items()) {
    if (key.starts_with('_') || value.is_null() || contains(known, key)) continue;
    if (std::find(kHarmless.begin(), kHarmless.end(), key) != kHarmless.end()) continue;
    if (key == "predict_epsilon" && value.is_boolean() && value.get<bool>())
      continue;  // what prediction_type says today
    const std::string close = base::nearest(key, known);
    bad(fmt::format("{}: unknown key \"{}\"", what, key),
        close.empty() ? std::string("it might change the pictures, so it is not ignored")
                      : fmt::format("did you mean \"{}\"?", close));
  }
}

/// What reaches the class's __init__.
Json arguments_of(const Json& config, const Class& of, const Json& overrides) {
  // An in-memory configuration of diffusers lists here what its file never said.
  std::vector<std::string> unsaid;
  if (const auto list = config.find("_use_default_values"); list != config.end() && list->is_array()) {
    for (const Json& key : *list) {
      if (key.is_string()) unsaid.push_back(key.get<std::string>());
    }
  }
  Json arguments = Json::object();
  for (const std::string& key : keys_of(of)) {
    if (config.contains(key) && !contains(unsaid, key)) arguments[key] = config.at(key);
  }
  // Classes without these parameters look at them all the same when they convert their sigmas: diffusers keeps another class's
  // keys in the configuration.
  for (const char* key : {"sigma_min", "sigma_max"}) {
    if (!flow_class(of.kind) && config.contains(key) && !contains(unsaid, key)) arguments[key] = config.at(key);
  }
  for (const auto& [key, value] : overrides.items()) arguments[key] = value;
  return arguments;
}

template <typename T>
using Choice = std::pair<std::string_view, T>;

/// A key with a fixed set of values.
template <typename T, std::size_t N>
T choose(const JsonFields& fields, const char* key, T fallback, const Choice<T> (&choices)[N]) {
  if (!fields.has(key)) return fallback;
  const std::string value = fields.string(key);
  std::vector<std::string> known;
  for (const auto& [name, result] : choices) {
    if (name == value) return result;
    known.emplace_back(name);
  }
  bad(fmt::format("{}: \"{}\" is \"{}\", known are {}", fields.what(), key, value, fmt::join(known, ", ")));
}

constexpr double kHuge = std::numeric_limits<double>::max();

void apply_defaults(Config& c) {
  const auto is = [&](std::initializer_list<Kind> kinds) {
    return std::find(kinds.begin(), kinds.end(), c.kind) != kinds.end();
  };
  if (is({Kind::heun, Kind::kdpm2, Kind::kdpm2_ancestral, Kind::dpm_sde, Kind::lcm, Kind::tcd})) {
    c.beta_start = 0.00085;
    c.beta_end = 0.012;
  }
  if (is({Kind::lcm, Kind::tcd})) c.beta_schedule = "scaled_linear";
  if (is({Kind::ddpm, Kind::ddim, Kind::pndm, Kind::lcm, Kind::tcd})) c.spacing = Spacing::leading;
  c.clip_sample = is({Kind::ddpm, Kind::ddim});
  c.set_alpha_to_one = !is({Kind::pndm});
  c.lower_order_final = !is({Kind::dpm_singlestep});
  if (is({Kind::unipc})) c.solver_type = SolverType::bh2;
}

void read_betas(const JsonFields& fields, Config& c) {
  c.num_train_timesteps = fields.integer_or("num_train_timesteps", 2, 100000, c.num_train_timesteps);
  c.beta_start = fields.number_or("beta_start", 0, 1, c.beta_start);
  c.beta_end = fields.number_or("beta_end", 0, 1, c.beta_end);
  std::vector<std::string> known{"linear", "scaled_linear", "squaredcos_cap_v2"};
  if (c.kind == Kind::ddpm) known.insert(known.end(), {"laplace", "sigmoid"});
  if (c.kind == Kind::heun) known.emplace_back("exp");
  c.beta_schedule = fields.string_or("beta_schedule", c.beta_schedule);
  if (!contains(known, c.beta_schedule)) {
    bad(fmt::format("{}: \"beta_schedule\" is \"{}\", known for {} are {}", fields.what(), c.beta_schedule,
                    class_name(c.kind), fmt::join(known, ", ")));
  }
  c.rescale_betas_zero_snr = fields.boolean_or("rescale_betas_zero_snr", false);
  c.set_alpha_to_one = fields.boolean_or("set_alpha_to_one", c.set_alpha_to_one);
  const Json* trained = fields.find("trained_betas");
  if (trained == nullptr) return;
  const bool numbers = trained->is_array() && std::all_of(trained->begin(), trained->end(), [](const Json& beta) {
                         return beta.is_number() && beta.get<double>() >= 0 && beta.get<double>() < 1;
                       });
  if (!numbers || static_cast<std::int64_t>(trained->size()) != c.num_train_timesteps) {
    bad(fmt::format("{}: \"trained_betas\" must be a list of {} numbers from 0 to 1, one for each training step",
                    fields.what(), c.num_train_timesteps));
  }
  c.trained_betas = trained->get<std::vector<double>>();
}

Prediction read_prediction(const JsonFields& fields, const Config& c) {
  const Prediction prediction = choose<Prediction>(fields, "prediction_type", Prediction::epsilon,
                                                   {{"epsilon", Prediction::epsilon},
                                                    {"v_prediction", Prediction::v},
                                                    {"sample", Prediction::sample},
                                                    {"original_sample", Prediction::sample},
                                                    {"flow_prediction", Prediction::flow}});
  std::vector<Kind> without;
  if (prediction == Prediction::sample) {
    without = {Kind::pndm, Kind::euler_ancestral, Kind::kdpm2, Kind::kdpm2_ancestral, Kind::dpm_sde};
  } else if (prediction == Prediction::flow) {
    without = {Kind::ddpm,
               Kind::ddim,
               Kind::pndm,
               Kind::euler,
               Kind::euler_ancestral,
               Kind::heun,
               Kind::kdpm2,
               Kind::kdpm2_ancestral,
               Kind::lms,
               Kind::dpm_sde,
               Kind::lcm,
               Kind::tcd};
  }
  if (std::find(without.begin(), without.end(), c.kind) != without.end()) {
    bad(fmt::format("{}: {} cannot use a model whose \"prediction_type\" is \"{}\"", fields.what(), class_name(c.kind),
                    fields.string("prediction_type")));
  }
  return prediction;
}

void read_steps(const JsonFields& fields, Config& c) {
  c.spacing = choose<Spacing>(
      fields, "timestep_spacing", c.spacing,
      {{"linspace", Spacing::linspace}, {"leading", Spacing::leading}, {"trailing", Spacing::trailing}});
  c.steps_offset = fields.integer_or("steps_offset", 0, c.num_train_timesteps - 1, 0);
  const std::pair<const char*, Conversion> conversions[] = {{"use_karras_sigmas", Conversion::karras},
                                                            {"use_exponential_sigmas", Conversion::exponential},
                                                            {"use_beta_sigmas", Conversion::beta}};
  for (const auto& [key, conversion] : conversions) {
    if (!fields.boolean_or(key, false)) continue;
    if (c.conversion != Conversion::none) {
      bad(fmt::format("{}: only one of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas can be true",
                      fields.what()));
    }
    c.conversion = conversion;
  }
  c.use_lu_lambdas = fields.boolean_or("use_lu_lambdas", false);
  if (fields.has("sigma_min")) c.sigma_min = fields.number("sigma_min", 1e-10, 1e6);
  if (fields.has("sigma_max")) c.sigma_max = fields.number("sigma_max", 1e-10, 1e6);
  c.final_sigma_zero = choose<bool>(fields, "final_sigmas_type", true, {{"zero", true}, {"sigma_min", false}});
  c.lambda_min_clipped = fields.number_or("lambda_min_clipped", -kHuge, kHuge, c.lambda_min_clipped);
  c.log_linear_interpolation =
      choose<bool>(fields, "interpolation_type", false, {{"linear", false}, {"log_linear", true}});
  c.continuous_timesteps = choose<bool>(fields, "timestep_type", false, {{"discrete", false}, {"continuous", true}});
  c.original_inference_steps =
      fields.integer_or("original_inference_steps", 1, c.num_train_timesteps, c.original_inference_steps);
  c.timestep_scaling = fields.number_or("timestep_scaling", 0, 1e6, c.timestep_scaling);
}

void read_estimate(const JsonFields& fields, Config& c) {
  c.clip_sample = fields.boolean_or("clip_sample", c.clip_sample);
  c.clip_sample_range = fields.number_or("clip_sample_range", 0, 1e6, c.clip_sample_range);
  c.thresholding = fields.boolean_or("thresholding", false);
  c.dynamic_thresholding_ratio = fields.number_or("dynamic_thresholding_ratio", 0, 1, c.dynamic_thresholding_ratio);
  c.sample_max_value = fields.number_or("sample_max_value", 1e-6, 1e6, c.sample_max_value);
}

void read_variance(const JsonFields& fields, Config& c) {
  if (c.kind != Kind::ddpm) {
    // Classes with solvers know these two; the others of DDPM, which a configuration may hand over, say nothing to them.
    const std::string type = fields.string_or("variance_type", "");
    c.learned_variance = type == "learned" || type == "learned_range";
    return;
  }
  // fixed_large_log is a known name too, but takes the root of a negative number.
  c.variance = choose<Variance>(fields, "variance_type", c.variance,
                                {{"fixed_small", Variance::fixed_small},
                                 {"fixed_small_log", Variance::fixed_small_log},
                                 {"fixed_large", Variance::fixed_large},
                                 {"learned", Variance::learned},
                                 {"learned_range", Variance::learned_range}});
}

/// DPM-Solver's names and UniPC's and DEIS's stand for one another, as in diffusers, so that configurations can be exchanged.
void read_solver_names(const JsonFields& fields, Config& c) {
  const bool unipc = c.kind == Kind::unipc;
  const SolverType other = unipc ? SolverType::bh2 : SolverType::midpoint;
  c.solver_type = choose<SolverType>(fields, "solver_type", c.solver_type,
                                     {{"midpoint", unipc ? other : SolverType::midpoint},
                                      {"heun", unipc ? other : SolverType::heun},
                                      {"logrho", other},
                                      {"bh1", unipc ? SolverType::bh1 : other},
                                      {"bh2", unipc ? SolverType::bh2 : other}});
  c.algorithm = choose<Algorithm>(fields, "algorithm_type", c.algorithm,
                                  {{"dpmsolver", Algorithm::dpmsolver},
                                   {"dpmsolver++", Algorithm::dpmsolver_pp},
                                   {"sde-dpmsolver", Algorithm::sde_dpmsolver},
                                   {"sde-dpmsolver++", Algorithm::sde_dpmsolver_pp},
                                   {"deis", Algorithm::dpmsolver_pp}});
  if (c.kind == Kind::deis) c.algorithm = Algorithm::dpmsolver_pp;  // it has only its own
}

void read_solver(const JsonFields& fields, Config& c) {
  c.skip_prk_steps = fields.boolean_or("skip_prk_steps", false);
  read_variance(fields, c);
  read_solver_names(fields, c);
  c.solver_order = fields.integer_or("solver_order", 1, c.kind == Kind::unipc ? 8 : 3, c.solver_order);
  c.lower_order_final = fields.boolean_or("lower_order_final", c.lower_order_final);
  c.euler_at_final = fields.boolean_or("euler_at_final", false);
  c.predict_x0 = fields.boolean_or("predict_x0", true);
  if (fields.has("solver_p")) bad(fields.what() + ": \"solver_p\" is not supported");
  if (const Json* steps = fields.find("disable_corrector")) {
    const bool integers = steps->is_array() && std::all_of(steps->begin(), steps->end(),
                                                           [](const Json& step) { return step.is_number_integer(); });
    if (!integers) bad(fields.what() + ": \"disable_corrector\" must be a list of step numbers");
    c.disable_corrector = steps->get<std::vector<std::int64_t>>();
  }
  if (fields.has("noise_sampler_seed")) {
    c.noise_sampler_seed = static_cast<std::uint64_t>(fields.integer("noise_sampler_seed", 0, INT64_MAX));
  }
}

void read_flow(const JsonFields& fields, Config& c) {
  c.use_flow_sigmas = fields.boolean_or("use_flow_sigmas", false);
  c.flow_shift = fields.number_or(flow_class(c.kind) ? "shift" : "flow_shift", 1e-6, 1e6, 1);
  c.use_dynamic_shifting = fields.boolean_or("use_dynamic_shifting", false);
  c.linear_time_shift = choose<bool>(fields, "time_shift_type", false, {{"exponential", false}, {"linear", true}});
  c.base_shift = fields.number_or("base_shift", -1e3, 1e3, c.base_shift);
  c.max_shift = fields.number_or("max_shift", -1e3, 1e3, c.max_shift);
  c.base_image_seq_len = fields.integer_or("base_image_seq_len", 1, 1 << 30, c.base_image_seq_len);
  c.max_image_seq_len = fields.integer_or("max_image_seq_len", 1, 1 << 30, c.max_image_seq_len);
  if (c.base_image_seq_len == c.max_image_seq_len) {
    bad(fields.what() + ": \"base_image_seq_len\" and \"max_image_seq_len\" are equal");
  }
  // diffusers takes 0 for none.
  const double terminal = fields.number_or("shift_terminal", 0, 0.999999, 0);
  if (terminal != 0) c.shift_terminal = terminal;
  c.invert_sigmas = fields.boolean_or("invert_sigmas", false);
  c.stochastic_sampling = fields.boolean_or("stochastic_sampling", false);
}

/// Combinations that diffusers refuses, or that would end in a picture of nothing.
void check_combinations(const Config& c, const std::string& what) {
  const bool multistep = c.kind == Kind::dpm_multistep, singlestep = c.kind == Kind::dpm_singlestep;
  if (!multistep && !singlestep && c.kind != Kind::unipc) return;
  const bool noise_space = c.algorithm == Algorithm::dpmsolver || c.algorithm == Algorithm::sde_dpmsolver;
  if (c.kind == Kind::unipc) {
    if (c.shift_terminal && !c.use_flow_sigmas) {
      bad(what + ": \"shift_terminal\" needs \"use_flow_sigmas\"");
    }
    if (!c.predict_x0 && c.prediction == Prediction::flow) {
      bad(what + ": \"prediction_type\" flow_prediction needs \"predict_x0\"");
    }
    return;
  }
  if (noise_space && c.final_sigma_zero) {
    bad(what + ": \"algorithm_type\" dpmsolver needs \"final_sigmas_type\" sigma_min");
  }
  if (noise_space && c.prediction == Prediction::flow) {
    bad(what + ": \"prediction_type\" flow_prediction needs \"algorithm_type\" dpmsolver++ or sde-dpmsolver++");
  }
  if (c.algorithm == Algorithm::sde_dpmsolver && (singlestep || c.solver_order == 3)) {
    bad(fmt::format("{}: {} has no \"algorithm_type\" sde-dpmsolver with \"solver_order\" {}", what, class_name(c.kind),
                    c.solver_order));
  }
}

}  // namespace

std::string class_name(Kind kind) { return std::string(class_of(kind).name); }

Kind kind_of(const Json& config, const std::string& what) {
  const std::string name = JsonFields(config, what).string("_class_name");
  std::vector<std::string> known;
  for (const Class& each : kClasses) {
    if (each.name == name) return each.kind;
    known.emplace_back(each.name);
  }
  const std::string close = base::nearest(name, known);
  bad(fmt::format("{}: the scheduler \"{}\" is not supported", what, name),
      close.empty() ? fmt::format("choose another with --sampler; known are {}", fmt::join(known, ", "))
                    : fmt::format("did you mean \"{}\"?", close));
}

bool is_flow(const Json& config, const std::string& what) {
  const JsonFields fields(config, what);
  return fields.string_or("_class_name", "").starts_with("FlowMatch") ||
         fields.string_or("prediction_type", "") == "flow_prediction" || fields.boolean_or("use_flow_sigmas", false);
}

Config parse_config(const Json& config, const std::string& what, Kind kind, const Json& overrides) {
  if (!config.is_object()) bad(what + ": expected a JSON object");
  refuse_unknown_keys(config, what);
  const Json arguments = arguments_of(config, class_of(kind), overrides);
  const JsonFields fields(arguments, what);
  Config c;
  c.kind = kind;
  apply_defaults(c);
  read_betas(fields, c);
  c.prediction = read_prediction(fields, c);
  read_steps(fields, c);
  read_estimate(fields, c);
  read_solver(fields, c);
  read_flow(fields, c);
  check_combinations(c, what);
  return c;
}

}  // namespace atelier::schedulers
