#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/image/buckets.h"
#include "train/image/captions.h"

namespace atelier::train::image {

/// Pictures of one folder that are treated alike.
struct Subset {
  std::string folder = {};
  std::int64_t repeats = 1;            ///< times that each comes up in an epoch
  bool is_class = false;               ///< of the class, not of the subject (kohya's is_reg): for prior preservation
  std::string class_tokens = {};       ///< caption of a picture that has no caption file
  bool caption_files = true;           ///< false: class_tokens is the caption of all
  std::string caption_extension = {};  ///< ".txt"; empty: .txt, else .caption
  std::string mask_folder = {};        ///< masks of the same names (kohya's conditioning_data_dir); empty: none
  CaptionOptions captions = {};
  bool flip = false;         ///< half of the times mirrored
  bool random_crop = false;  ///< cut anywhere, not in the middle
  bool alpha_mask = false;   ///< the alpha channel is the mask
};

/// Subsets that share sizes and batches (kohya's [[datasets]]).
struct SubsetGroup {
  BucketOptions buckets;
  std::int64_t batch_size = 1;
  std::vector<Subset> subsets;
};

/// What the command line says of all of them; a TOML file may say otherwise for its own.
struct SourceDefaults {
  BucketOptions buckets;
  std::int64_t batch_size = 1;
  Subset subset;  ///< its folder is not read
};

/// Where the pictures are. `data` is a folder: of pictures, with captions of the same names beside them; or of folders
/// `10_token class` (repeats, then the caption of pictures that have none), as kohya's scripts want them. Or a kohya TOML
/// file: [general], [[datasets]], [[datasets.subsets]], what stands further in winning.
/// Error(no_input): missing. Error(data): a folder without pictures; of a TOML file an unknown key, naming the nearest known
/// one; one that asks for what is not done here; a value of the wrong kind.
std::vector<SubsetGroup> open_sources(const std::string& data, const SourceDefaults& defaults);

/// The same of a TOML file's text; `name` stands for the file in errors. Relative folders are taken as they are.
std::vector<SubsetGroup> parse_sources(const std::string& toml, const std::string& name,
                                       const SourceDefaults& defaults);

/// Pictures (.png, .jpg, .jpeg in any case) in a folder, by name; folders in it are not looked into, nor are masks
/// (NAME.mask.png). Error(no_input) where it cannot be read.
std::vector<std::string> picture_files(const std::string& folder);

}  // namespace atelier::train::image
