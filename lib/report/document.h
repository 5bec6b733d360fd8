#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "report/page.h"
#include "report/table.h"

namespace atelier::report {

struct Heading {
  std::string text;
};
enum class Tone { plain, finding, alarm };  ///< what is only said; what was found out; what went wrong
struct Paragraph {
  std::string text;
  Tone tone = Tone::plain;
};
/// What was measured, with what: names and values that are read one by one, if at all.
struct Facts {
  std::vector<std::pair<std::string, std::string>> entries;
};
/// Charts as SVG elements, side by side where there is room. Only in HTML: their numbers are in a table too.
struct Charts {
  std::vector<std::string> svg;
};
/// Pictures with the same text in each row. `uris` of the grid go into HTML; `paths`, of the same shape, into Markdown.
struct Pictures {
  PictureGrid grid;
  std::vector<std::vector<std::string>> paths;
};
using Block = std::variant<Heading, Paragraph, Facts, Table, Charts, Pictures>;

/// A report that is written as a page and as Markdown from the same blocks.
struct Document {
  std::string title;
  std::vector<Block> blocks;
};
std::string to_html(const Document& document);
std::string to_markdown(const Document& document);

}  // namespace atelier::report
