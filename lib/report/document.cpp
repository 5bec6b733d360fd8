#include "report/document.h"

#include "report/text.h"

namespace atelier::report {
namespace {

struct HtmlWriter {
  std::string out;

  void operator()(const Heading& heading) { out += "<h2>" + escape(heading.text) + "</h2>\n"; }
  void operator()(const Paragraph& paragraph) {
    const char* const begin[] = {"<p>", "<p class=\"finding\">", "<p class=\"failed\">"};
    out += begin[static_cast<int>(paragraph.tone)] + escape(paragraph.text) + "</p>\n";
  }
  void operator()(const Facts& facts) {
    out += "<dl class=\"facts\">\n";
    for (const auto& [name, value] : facts.entries)
      out += "<div><dt>" + escape(name) + "</dt><dd>" + escape(value) + "</dd></div>\n";
    out += "</dl>\n";
  }
  void operator()(const Table& table) { out += to_html(table); }
  void operator()(const Charts& charts) {
    out += "<div class=\"charts\">\n";
    for (const std::string& svg : charts.svg) out += svg;
    out += "</div>\n";
  }
  void operator()(const Pictures& pictures) { out += to_html(pictures.grid); }
};

/// A path within <...>, where blanks are allowed and only these characters are not.
std::string link(const std::string& path) {
  std::string out = "<";
  for (const char c : path) {
    if (c == '<' || c == '>' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out + ">";
}

struct MarkdownWriter {
  std::string out;

  void operator()(const Heading& heading) { out += "## " + markdown_text(heading.text) + "\n\n"; }
  void operator()(const Paragraph& paragraph) {
    const std::string text = markdown_text(paragraph.text);
    out += (paragraph.tone == Tone::alarm ? "**" + text + "**" : text) + "\n\n";
  }
  void operator()(const Facts& facts) {
    for (const auto& [name, value] : facts.entries)
      out += "- " + markdown_text(name) + ": " + markdown_text(value) + "\n";
    out += "\n";
  }
  void operator()(const Table& table) { out += to_markdown(table) + "\n"; }
  void operator()(const Charts&) {}
  void operator()(const Pictures& pictures) {
    out += "| |";
    for (const std::string& heading : pictures.grid.headings) out += " " + markdown_text(heading) + " |";
    out += "\n|" + std::string(" --- |");
    for (std::size_t i = 0; i < pictures.grid.headings.size(); ++i) out += " --- |";
    out += "\n";
    for (std::size_t row = 0; row < pictures.grid.rows.size(); ++row) {
      out += "| " + markdown_text(pictures.grid.rows[row].text) + " |";
      for (const std::string& path : pictures.paths[row]) out += path.empty() ? " |" : " ![](" + link(path) + ") |";
      out += "\n";
    }
    out += "\n";
  }
};

}  // namespace

std::string to_html(const Document& document) {
  HtmlWriter writer{"<h1>" + escape(document.title) + "</h1>\n"};
  for (const Block& block : document.blocks) std::visit(writer, block);
  return page(document.title, writer.out);
}

std::string to_markdown(const Document& document) {
  MarkdownWriter writer{"# " + markdown_text(document.title) + "\n\n"};
  for (const Block& block : document.blocks) std::visit(writer, block);
  return writer.out;
}

}  // namespace atelier::report
