#include "report/page.h"

#include <fmt/format.h>

#include "base/sha256.h"
#include "image/write.h"
#include "report/text.h"

namespace atelier::report {
namespace {

// Okabe and Ito's colours, which those with any kind of colour vision can tell apart, the yellow darkened for white paper.
constexpr std::string_view kStyle = R"css(
:root { --ink: #1c1e21; --soft: #62666d; --line: #e3e5e8; --paper: #fff; --best: #e6f4ec;
  --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #cc79a7; --s4: #e69f00; --s5: #56b4e9; --s6: #8a6d00; --s7: #555; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a0a5ad; --line: #3a3e44; --paper: #17191c; --best: #1c3a2a;
  --s0: #4aa8e0; --s1: #f0823a; --s2: #2fc795; --s6: #d8b400; --s7: #aaa; } }
* { box-sizing: border-box; } [hidden] { display: none !important; }
body { margin: 0 auto; max-width: 1180px; padding: 28px 24px 64px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 10px; } p { max-width: 80ch; }
.soft { color: var(--soft); } code { font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px 5px 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); white-space: nowrap; } td { max-width: 420px; }
.number { text-align: right; white-space: nowrap; } .best { background: var(--best); font-weight: 600; }
.charts { display: flex; flex-wrap: wrap; gap: 24px; align-items: flex-start; }
.chart { max-width: 100%; height: auto; font: 12px system-ui, sans-serif; }
.chart .title { font-size: 14px; font-weight: 600; fill: var(--ink); }
.chart .label, .chart .value { fill: var(--ink); } .chart .tick { fill: var(--soft); font-size: 11px; }
.chart .grid { stroke: var(--line); } .chart .whisker { stroke: var(--ink); stroke-opacity: .65; }
.pictures td { padding: 3px; border: 0; text-align: center; } .pictures th { padding: 3px; text-align: center; font-size: 12px;
  white-space: normal; max-width: 150px; } .pictures td.prompt { text-align: left; width: 170px; font-size: 13px; vertical-align: middle; }
.pictures img { display: block; width: 128px; max-width: none; image-rendering: auto; border-radius: 3px; }
.ballot img { width: min(46vw, 512px); cursor: pointer; } .ballot td { padding: 8px; }
button { font: inherit; padding: 7px 16px; border: 1px solid var(--line); border-radius: 6px; background: var(--best); color: var(--ink); cursor: pointer; }
button:disabled { opacity: .45; cursor: default; } input { font: inherit; padding: 4px 8px; }
.failed { color: #c0392b; }
)css";

/// SHA-256 in base64, as a Content-Security-Policy names the script or style that may be used.
std::string policy_hash(std::string_view text) {
  const std::string hex = base::sha256_hex(text);
  std::string digest;
  for (std::size_t i = 0; i < hex.size(); i += 2) digest += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return "'sha256-" + base64(digest) + "'";
}

}  // namespace

std::string page(const std::string& title, const std::string& body, const std::string& script) {
  const std::string scripts = script.empty() ? "'none'" : policy_hash(script);
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src {}; "
      "script-src {}\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\">\n<title>{}</title>\n<style>{}</style>\n</head>\n"
      "<body>\n{}{}</body>\n</html>\n",
      policy_hash(kStyle), scripts, escape(title), kStyle, body,
      script.empty() ? "" : "<script>" + script + "</script>\n");
}

std::string data_uri(const image::Image& picture) {
  return "data:image/png;base64," + base64(image::encode_png(picture));
}

std::string to_html(const PictureGrid& grid) {
  std::string out = "<div class=\"wide\"><table class=\"pictures\">\n<thead><tr><th></th>";
  for (const std::string& heading : grid.headings) out += "<th>" + escape(heading) + "</th>";
  out += "</tr></thead>\n<tbody>\n";
  for (const PictureGrid::Row& row : grid.rows) {
    out += "<tr><td class=\"prompt\">" + escape(row.text) + "</td>";
    for (std::size_t i = 0; i < row.uris.size(); ++i) {
      const std::string what = i < grid.headings.size() ? grid.headings[i] + ": " + row.text : row.text;
      out += row.uris[i].empty() ? "<td></td>"
                                 : fmt::format("<td><img loading=\"lazy\" src=\"{}\" alt=\"{}\" title=\"{}\"></td>",
                                               row.uris[i], escape(what), escape(what));
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace atelier::report
