#pragma once

#include <string>

/// adapter-test-tool lora MODEL LAYOUT KIND OUTPUT, for scripts/check-loras: a LoRA of random numbers for the Stable Diffusion
/// folder MODEL as OUTPUT/lora.safetensors (LAYOUT kohya or peft; KIND lora, locon with convolutions of another rank, or dora),
/// and the weights that it makes when it is read again as OUTPUT/merged.safetensors, "PART.PATH.weight".
void make_lora(const std::string& model, const std::string& layout, const std::string& kind, const std::string& output);
