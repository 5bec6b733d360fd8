#pragma once

#include <filesystem>
#include <string>

#include "image/write.h"
#include "metrics/seeded.h"
#include "support/scratch.h"

namespace atelier::test {

/// `count` pictures NAME.0 ... in a folder of a scratch folder; the folder's path.
inline std::string picture_folder(const Scratch& scratch, const std::string& folder, const std::string& name, int count,
                                  int width, int height) {
  std::filesystem::create_directories(scratch.path() / folder);
  for (int i = 0; i < count; ++i)
    image::write_image(scratch.file(folder + "/" + std::to_string(i) + ".png"),
                       metrics::seeded_picture(name + "." + std::to_string(i), width, height));
  return scratch.file(folder);
}

}  // namespace atelier::test
