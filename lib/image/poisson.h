#pragma once

#include "image/image.h"

namespace atelier::image {

/// Within the room: the painted picture with its gradients kept where the mask is not 0, and the original's values
/// taken at the border of that region (Perez, Gangnet, Blake 2003, "Poisson image editing", equation 7). At the edge
/// of the picture, where there is no border, its gradient goes on as painted; without any border at all the painted
/// picture comes back. RGB, 0 to 255, not limited to that range.
FloatImage solve_poisson(const Image& original, const Image& painted, const Mask& mask);

}  // namespace atelier::image
