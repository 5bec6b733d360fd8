#pragma once

#include <memory>

#include "schedulers/config.h"
#include "schedulers/samplers.h"
#include "schedulers/scheduler.h"

namespace atelier::schedulers {

// One maker for each sampler's file; make_scheduler chooses.
std::unique_ptr<Scheduler> make_ddpm(const Config& config);              // Ho et al. 2020
std::unique_ptr<Scheduler> make_ddim(const Config& config, double eta);  // Song et al. 2021
std::unique_ptr<Scheduler> make_pndm(const Config& config);              // Liu et al. 2022
std::unique_ptr<Scheduler> make_euler(const Config& config);             // Karras et al. 2022, algorithm 2
std::unique_ptr<Scheduler> make_euler_ancestral(const Config& config);   // k-diffusion
std::unique_ptr<Scheduler> make_heun(const Config& config);              // Karras et al. 2022
std::unique_ptr<Scheduler> make_kdpm2(const Config& config);             // k-diffusion's DPM-Solver-2
std::unique_ptr<Scheduler> make_kdpm2_ancestral(const Config& config);   // the same with noise
std::unique_ptr<Scheduler> make_lms(const Config& config);               // k-diffusion's linear multistep
std::unique_ptr<Scheduler> make_dpm_multistep(const Config& config);     // Lu et al. 2022
std::unique_ptr<Scheduler> make_dpm_singlestep(const Config& config);    // Lu et al. 2022
std::unique_ptr<Scheduler> make_dpm_sde(const Config& config);           // k-diffusion's DPM-Solver++ (SDE)
std::unique_ptr<Scheduler> make_unipc(const Config& config);             // Zhao et al. 2023
std::unique_ptr<Scheduler> make_deis(const Config& config);              // Zhang and Chen 2023
std::unique_ptr<Scheduler> make_lcm(const Config& config);               // Luo et al. 2023
std::unique_ptr<Scheduler> make_tcd(const Config& config, double eta);   // Zheng et al. 2024
std::unique_ptr<Scheduler> make_flow_euler(const Config& config);        // Lipman et al. 2023, Esser et al. 2024
std::unique_ptr<Scheduler> make_flow_heun(const Config& config);

}  // namespace atelier::schedulers
