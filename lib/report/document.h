#pragma once

#include <string>
#include <variant>
#include <vector>

#include "report/page.h"
#include "report/table.h"

namespace atelier::report {

struct Heading {
  std::string text;
};
struct Paragraph {
  std::string text;
  bool alarm = false;  ///< what went wrong
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
using Block = std::variant<Heading, Paragraph, Table, Charts, Pictures>;

/// A report that is written as a page and as Markdown from the same blocks.
struct Document {
  std::string title;
  std::vector<Block> blocks;
};
std::string to_html(const Document& document);
std::string to_markdown(const Document& document);

}  // namespace atelier::report
