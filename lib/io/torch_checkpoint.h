#pragma once

#include <memory>
#include <string>

#include "io/weight_source.h"

namespace atelier::io {

/// Whether a file's name says that torch.save wrote it: .ckpt, .pt, .pth, .bin.
bool is_torch_checkpoint(const std::string& path);

/// The tensors of a torch.save file (the ZIP layout of torch 1.6 and later), read by the restricted interpreter of pickle.h:
/// no code of the file ever runs. Nested dictionaries give names joined by dots; a "state_dict" at the top is the file's
/// whole content where it is there. Error(no_input), Error(data): another layout, a name that is not allowed, a tensor that
/// reaches beyond its storage.
std::shared_ptr<WeightSource> open_torch_checkpoint(const std::string& path);

}  // namespace atelier::io
