#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "cli/image_options.h"
#include "image/image.h"
#include "image/resize.h"

namespace atelier::cli {

/// One --control: a ControlNet, and the picture that it is to follow.
struct ControlRequest {
  std::string network, picture;  ///< files; the ControlNet may be a folder
  double scale = 1, start = 0, end = 1;
  bool canny = false;
  int canny_low = 100, canny_high = 200;
};

/// Reads --control and what goes with it. FILE:IMAGE[:SCALE] is taken from its end, and names with colons are known by what
/// is there. Error(usage): too few parts, a scale that is none or lies outside 0 to 100, a start that is not before its end, as
/// many preparations, starts or ends as neither one nor all; Error(no_input): a file that is not there.
std::vector<ControlRequest> control_requests(const ImageOptions& options);

/// The picture as the ControlNet gets it, RGB of this size: edges first where they are asked for, found at the smaller of both
/// sizes (small pictures have no sharp edges when enlarged, large ones none left when their edges are made smaller).
image::Image prepare_control(const image::Image& picture, const ControlRequest& request, int width, int height,
                             image::ResizeMode mode);

/// What records, metadata and --manifest say of each.
base::Json describe_controls(const std::vector<ControlRequest>& requests);

/// The same of one of them in the words of A1111's extension, whose keys in "parameters" are "ControlNet 0" and so on.
std::string control_text(const base::Json& described);

}  // namespace atelier::cli
