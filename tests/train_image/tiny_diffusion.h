#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "models/adapters/adapters.h"
#include "models/seeded.h"
#include "models/unet/unet.h"
#include "models/vae/autoencoder.h"
#include "schedulers/config.h"
#include "text/clip_tokenizer.h"
#include "train/image/conditions.h"

namespace atelier::test {

/// The networks of one of the tiny random models of scripts/fixtures/image_pipelines.py.
struct TinyDiffusion {
  std::shared_ptr<models::unet::UNet> unet;
  std::shared_ptr<models::vae::Autoencoder> vae;
  std::vector<train::image::TextTower> towers;
  schedulers::Config scheduler;
  bool xl = false;

  /// As pipelines::adapter_parts.
  std::vector<models::adapters::Part> parts() const {
    std::vector<models::adapters::Part> all{{"unet", unet, &unet->config()}};
    for (std::size_t i = 0; i < towers.size(); ++i)
      all.push_back({i == 0 ? "text_encoder" : "text_encoder_2", towers[i].network, nullptr});
    return all;
  }
};

inline TinyDiffusion tiny_diffusion(const std::string& name) {
  static const base::Json configs =
      base::read_json_file(std::string(ATELIER_TEST_DATA) + "/image_pipelines/configs.json");
  const base::Json& files = configs.at(name);
  TinyDiffusion model;
  model.unet = std::make_shared<models::unet::UNet>(models::unet::parse_config(files.at("unet/config.json"), "unet"));
  fill_seeded(*model.unet);
  model.vae = models::vae::make_autoencoder(files.at("vae/config.json"), "vae");
  fill_seeded(*model.vae);
  const auto tokenizer = text::ClipTokenizer::open(std::string(ATELIER_TEST_DATA) + "/clip_text/small");
  for (const char* part : {"text_encoder", "text_encoder_2"}) {
    const std::string file = std::string(part) + "/config.json";
    if (!files.contains(file)) continue;
    auto network = std::make_shared<models::clip::TextEncoder>(models::clip::parse_text_config(files.at(file), part));
    fill_seeded(*network);
    model.towers.push_back({tokenizer, network});
  }
  model.xl = model.towers.size() == 2;
  model.scheduler = schedulers::parse_config(files.at("scheduler/scheduler_config.json"), "scheduler",
                                             schedulers::Kind::ddpm);
  return model;
}

}  // namespace atelier::test
