#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "train/image/buckets.h"

namespace atelier::train::image {

/// What may be wrong with a picture.
enum class Problem {
  unreadable,        ///< the picture, its caption or its mask: left out
  tiny,              ///< more than 1.5 times enlarged to fill its bucket
  duplicate,         ///< the same bytes as another
  no_caption,        ///< neither a file nor a folder's name has one, or it is blank
  caption_cut,       ///< longer than the text encoder's length
  wildcards_unused,  ///< `{a|b}` in a caption, while wildcards are off
  transparent,       ///< hidden colours of transparent pixels would be learnt
};
std::string problem_name(Problem problem);

struct Finding {
  Problem problem = Problem::unreadable;
  std::string path, message;
};

/// What --check reports, and what a run warns of.
struct DataReport {
  struct Bucket {
    Size size;
    std::int64_t pictures = 0, draws = 0, batches = 0;  ///< draws: pictures of an epoch, repeats counted
  };

  std::int64_t found = 0;           ///< picture files
  std::int64_t kept = 0;            ///< that are trained on, class pictures included
  std::int64_t class_pictures = 0;  ///< of those
  std::int64_t draws = 0;           ///< of an epoch, class pictures included
  std::int64_t batches = 0;         ///< of an epoch
  std::vector<Bucket> buckets;      ///< of all groups, by size
  std::vector<Finding> findings;    ///< by path

  std::int64_t count(Problem problem) const;
  /// {"pictures","kept","left_out","class_pictures","draws","batches","buckets":[{"width","height","pictures","draws",
  /// "batches"}],"problems":{NAME: count},"findings":[{"problem","path","message"}]}
  base::Json json() const;
};

}  // namespace atelier::train::image
