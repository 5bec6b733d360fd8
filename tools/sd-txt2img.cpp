// sd-txt2img: makes pictures from text. Flags -> ImageOptions -> one library call -> exit code.
#include "cli/image_run.h"

int main(int argc, char** argv) {
  using namespace atelier::cli;
  return image_main(argc, argv, "sd-txt2img", "Make pictures from text with Stable Diffusion.", ImageTask::txt2img);
}
