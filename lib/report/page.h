#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "image/image.h"

namespace atelier::report {

/// A whole HTML document that needs nothing beside itself: the style sheet is in it, and a policy that lets it load nothing from
/// anywhere. `body` is HTML; `script`, where there is one, the only script that may run.
std::string page(const std::string& title, const std::string& body, const std::string& script = {});

/// The picture as a data URI of a PNG without any text in it, so that nothing tells how it was made.
std::string data_uri(const image::Image& picture);

/// Pictures side by side: one row for each text, one column for each heading; an empty URI is a gap.
struct PictureGrid {
  std::vector<std::string> headings;
  struct Row {
    std::string text;
    std::vector<std::string> uris;
  };
  std::vector<Row> rows;
};
std::string to_html(const PictureGrid& grid);

}  // namespace atelier::report
