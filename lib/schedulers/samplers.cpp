#include "schedulers/samplers.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/nearest.h"
#include "schedulers/config.h"
#include "schedulers/make.h"

namespace atelier::schedulers {
namespace {

using base::Json;

[[noreturn]] void refuse(const std::string& message, std::string hint = {}) {
  throw base::Error(base::ExitCode::usage, message, std::move(hint));
}

struct SamplerNames {
  Sampler sampler;
  std::string_view name;   // the contract's
  std::string_view a1111;  // in its metadata
  std::string_view
      others;  // what diffusers and ComfyUI say, separated by spaces; compared without case and punctuation
};

constexpr std::array<SamplerNames, 19> kSamplers{{
    {Sampler::of_config, "default", "Default", "automatic"},
    {Sampler::ddpm, "ddpm", "DDPM", "DDPMScheduler"},
    {Sampler::ddim, "ddim", "DDIM", "DDIMScheduler"},
    {Sampler::pndm, "pndm", "PLMS", "PNDMScheduler"},
    {Sampler::euler, "euler", "Euler", "EulerDiscreteScheduler FlowMatchEulerDiscreteScheduler k_euler"},
    {Sampler::euler_a, "euler_a", "Euler a", "EulerAncestralDiscreteScheduler euler_ancestral k_euler_a"},
    {Sampler::heun, "heun", "Heun", "HeunDiscreteScheduler FlowMatchHeunDiscreteScheduler k_heun"},
    {Sampler::dpm2, "dpm2", "DPM2", "KDPM2DiscreteScheduler k_dpm_2"},
    {Sampler::dpm2_a, "dpm2_a", "DPM2 a", "KDPM2AncestralDiscreteScheduler dpm_2_ancestral k_dpm_2_a"},
    {Sampler::lms, "lms", "LMS", "LMSDiscreteScheduler k_lms"},
    {Sampler::dpmpp_2m, "dpmpp_2m", "DPM++ 2M", "DPMSolverMultistepScheduler k_dpmpp_2m"},
    {Sampler::dpmpp_2s_a, "dpmpp_2s_a", "DPM++ 2S a", "DPMSolverSinglestepScheduler dpmpp_2s_ancestral k_dpmpp_2s_a"},
    {Sampler::dpmpp_sde, "dpmpp_sde", "DPM++ SDE", "DPMSolverSDEScheduler dpmpp_sde_gpu k_dpmpp_sde"},
    {Sampler::dpmpp_2m_sde, "dpmpp_2m_sde", "DPM++ 2M SDE", "dpmpp_2m_sde_gpu"},
    {Sampler::dpmpp_3m_sde, "dpmpp_3m_sde", "DPM++ 3M SDE", "dpmpp_3m_sde_gpu"},
    {Sampler::unipc, "unipc", "UniPC", "UniPCMultistepScheduler uni_pc uni_pc_bh2"},
    {Sampler::deis, "deis", "DEIS", "DEISMultistepScheduler"},
    {Sampler::lcm, "lcm", "LCM", "LCMScheduler"},
    {Sampler::tcd, "tcd", "TCD", "TCDScheduler"},
}};

struct ScheduleNames {
  Schedule schedule;
  std::string_view name, a1111, others;
};

constexpr std::array<ScheduleNames, 8> kSchedules{{
    {Schedule::of_config, "default", "Automatic", ""},
    {Schedule::karras, "karras", "Karras", ""},
    {Schedule::exponential, "exponential", "Exponential", ""},
    {Schedule::beta, "beta", "Beta", ""},
    {Schedule::sgm_uniform, "sgm_uniform", "SGM Uniform", "trailing"},
    {Schedule::simple, "simple", "Simple", ""},
    {Schedule::normal, "normal", "Normal", "uniform linspace"},
    {Schedule::ddim_uniform, "ddim_uniform", "DDIM", "leading"},
}};

/// "DPM++ 2M Karras" and "dpmpp_2m_karras" become the same: dpmpp2mkarras.
std::string folded(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte)) plain.push_back(static_cast<char>(std::tolower(byte)));
    if (c == '+') plain.push_back('p');
  }
  return plain;
}

