#pragma once

#include <set>
#include <string>

#include "cli/image_options.h"

namespace atelier::cli {

/// The whole of sd-txt2img, sd-img2img or sd-inpaint: parses, runs and returns the exit code.
int image_main(int argc, char** argv, const std::string& name, const std::string& description, ImageTask task);

/// One prompt with its pictures, a batch of jobs, or a plan. `given`: the flags that stand on the command line, with `_` for
/// `-`; they win over --reproduce.
int run_images(const ImageOptions& options, ImageTask task, const std::set<std::string>& given);

}  // namespace atelier::cli
