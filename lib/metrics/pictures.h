#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "image/image.h"
#include "metrics/figure.h"

namespace atelier::metrics {

/// Pictures of a folder, sorted by name; unreadable ones are listed, never dropped silently.
struct PictureSet {
  std::vector<std::string> files;      ///< paths
  std::vector<Unreadable> unreadable;  ///< path, reason
};

/// The files of a folder whose names end as a picture's do (in any case of letters), not those of folders below it: PNG and
/// JPEG files in `files`, other kinds (.webp, .gif, ...) and empty files in `unreadable`; anything else, captions say, is no
/// picture and left alone. Nothing is decoded: what is damaged shows when it is read (read_batches, Figure::unreadable).
/// Error(no_input) where the folder is missing or no folder.
PictureSet list_pictures(const std::string& folder);

/// A picture's bytes as a tensor, (H, W, channels) u8.
at::Tensor to_byte_tensor(const image::Image& picture);

/// Brings a decoded picture, turned to RGB, into the form that a network wants. Called on reading threads: image:: functions
/// and plain loops, not tensor operations, which would bring threads of their own.
using Prepare = std::function<at::Tensor(const image::Image& rgb)>;

/// Pictures that have been read and prepared.
struct PictureBatch {
  std::vector<at::Tensor> pictures;  ///< as `prepare` returned them
  std::vector<std::size_t> indices;  ///< their places in the list of files
};
/// Takes one batch; called on the caller's thread, in the order of the files.
using TakeBatch = std::function<void(const PictureBatch& batch)>;

/// Reads pictures, turned to RGB (alpha is dropped, as by Pillow's convert("RGB")), in batches of `batch_size`: while `take` works on
/// one, the next are decoded and prepared on other threads. Files that cannot be read come back as unreadable; any other error,
/// of `prepare` or `take`, is thrown. Looks at the stop flag; `label` names the progress on stderr ("" shows none).
std::vector<Unreadable> read_batches(const std::vector<std::string>& files, std::int64_t batch_size,
                                     const Prepare& prepare, const TakeBatch& take, const std::string& label = {});

}  // namespace atelier::metrics
