// DreamBooth's templates, and steps and rates by the number of pictures.
#include "train/image/dreambooth.h"

#include "support/doctest_last.h"
#include "support/errors.h"

using namespace atelier;
using namespace atelier::train::image;
using base::ExitCode;
using test::contains;
using test::error_of;

TEST_CASE("templates are filled in, or refused") {
  CHECK(fill_template("a photo of {token} {class}", "sks", "dog") == "a photo of sks dog");
  CHECK(fill_template("a photo of {token} {class}", "", "dog") == "a photo of dog");
  CHECK(fill_template("{token} {class}, outside", "", "dog") == "dog, outside");
  CHECK(fill_template("a {class} called {token}", "", "dog") == "a dog called");
  CHECK(fill_template("{class}/{token}", "sks", "") == "/sks");
  const auto refused = [](const std::string& text) {
    return error_of(ExitCode::usage, [&] { fill_template(text, "sks", "dog"); });
  };
  CHECK(contains(refused("a photo of a dog"), "has no {token}"));
  CHECK(contains(refused("a photo of {tok}"), "its names are {token} and {class}"));
  CHECK(contains(refused("a photo of {token"), "its names are"));
}

TEST_CASE("steps and rates: diffusers' for 4 pictures, more for more, within limits") {
  CHECK(dreambooth_plan({.pictures = 4, .prior = false}).steps == 400);
  CHECK(dreambooth_plan({.pictures = 4}).steps == 800);
  CHECK(dreambooth_plan({.pictures = 4, .batch_size = 3}).steps == 267);
  CHECK(dreambooth_plan({.pictures = 1, .prior = false}).steps == 200);
  CHECK(dreambooth_plan({.pictures = 300}).steps == 4000);
  CHECK(dreambooth_plan({.pictures = 4}).unet_lr == 5e-6);
  CHECK(dreambooth_plan({.pictures = 4, .text_encoder = true}).unet_lr == 2e-6);
  CHECK(dreambooth_plan({.pictures = 4, .text_encoder = true}).text_encoder_lr == 2e-6);
  CHECK(dreambooth_plan({.pictures = 4, .full = false}).unet_lr == 1e-4);
  CHECK(dreambooth_plan({.pictures = 4, .full = false}).text_encoder_lr == 5e-5);
  CHECK(dreambooth_plan({.pictures = 2}).unet_lr == 2.5e-6);
}
