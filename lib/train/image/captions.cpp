#include "train/image/captions.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/sha256.h"
#include "io/file_system.h"
#include "text/utf8.h"
#include "train/draws.h"

namespace atelier::train::image {
namespace {

using base::Error;
using base::ExitCode;

constexpr std::size_t kMaxBytes = 1u << 20;
constexpr std::string_view kBlanks = " \t\r\n\f\v";

std::string_view stripped(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

std::vector<std::string_view> split(std::string_view text, std::string_view separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t at = separator.empty() ? std::string_view::npos : text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + separator.size());
  }
}

std::string first_line(std::string_view caption) { return std::string(caption.substr(0, caption.find('\n'))); }

/// Where the wildcard that begins at `open`, a `{`, ends; npos where it is none. As kohya's `\{([^}]+)\}`.
std::size_t wildcard_end(std::string_view text, std::size_t open) {
  const std::size_t close = text.find('}', open);
  return close == std::string_view::npos || close == open + 1 ? std::string_view::npos : close;
}

/// `{a|b}` becomes a or b; `{{` and `}}` become single brackets.
std::string choose_wildcards(std::string_view text, base::Generator& generator) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string_view pair = text.substr(i, 2);
    if (pair == "{{" || pair == "}}") {
      result += text[i++];
      continue;
    }
    const std::size_t end = text[i] == '{' ? wildcard_end(text, i) : std::string_view::npos;
    if (end == std::string_view::npos) {
      result += text[i];
      continue;
    }
    const auto choices = split(text.substr(i + 1, end - i - 1), "|");
    result += choices[draw_below(generator, choices.size())];
    i = end;
  }
  return result;
}

struct Tags {
  std::vector<std::string_view> fixed, loose, fixed_end;
};

Tags sorted_tags(std::string_view caption, const CaptionOptions& options) {
  Tags tags;
  const auto add = [&](std::vector<std::string_view>& to, std::string_view part) {
    for (const std::string_view tag : split(part, options.separator))
      if (!stripped(tag).empty()) to.push_back(stripped(tag));
  };
  if (!options.keep_separator.empty() && caption.find(options.keep_separator) != std::string_view::npos) {
    const auto parts = split(caption, options.keep_separator);
    add(tags.fixed, parts[0]);
    add(tags.loose, parts[1]);
    for (std::size_t i = 2; i < parts.size(); ++i) add(tags.fixed_end, parts[i]);
    return tags;
  }
  add(tags.loose, caption);
  const auto kept = tags.loose.begin() + std::min<std::ptrdiff_t>(options.keep_tokens, std::ssize(tags.loose));
  tags.fixed.assign(tags.loose.begin(), kept);
  tags.loose.erase(tags.loose.begin(), kept);
  return tags;
}

std::string rearranged(const std::string& caption, const CaptionOptions& options, base::Generator& generator) {
  Tags tags = sorted_tags(caption, options);
  if (options.shuffle) shuffle(tags.loose, generator);
  if (options.tag_dropout > 0)
    std::erase_if(tags.loose, [&](std::string_view) { return base::uniform(generator) < options.tag_dropout; });
  std::vector<std::string_view> all = tags.fixed;
  all.insert(all.end(), tags.loose.begin(), tags.loose.end());
  all.insert(all.end(), tags.fixed_end.begin(), tags.fixed_end.end());
  return fmt::format("{}", fmt::join(all, ", "));
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

bool is_dropped(const CaptionOptions& options, std::int64_t epoch, base::Generator& generator) {
  if (options.dropout > 0 && base::uniform(generator) < options.dropout) return true;
  return options.dropout_every_epochs > 0 && (epoch + 1) % options.dropout_every_epochs == 0;
}

/// What a byte order mark says, for the message.
const char* marked_encoding(std::string_view bytes) {
  if (bytes.starts_with(std::string_view("\xFF\xFE\0\0", 4)) || bytes.starts_with(std::string_view("\0\0\xFE\xFF", 4)))
    return "UTF-32";
  if (bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF")) return "UTF-16";
  return nullptr;
}

}  // namespace

std::string vary_caption(std::string_view text, const CaptionOptions& options, std::int64_t epoch,
                         base::Generator& generator) {
  if (is_dropped(options, epoch, generator)) return {};
  std::string caption(text);
  if (!options.prefix.empty()) caption = options.prefix + " " + caption;
  if (!options.suffix.empty()) caption += " " + options.suffix;
  if (options.wildcards) {
    const auto lines = split(caption, "\n");
    caption = choose_wildcards(lines[lines.size() > 1 ? draw_below(generator, lines.size()) : 0], generator);
  } else {
    caption = first_line(caption);
  }
  if (options.shuffle || options.tag_dropout > 0) {
    caption = rearranged(caption, options, generator);
  } else if (!options.keep_separator.empty() && caption.find(options.keep_separator) != std::string::npos) {
    caption = rearranged(caption, options, generator);  // in the same order: nobody should learn the mark itself
  }
  if (!options.secondary_separator.empty()) replace_all(caption, options.secondary_separator, options.separator);
  return caption;
}

std::string read_caption(const std::string& path) {
  const std::string bytes = io::read_file(path, kMaxBytes);
  if (const char* encoding = marked_encoding(bytes))
    throw Error(ExitCode::data, fmt::format("{}: is {}, captions are UTF-8", path, encoding),
                "iconv -f UTF-16 -t UTF-8 converts it");
  std::string_view text = bytes;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  if (!text::is_utf8(text))
    throw Error(ExitCode::data, fmt::format("{}: is not valid UTF-8: another encoding?", path),
                "iconv -f WINDOWS-1252 -t UTF-8, or the like, converts it");
  std::string caption;
  for (const std::string_view line : split(text, "\n")) {
    if (stripped(line).empty()) continue;
    if (!caption.empty()) caption += '\n';
    caption += stripped(line);
  }
  return caption;
}

bool has_wildcard(std::string_view caption) {
  for (std::size_t i = 0; i < caption.size(); ++i) {
    if (caption.substr(i, 2) == "{{") {
      ++i;
      continue;
    }
    const std::size_t end = caption[i] == '{' ? wildcard_end(caption, i) : std::string_view::npos;
    if (end == std::string_view::npos) continue;
    if (caption.substr(i, end - i).find('|') != std::string_view::npos) return true;
    i = end;
  }
  return false;
}

std::vector<std::string> caption_tags(std::string_view caption) {
  std::vector<std::string> tags;
  for (const std::string_view tag : split(caption.substr(0, caption.find('\n')), ","))
    if (!stripped(tag).empty()) tags.emplace_back(stripped(tag));
  return tags;
}

std::string caption_key(std::string_view caption) { return base::sha256_hex(caption); }

}  // namespace atelier::train::image
