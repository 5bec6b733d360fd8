#pragma once

#include <memory>
#include <string>

#include "base/json.h"
#include "io/weight_source.h"
#include "models/gemma/model.h"
#include "models/gemma/names.h"
#include "nn/nf4.h"

namespace atelier::test {

/// A tiny random Gemma of tests/data/gemma in f32, its weights its own (not the file's pages); `quantised`: its layers in NF4.
inline std::shared_ptr<models::gemma::CausalLm> load_gemma(const std::string& name, bool quantised = false) {
  const std::string folder = std::string(ATELIER_TEST_DATA) + "/gemma/" + name;
  const auto config = models::gemma::parse_config(base::read_json_file(folder + "/config.json"), "config.json");
  auto model = std::make_shared<models::gemma::CausalLm>(config);
  const auto source = io::WeightSource::open(folder);
  const models::gemma::Names names(*source, config.tied_head);
  if (quantised) {
    nn::load_nf4(*model, *source, names, at::kFloat, at::kCPU, "model.layers.");
  } else {
    nn::load_parameters(*model, *source, names, at::kFloat, at::kCPU);
  }
  for (auto& parameter : model->named_parameters()) parameter.value().set_data(parameter.value().clone());
  return model;
}

}  // namespace atelier::test
