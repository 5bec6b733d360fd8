#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/seed.h"

namespace atelier::train::image {

/// What is done to a caption each time that its picture comes up: kohya's rules, in this order.
struct CaptionOptions {
  std::string prefix = {}, suffix = {};   ///< put before and behind, with a blank between
  double dropout = 0;                     ///< probability of an empty caption
  std::int64_t dropout_every_epochs = 0;  ///< in every so many-th epoch all captions are empty; 0: never
  bool wildcards = false;           ///< one line of several, and one word of `{a|b}`, are drawn; `{{` is a bracket
  bool shuffle = false;             ///< tags change places
  double tag_dropout = 0;           ///< probability that a tag is left out
  std::int64_t keep_tokens = 0;     ///< first tags that stay where they are, and are never left out
  std::string separator = ",";      ///< between tags; written ", " in the end
  std::string keep_separator = {};  ///< tags before it stay, and those behind a second one; in place of keep_tokens
  std::string secondary_separator = {};  ///< within a tag; becomes `separator` in the end

  /// Whether a caption comes in more forms than can be listed (shuffled, drawn, thinned out); dropout alone is none.
  bool varies() const { return wildcards || shuffle || tag_dropout > 0; }
  bool operator==(const CaptionOptions&) const = default;
};

/// The caption of a picture as it is to be learnt this time. Draws from `generator` only what the options ask for.
/// Reference: sd-scripts, BaseDataset.process_caption.
std::string vary_caption(std::string_view caption, const CaptionOptions& options, std::int64_t epoch,
                         base::Generator& generator);

/// A caption file's text without a byte order mark and blanks at its ends; lines that are not blank, joined by newlines.
/// Error(no_input): unreadable. Error(data): above 1 MiB, not UTF-8 (another encoding is named where a mark tells it).
std::string read_caption(const std::string& path);

/// Whether a caption has a `{a|b}`.
bool has_wildcard(std::string_view caption);

/// Its tags, between commas, of the first line.
std::vector<std::string> caption_tags(std::string_view caption);

/// Names a caption's entry in a cache: a hash of it.
std::string caption_key(std::string_view caption);

}  // namespace atelier::train::image
