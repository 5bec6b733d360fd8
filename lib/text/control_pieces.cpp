#include "text/control_pieces.h"

#include <algorithm>
#include <array>

namespace atelier::text {
namespace {

constexpr auto kHtmlTags = std::to_array<std::string_view>(
    {"a",      "abbr",  "article", "aside",  "b",      "blockquote", "body",  "br",   "button", "caption",
     "code",   "col",   "dd",      "del",    "div",    "dl",         "dt",    "em",   "figure", "footer",
     "form",   "h1",    "h2",      "h3",     "h4",     "h5",         "h6",    "head", "header", "hr",
     "html",   "i",     "img",     "input",  "ins",    "kbd",        "label", "li",   "link",   "main",
     "meta",   "nav",   "ol",      "option", "p",      "pre",        "q",     "s",    "script", "section",
     "select", "small", "span",    "strike", "strong", "style",      "sub",   "sup",  "svg",    "table",
     "tbody",  "td",    "th",      "tfoot",  "thead",  "title",      "tr",    "u",    "ul",     "video"});

}  // namespace

bool is_marker(std::string_view piece) {
  if (piece.size() < 3) return false;
  if (piece.front() == '[' && piece.back() == ']') return true;
  if (piece.front() != '<' || piece.back() != '>') return false;
  std::string_view name = piece.substr(1, piece.size() - 2);
  if (name.starts_with('/')) name.remove_prefix(1);
  return std::find(kHtmlTags.begin(), kHtmlTags.end(), name) == kHtmlTags.end();
}

}  // namespace atelier::text