/// Whether `wanted` (folded) is one of an entry's names.
template <typename Names>
bool is_called(const Names& entry, const std::string& wanted) {
  if (folded(entry.name) == wanted || folded(entry.a1111) == wanted) return true;
  for (std::string_view rest = entry.others; !rest.empty();) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    if (folded(rest.substr(0, end)) == wanted) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

template <typename Table>
auto find_called(const Table& table, const std::string& wanted) {
  return std::find_if(table.begin(), table.end(), [&](const auto& entry) { return is_called(entry, wanted); });
}

/// The contract's name whose spelling, in any of the vocabularies, comes closest.
template <typename Table>
std::string nearest_name(const Table& table, std::string_view given) {
  std::vector<std::string> spellings, names;
  const auto add = [&](std::string_view spelling, std::string_view name) {
    spellings.push_back(folded(spelling));
    names.emplace_back(name);
  };
  for (const auto& entry : table) {
    add(entry.name, entry.name);
    add(entry.a1111, entry.name);
    std::istringstream others{std::string(entry.others)};
    for (std::string spelling; others >> spelling;) add(spelling, entry.name);
  }
  const std::string close = base::nearest(folded(given), spellings);
  if (close.empty()) return {};
  return names[static_cast<std::size_t>(std::find(spellings.begin(), spellings.end(), close) - spellings.begin())];
}

/// Likewise, or one of A1111's names with a schedule.
std::string nearest_sampler(std::string_view given) {
  const std::string close = nearest_name(kSamplers, given);
  if (!close.empty()) return close;
  std::vector<std::string> spellings, names;
  for (const SamplerNames& sampler : kSamplers) {
    for (const ScheduleNames& schedule : kSchedules) {
      names.push_back(fmt::format("{} {}", sampler.a1111, schedule.a1111));
      spellings.push_back(folded(names.back()));
    }
  }
  const std::string both = base::nearest(folded(given), spellings);
  if (both.empty()) return {};
  return names[static_cast<std::size_t>(std::find(spellings.begin(), spellings.end(), both) - spellings.begin())];
}

Schedule parse_schedule(std::string_view name) {
  if (name.empty()) return Schedule::of_config;
  const auto found = find_called(kSchedules, folded(name));
  if (found != kSchedules.end()) return found->schedule;
  const std::string close = nearest_name(kSchedules, name);
  refuse(fmt::format("unknown schedule \"{}\"", name),
         close.empty() ? fmt::format("known are {}", fmt::join(schedule_names(), ", "))
                       : fmt::format("did you mean \"{}\"?", close));
}

/// Tries a folded name as a sampler, then with a schedule at its end, then with "heun" there.
std::optional<SamplerChoice> match_sampler(const std::string& wanted) {
  if (const auto found = find_called(kSamplers, wanted); found != kSamplers.end()) return SamplerChoice{found->sampler};
  for (const ScheduleNames& entry : kSchedules) {
    for (const std::string& ending : {folded(entry.name), folded(entry.a1111)}) {
      if (entry.schedule == Schedule::of_config || !wanted.ends_with(ending)) continue;
      auto choice = match_sampler(wanted.substr(0, wanted.size() - ending.size()));
      if (!choice || choice->sampler == Sampler::of_config || choice->schedule != Schedule::of_config) continue;
      choice->schedule = entry.schedule;
      return choice;
    }
  }
  for (const std::string_view ending : {"heun", "heungpu"}) {
    if (!wanted.ends_with(ending)) continue;
    const auto found = find_called(kSamplers, wanted.substr(0, wanted.size() - ending.size()));
    if (found == kSamplers.end() || found->sampler != Sampler::dpmpp_2m_sde) continue;
    return SamplerChoice{found->sampler, Schedule::of_config, true};
  }
  return std::nullopt;
}

/// The class that a sampler is, for models that predict noise or v.
Kind kind_of_sampler(Sampler sampler) {
  switch (sampler) {
    case Sampler::ddpm: return Kind::ddpm;
    case Sampler::pndm: return Kind::pndm;
    case Sampler::euler: return Kind::euler;
    case Sampler::euler_a: return Kind::euler_ancestral;
    case Sampler::heun: return Kind::heun;
    case Sampler::dpm2: return Kind::kdpm2;
    case Sampler::dpm2_a: return Kind::kdpm2_ancestral;
    case Sampler::lms: return Kind::lms;
    case Sampler::dpmpp_2m:
    case Sampler::dpmpp_2m_sde:
    case Sampler::dpmpp_3m_sde: return Kind::dpm_multistep;
    case Sampler::dpmpp_2s_a: return Kind::dpm_singlestep;
    case Sampler::dpmpp_sde: return Kind::dpm_sde;
    case Sampler::unipc: return Kind::unipc;
    case Sampler::deis: return Kind::deis;
    case Sampler::lcm: return Kind::lcm;
    case Sampler::tcd: return Kind::tcd;
    default: return Kind::ddim;
  }
}

Kind choose_kind(const Json& config, const std::string& what, Sampler sampler) {
  if (sampler == Sampler::of_config) return kind_of(config, what);
  if (!is_flow(config, what)) return kind_of_sampler(sampler);
  if (sampler == Sampler::euler) return Kind::flow_euler;
  if (sampler == Sampler::heun) return Kind::flow_heun;
  if (sampler == Sampler::dpmpp_2m) return Kind::dpm_multistep;
  refuse(fmt::format("the sampler {} is not for flow models", name_of(sampler)),
         "this model takes euler, heun and dpmpp_2m");
}

/// What the name of a sampler says beyond its class.
Json overrides_of(const Json& config, const std::string& what, const SamplerChoice& choice, Kind kind) {
  Json overrides = Json::object();
  const bool sde = choice.sampler == Sampler::dpmpp_2m_sde || choice.sampler == Sampler::dpmpp_3m_sde;
  if (sde) overrides["algorithm_type"] = "sde-dpmsolver++";
  if (choice.sampler == Sampler::dpmpp_2m) {
    const base::JsonFields fields(config, what);
    if (fields.string_or("algorithm_type", "").starts_with("sde-")) overrides["algorithm_type"] = "dpmsolver++";
  }
  if (choice.sampler == Sampler::dpmpp_3m_sde) overrides["solver_order"] = 3;
  if (choice.heun_solver) overrides["solver_type"] = "heun";
  if (choice.sampler == Sampler::of_config || !is_flow(config, what)) return overrides;
  // The two families of classes call the same thing by two names.
  const base::JsonFields fields(config, what);
  const double shift = fields.number_or(fields.has("shift") ? "shift" : "flow_shift", 1e-6, 1e6, 1);
  if (kind == Kind::dpm_multistep) {
    overrides["use_flow_sigmas"] = true;
    overrides["prediction_type"] = "flow_prediction";
    overrides["flow_shift"] = shift;
  } else {
    overrides["shift"] = shift;
  }
  return overrides;
}

bool takes_spacing(Kind kind) {
  return kind != Kind::lcm && kind != Kind::tcd && kind != Kind::flow_euler && kind != Kind::flow_heun;
}

bool takes_conversion(const Config& config) {
  switch (config.kind) {
    case Kind::ddpm:
    case Kind::ddim:
    case Kind::pndm:
    case Kind::lcm:
    case Kind::tcd:
    case Kind::flow_heun: return false;
    case Kind::dpm_multistep:
    case Kind::dpm_singlestep:
    case Kind::deis: return !config.use_flow_sigmas;
    default: return true;
  }
}

/// --schedule on top of the configuration.
void apply_schedule(Config& config, Schedule schedule) {
  if (schedule == Schedule::of_config) return;
  const bool converts = schedule == Schedule::karras || schedule == Schedule::exponential || schedule == Schedule::beta;
  const bool spaces = takes_spacing(config.kind) && !config.use_flow_sigmas;
  if (converts ? !takes_conversion(config) : !spaces) {
    std::string known = "default";
    if (takes_conversion(config)) known += ", karras, exponential, beta";
    if (spaces) known += ", sgm_uniform, simple, normal, ddim_uniform";
    refuse(fmt::format("{} has no schedule {}", class_name(config.kind), name_of(schedule)),
           fmt::format("it takes {}", known));
  }
  config.use_lu_lambdas = false;
  config.conversion = Conversion::none;
  switch (schedule) {
    case Schedule::karras: config.conversion = Conversion::karras; break;
    case Schedule::exponential:
    case Schedule::beta:
      config.conversion = schedule == Schedule::beta ? Conversion::beta : Conversion::exponential;
      config.spacing = Spacing::linspace;
      break;
    case Schedule::normal: config.spacing = Spacing::linspace; break;
    case Schedule::ddim_uniform:
      config.spacing = Spacing::leading;
      config.steps_offset = 1;
      break;
    default: config.spacing = Spacing::trailing;
  }
}

std::unique_ptr<Scheduler> make(const Config& config, double eta) {
  switch (config.kind) {
    case Kind::ddpm: return make_ddpm(config);
    case Kind::ddim: return make_ddim(config, eta);
    case Kind::pndm: return make_pndm(config);
    case Kind::euler: return make_euler(config);
    case Kind::euler_ancestral: return make_euler_ancestral(config);
    case Kind::heun: return make_heun(config);
    case Kind::kdpm2: return make_kdpm2(config);
    case Kind::kdpm2_ancestral: return make_kdpm2_ancestral(config);
    case Kind::lms: return make_lms(config);
    case Kind::dpm_multistep: return make_dpm_multistep(config);
    case Kind::dpm_singlestep: return make_dpm_singlestep(config);
    case Kind::dpm_sde: return make_dpm_sde(config);
    case Kind::unipc: return make_unipc(config);
    case Kind::deis: return make_deis(config);
    case Kind::lcm: return make_lcm(config);
    case Kind::tcd: return make_tcd(config, eta);
    case Kind::flow_euler: return make_flow_euler(config);
    case Kind::flow_heun: return make_flow_heun(config);
  }
  throw base::Error(base::ExitCode::internal, "scheduler without a maker");
}

Config configure(const Json& config, const std::string& what, const SamplerChoice& choice) {
  if (!config.is_object()) throw base::Error(base::ExitCode::data, what + ": expected a JSON object");
  const Kind kind = choose_kind(config, what, choice.sampler);
  Config parsed = parse_config(config, what, kind, overrides_of(config, what, choice, kind));
  apply_schedule(parsed, choice.schedule);
  return parsed;
}

Sampler sampler_of(const Config& config) {
  if (config.kind == Kind::flow_euler) return Sampler::euler;
  if (config.kind == Kind::flow_heun) return Sampler::heun;
  if (config.kind == Kind::dpm_multistep && config.stochastic_algorithm()) {
    return config.solver_order == 3 ? Sampler::dpmpp_3m_sde : Sampler::dpmpp_2m_sde;
  }
  for (const SamplerNames& entry : kSamplers) {
    if (entry.sampler != Sampler::of_config && kind_of_sampler(entry.sampler) == config.kind) return entry.sampler;
  }
  return Sampler::of_config;
}

}  // namespace

