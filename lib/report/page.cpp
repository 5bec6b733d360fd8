#include "report/page.h"

#include <fmt/format.h>

#include "base/sha256.h"
#include "image/write.h"
#include "report/text.h"

namespace atelier::report {
namespace {

// Okabe and Ito's colours, which those with any kind of colour vision can tell apart, the yellow darkened for white paper.
constexpr std::string_view kStyle = R"css(
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #62666d; --line: #e3e5e8; --paper: #fff; --card: #f6f7f9; --best: #dff3e8;
  --accent: #0072b2; --alarm: #b3261e; --alarm-card: #fdecea;
  --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #cc79a7; --s4: #e69f00; --s5: #56b4e9; --s6: #8a6d00; --s7: #555; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a0a5ad; --line: #33373d; --paper: #15171a; --card: #1e2125;
  --best: #1a4130; --accent: #4aa8e0; --alarm: #ff8a80; --alarm-card: #3b1f1d;
  --s0: #4aa8e0; --s1: #f0823a; --s2: #2fc795; --s6: #d8b400; --s7: #aaa; } }
* { box-sizing: border-box; } [hidden] { display: none !important; }
body { margin: 0 auto; max-width: 1240px; padding: 32px 28px 72px; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 16px; letter-spacing: -.01em; }
h2 { font-size: 19px; margin: 44px 0 12px; padding-top: 18px; border-top: 1px solid var(--line); }
p { max-width: 92ch; margin: 8px 0; } .soft { color: var(--soft); }
.finding, .failed { padding: 8px 14px; border-left: 4px solid var(--accent); border-radius: 0 6px 6px 0; background: var(--card); }
.failed { color: var(--alarm); border-color: var(--alarm); background: var(--alarm-card); }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 10px 24px; margin: 0 0 16px; padding: 14px 18px;
  background: var(--card); border-radius: 8px; }
.facts dt { color: var(--soft); font-size: 12px; } .facts dd { margin: 0; font-size: 14px; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: 14px 0; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 14px; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); white-space: nowrap; font-size: 13px; } td { max-width: 420px; }
tbody tr:hover td { background: var(--card); }
.number { text-align: right; white-space: nowrap; } td.best, tbody tr:hover td.best { background: var(--best); font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(500px, 100%), 1fr)); gap: 28px 40px; align-items: start; margin: 20px 0; }
.chart { width: 100%; max-width: 720px; height: auto; font: 12px system-ui, sans-serif; }
.chart .title { font-size: 14px; font-weight: 600; fill: var(--ink); }
.chart .label, .chart .value { fill: var(--ink); } .chart .tick { fill: var(--soft); font-size: 11px; }
.chart .grid { stroke: var(--line); } .chart .whisker { stroke: var(--ink); stroke-opacity: .65; }
.pictures { width: 100%; table-layout: fixed; } .pictures td { padding: 3px; border: 0; text-align: center; min-width: 78px; }
.pictures th { padding: 3px; border: 0; text-align: center; font-size: 12px; white-space: normal; vertical-align: bottom; }
.pictures td.prompt { position: sticky; left: 0; text-align: left; width: 150px; min-width: 130px; padding-right: 12px; font-size: 13px;
  line-height: 1.35; vertical-align: middle; background: var(--paper); }
.pictures th:first-child { width: 150px; } .pictures img { display: block; width: 100%; max-width: 224px; margin: 0 auto; border-radius: 4px; }
.ballot { width: auto; table-layout: auto; margin: 0 auto; } .ballot td { padding: 8px; } .ballot img { width: min(44vw, 512px); max-width: none; cursor: pointer; }
.ballot img:hover { outline: 3px solid var(--accent); outline-offset: 2px; } .centred { text-align: center; max-width: none; }
button { font: inherit; padding: 8px 18px; border: 1px solid var(--line); border-radius: 8px; background: var(--card); color: var(--ink); cursor: pointer; }
button:hover { border-color: var(--accent); } button:disabled { opacity: .45; cursor: default; }
input { font: inherit; padding: 5px 9px; border: 1px solid var(--line); border-radius: 6px; background: var(--paper); color: var(--ink); }
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
