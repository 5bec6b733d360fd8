#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/common.h"
#include "cli/plan.h"
#include "pipelines/text_model.h"

namespace atelier::cli {

/// --adapter of the tools that generate text.
void add_adapter_flag(CLI::App& app, std::vector<std::string>& adapters);

/// --quantize of the tools that generate text.
void add_quantize_flag(CLI::App& app, std::string& quantize);

/// The model that --model, --device and --dtype name, and the --adapter folders that go on it, headers only; noted for
/// --manifest. Error(usage), Error(no_input), Error(data) for an adapter that cannot be used, whatever the model.
/// `quantize`: none, int8 or int4.
pipelines::TextModelFiles open_text_files(const CommonOptions& options, const std::vector<std::string>& adapters = {},
                                          const std::string& quantize = "none");

/// What a run of `batch` sequences of `positions` tokens needs, with that of a draft model beside it.
Plan text_plan(const CommonOptions& options, const pipelines::TextModelFiles& files, std::int64_t positions,
               std::int64_t batch, const std::optional<pipelines::TextModelFiles>& draft = std::nullopt);

}  // namespace atelier::cli
