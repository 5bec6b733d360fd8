#pragma once

#include <functional>
#include <string>

namespace atelier::io {

/// Makes a folder whole or not at all: `fill` gets the path of a new one beside it, which takes its place when it returns.
/// Where anything fails, or throws, the new one is removed. Error(cannot_create) where there is something at `path` already
/// that is not an empty folder, before `fill` is called; Error(io).
void write_whole_folder(const std::string& path, const std::function<void(const std::string&)>& fill);

/// The check that it begins with.
void require_new_folder(const std::string& path);

}  // namespace atelier::io
