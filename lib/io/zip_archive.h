#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>

namespace atelier::io {

/// The entries of a ZIP file in memory, all of them stored (not compressed), as torch.save writes them.
///
/// The format: local headers with the data behind them, a central directory of 46-byte records, then its end record of
/// 22 bytes (and for large files a ZIP64 end record with its locator before that). Checked: every offset and size against the
/// file, with overflow; that central and local header agree in name; that no name comes twice. Error(data) otherwise, and for
/// compressed or encrypted entries. `name` (the file's) starts every error.
/// Reference: APPNOTE.TXT 6.3.10.
std::map<std::string, std::span<const std::byte>> read_zip(std::span<const std::byte> file, const std::string& name);

}  // namespace atelier::io
