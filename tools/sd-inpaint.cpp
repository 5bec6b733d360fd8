// sd-inpaint: repaints a part of a picture. Flags -> ImageOptions -> one library call -> exit code.
#include "cli/image_run.h"

int main(int argc, char** argv) {
  using namespace atelier::cli;
  return image_main(argc, argv, "sd-inpaint", "Repaint a part of a picture with Stable Diffusion.", ImageTask::inpaint);
}
