// Texts, tables, charts and pages of reports.
#include <doctest/doctest.h>

#include "report/chart.h"
#include "report/document.h"
#include "report/text.h"

namespace {

using namespace atelier;
using namespace atelier::report;

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("text from outside cannot leave its place in a page") {
  CHECK(escape("<img src='x' onerror=\"y\"> & z") == "&lt;img src=&#39;x&#39; onerror=&quot;y&quot;&gt; &amp; z");
  CHECK(escape("größer 日本 😀\n") == "größer 日本 😀\n");
  CHECK(escape(std::string("a\x1b[31m\0b\xff\xc0\xaf\xed\xa0\x80", 14)) ==
        "a\uFFFD[31m\uFFFDb\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
  const std::string html = to_html(Table{{{"<h>"}}, {{Cell("</td><script>")}}});
  CHECK(has(html, "&lt;/td&gt;&lt;script&gt;"));
  CHECK(!has(html, "<script"));
}

TEST_CASE("base64 is RFC 4648's") {
  const std::pair<const char*, const char*> cases[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : cases) CHECK(base64(bytes) == text);
}

TEST_CASE("numbers have four digits, sizes their units") {
  CHECK(number(0) == "0");
  CHECK(number(0.0123456) == "0.01235");
  CHECK(number(31.2567) == "31.26");
  CHECK(number(4821.4) == "4821");
  CHECK(number(-2.5) == "-2.500");
  CHECK(number(1.5e7) == "1.500e+07");
  CHECK(number(0.0 / 0.0 * -1) == "-");
  CHECK(bytes(17) == "17 bytes");
  CHECK(bytes(1536) == "1.5 KiB");
  CHECK(bytes(200.0 * 1024 * 1024) == "200 MiB");
}

TEST_CASE("a table in three languages") {
  const Table table{{{"Name"}, {"Value", true}}, {{"a|b_c", "1.5"}, {"=1+1", Cell("2", true)}, {"x, \"y\"", "-3"}}};
  CHECK(to_markdown(table) ==
        "| Name | Value |\n| --- | ---: |\n| a\\|b\\_c | 1.5 |\n| =1+1 | **2** |\n| x, \"y\" | -3 |\n");
  CHECK(to_csv(table) == "Name,Value\na|b_c,1.5\n'=1+1,2\n\"x, \"\"y\"\"\",-3\n");
  CHECK(has(to_html(table), "<td class=\"number best\">2</td>"));
}

TEST_CASE("ticks are round and enclose what is shown") {
  CHECK(ticks(0, 9.3, 5) == std::vector<double>{0, 2, 4, 6, 8, 10});
  const auto narrow = ticks(20.1, 20.4, 4);
  CHECK(narrow.front() <= 20.1);
  CHECK(narrow.back() >= 20.4);
  CHECK(ticks(5, 5, 4).size() >= 2);
}

TEST_CASE("charts show every value with its number, and leave out what is none") {
  BarChart bars{"Time", "seconds", {{"a<b", 2, std::pair{1.5, 3.0}, 0}, {"c", 0.0 / 0.0, {}, 1}}};
  const std::string svg = to_svg(bars);
  CHECK(has(svg, "<title>a&lt;b: 2.000 (1.500 to 3.000) seconds</title>"));
  CHECK(!has(svg, "nan"));
  bars.bars.erase(bars.bars.begin());
  CHECK(to_svg(bars).empty());
  Plot plot{"Cost",
            "s",
            "FID",
            {{"one", {{1, 10, {}, "p"}, {2, 8, std::pair{7.0, 9.0}, "q"}}}, {"two", {{1.5, 9, {}, "r"}}}},
            true};
  const std::string lines = to_svg(plot);
  CHECK(has(lines, "<polyline"));
  CHECK(has(lines, ">one</text>"));
  CHECK(has(lines, "<title>q: 2.000, 8.000 (7.000 to 9.000)</title>"));
  CHECK(to_svg(Plot{}).empty());
}

TEST_CASE("a page loads nothing and runs the one script that it names") {
  const std::string plain = page("T & U", "<p>x</p>");
  CHECK(has(plain, "<title>T &amp; U</title>"));
  CHECK(has(plain, "default-src 'none'"));
  CHECK(has(plain, "script-src 'none'"));
  CHECK(!has(plain, "http://"));
  // openssl dgst -sha256 -binary | base64
  CHECK(has(page("T", "", "alert(1)"), "script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"));
}

TEST_CASE("a picture travels without its texts") {
  image::Image picture(3, 2, 3, 7);
  const std::string uri = data_uri(picture), head = "data:image/png;base64,";
  REQUIRE(uri.starts_with(head));
  CHECK(!has(uri, "tEXt"));
}

TEST_CASE("a document is written as a page and as Markdown") {
  Document document{"Title", {}};
  document.blocks.push_back(Heading{"Part"});
  document.blocks.push_back(Paragraph{"It *failed*", Tone::alarm});
  document.blocks.push_back(Facts{{{"Seed", "<7>"}, {"Device", "cpu"}}});
  document.blocks.push_back(Pictures{{{"one", "two"}, {{"a cat", {"data:x", ""}}}}, {{"p/a b.png", ""}}});
  const std::string html = to_html(document), markdown = to_markdown(document);
  CHECK(has(html, "<h2>Part</h2>"));
  CHECK(has(html, "<p class=\"failed\">It *failed*</p>"));
  CHECK(has(html, "<dt>Seed</dt><dd>&lt;7&gt;</dd>"));
  CHECK(has(html, "alt=\"one: a cat\""));
  CHECK(markdown ==
        "# Title\n\n## Part\n\n**It \\*failed\\***\n\n- Seed: \\<7>\n- Device: cpu\n\n| | one | two |\n| --- | --- | --- |\n| a cat | ![](<p/a b.png>) "
        "| |\n\n");
}
