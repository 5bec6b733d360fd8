#pragma once

#include <string>
#include <utility>
#include <vector>

namespace atelier::report {

struct Column {
  std::string title;
  bool number = false;  ///< set to the right
};

/// One place of a table: plain text, or the best of its column.
struct Cell {
  std::string text;
  bool best = false;

  Cell(std::string t = {}, bool b = false) : text(std::move(t)), best(b) {}
  Cell(const char* t) : text(t) {}
};

/// Rows as they are written into reports, in three languages. Every row has as many cells as there are columns.
struct Table {
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;
};

/// Plain text in Markdown, on one line: what would be read as markup is escaped.
std::string markdown_text(const std::string& text);
std::string to_markdown(const Table& table);  ///< GitHub's pipes; the best is bold
std::string to_html(const Table& table);      ///< <table>; the best has the class "best"
/// RFC 4180 with "\n" at the ends of lines. A field that a spreadsheet would take for a formula (=, +, -, @ first, and no number) gets an
/// apostrophe before it.
std::string to_csv(const Table& table);

}  // namespace atelier::report