SamplerChoice parse_sampler(std::string_view sampler, std::string_view schedule) {
  SamplerChoice choice;
  if (!sampler.empty()) {
    const auto matched = match_sampler(folded(sampler));
    if (!matched) {
      const std::string close = nearest_sampler(sampler);
      refuse(fmt::format("unknown sampler \"{}\"", sampler),
             close.empty() ? fmt::format("known are {}", fmt::join(sampler_names(), ", "))
                           : fmt::format("did you mean \"{}\"?", close));
    }
    choice = *matched;
  }
  if (!schedule.empty()) choice.schedule = parse_schedule(schedule);
  return choice;
}

std::vector<std::string> sampler_names() {
  std::vector<std::string> names;
  for (const SamplerNames& entry : kSamplers) {
    if (entry.sampler != Sampler::of_config) names.emplace_back(entry.name);
  }
  return names;
}

std::vector<std::string> schedule_names() {
  std::vector<std::string> names;
  for (const ScheduleNames& entry : kSchedules) names.emplace_back(entry.name);
  return names;
}

// Both tables are in the order of their enums.
std::string name_of(Sampler sampler) { return std::string(kSamplers.at(static_cast<std::size_t>(sampler)).name); }
std::string name_of(Schedule schedule) { return std::string(kSchedules.at(static_cast<std::size_t>(schedule)).name); }
std::string a1111_name(Sampler sampler) { return std::string(kSamplers.at(static_cast<std::size_t>(sampler)).a1111); }
std::string a1111_name(Schedule schedule) {
  return std::string(kSchedules.at(static_cast<std::size_t>(schedule)).a1111);
}

