#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "image/image.h"
#include "metrics/figure.h"

namespace atelier::metrics {

/// Pictures of a folder, sorted by name; unreadable ones are listed, never dropped silently.
struct PictureSet {
  std::vector<std::string> files;      ///< paths, sorted
  std::vector<Unreadable> unreadable;  ///< path, reason
};

/// The files of a folder whose names end as a picture's do (in any case of letters), not those of folders below it: PNG and
/// JPEG files in `files`, other kinds (.webp, .gif, ...) and empty files in `unreadable`; anything else, captions say, is no
/// picture and left alone. Nothing is decoded: what is damaged shows when it is read (PictureBatches, Figure::unreadable).
/// Error(no_input) where the folder is missing or no folder.
PictureSet list_pictures(const std::string& folder);

/// Three channels of bytes as (3, H, W) f32 in [0, 1].
at::Tensor to_unit_tensor(const image::Image& picture);

/// A batch of pictures that have been read and prepared.
struct PictureBatch {
  at::Tensor pictures;               ///< (B, C, H, W), on the CPU
  std::vector<std::size_t> indices;  ///< (B): places in the list of files
};

/// Brings a decoded picture into the form that a network wants, (C, H, W); called on the reading threads.
using Prepare = std::function<at::Tensor(const image::Image& rgb)>;
/// Takes one batch; called on the caller's thread, in the order of the files.
using TakeBatch = std::function<void(const PictureBatch& batch)>;

/// Reads pictures, turned to RGB (alpha is dropped, as by Pillow's convert("RGB")), in batches: while `take` works on one, the
/// next is decoded and prepared on another thread. A batch holds at most `batch_size` pictures and only those of one shape. Files that cannot
/// be decoded come back as unreadable; any other error of `prepare` or `take` is thrown. Looks at the stop flag; `label` names
/// the progress on stderr ("" shows none).
std::vector<Unreadable> read_batches(const std::vector<std::string>& files, std::int64_t batch_size,
                                     const Prepare& prepare, const TakeBatch& take, const std::string& label = {});

/// Whether the set has pictures of more than one size, by their headers; what cannot be read is not counted.
bool mixed_sizes(const std::vector<std::string>& files);

}  // namespace atelier::metrics
