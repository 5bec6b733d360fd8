// sd-img2img: makes a picture from another. Flags -> ImageOptions -> one library call -> exit code.
#include "cli/image_run.h"

int main(int argc, char** argv) {
  using namespace atelier::cli;
  return image_main(argc, argv, "sd-img2img", "Make a picture from another with Stable Diffusion.", ImageTask::img2img);
}