Json read_scheduler_config(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw base::Error(base::ExitCode::no_input, fmt::format("{}: {}", path, std::generic_category().message(errno)));
  }
  constexpr std::streamsize kMost = 4 << 20;  // a list of trained betas is the longest thing in one
  std::string text(static_cast<std::size_t>(kMost), '\0');
  file.read(text.data(), kMost);
  if (file.bad()) throw base::Error(base::ExitCode::no_input, fmt::format("{}: cannot be read", path));
  if (file.gcount() == kMost)
    throw base::Error(base::ExitCode::data, path + ": too large for a scheduler's configuration");
  text.resize(static_cast<std::size_t>(file.gcount()));

  constexpr std::string_view infinity = "-Infinity";
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      quoted = !quoted;
    } else if (!quoted && std::string_view(text).substr(i).starts_with(infinity)) {
      text.replace(i, infinity.size(), "-1.7976931348623157e308");
    }
  }
  return base::parse_json(text, path);
}

std::unique_ptr<Scheduler> make_scheduler(const Json& config, const std::string& what, const SamplerChoice& choice,
                                          const SchedulerOptions& options) {
  if (!(options.eta >= 0 && options.eta <= 1)) refuse(fmt::format("eta is {}, expected 0 to 1", options.eta));
  return make(configure(config, what, choice), options.eta);
}

std::string prediction_type(const Json& config, const std::string& what) {
  const base::JsonFields fields(config, what);
  if (is_flow(config, what)) return "flow_prediction";
  const std::string type = fields.string_or("prediction_type", "epsilon");
  return type == "original_sample" ? "sample" : type;
}

SamplerChoice resolve(const Json& config, const std::string& what, const SamplerChoice& choice) {
  const Config parsed = configure(config, what, choice);
  SamplerChoice resolved = choice;
  if (resolved.sampler == Sampler::of_config) resolved.sampler = sampler_of(parsed);
  if (resolved.schedule == Schedule::of_config) {
    if (parsed.conversion == Conversion::karras) resolved.schedule = Schedule::karras;
    if (parsed.conversion == Conversion::exponential) resolved.schedule = Schedule::exponential;
    if (parsed.conversion == Conversion::beta) resolved.schedule = Schedule::beta;
  }
  return resolved;
}

}  // namespace atelier::schedulers
