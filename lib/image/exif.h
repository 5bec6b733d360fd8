#pragma once

#include <string>
#include <string_view>

namespace atelier::image {

/// Within the room: the two things of an EXIF block (a TIFF file without pictures) that matter here.
struct Exif {
  int orientation = 1;       ///< 1 to 8
  std::string user_comment;  ///< UTF-8; empty where there is none
};

/// Never fails: what is damaged or out of bounds counts as absent.
Exif parse_exif(std::string_view tiff);

/// An EXIF block with this UserComment, as piexif and A1111 write it: big-endian TIFF, "UNICODE", UTF-16.
std::string make_exif(std::string_view user_comment);

}  // namespace atelier::image
