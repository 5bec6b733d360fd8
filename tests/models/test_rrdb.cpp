// RRDBNet against the network that scripts/fixtures/control.py writes from the papers.
#include <functional>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>

#include "models/rrdb/rrdb.h"
#include "models/seeded.h"
#include "models/tensor_source.h"
#include "support/doctest_last.h"
#include "support/errors.h"

namespace {

using namespace atelier;
using models::rrdb::Config;
using models::rrdb::RrdbNet;
using test::difference;

Config sizes(std::int64_t unshuffle, std::int64_t blocks) {
  return {.unshuffle = unshuffle, .features = 8, .growth = 4, .blocks = blocks};
}

/// The weights of a network as a file that calls them otherwise.
std::shared_ptr<test::TensorSource> file_of(const RrdbNet& net,
                                            const std::function<std::string(const std::string&)>& name) {
  auto source = std::make_shared<test::TensorSource>();
  for (const auto& entry : net.named_parameters())
    source->tensors[name(entry.key())] = test::seeded_weight("rrdb." + entry.key(), entry.value().sizes());
  return source;
}

std::string replaced(std::string text, std::initializer_list<std::pair<const char*, const char*>> pairs) {
  for (const auto& [from, to] : pairs)
    if (const auto at = text.find(from); at != std::string::npos) text.replace(at, std::string(from).size(), to);
  return text;
}

std::string as_is(const std::string& name) { return name; }
std::string repository(const std::string& name) {
  return replaced(name, {{"body.", "RRDB_trunk."},
                         {"rdb", "RDB"},
                         {"conv_RRDB_trunk", "trunk_conv"},
                         {"conv_up", "upconv"},
                         {"conv_hr", "HRconv"}});
}
std::string oldest(const std::string& name) {
  if (name.starts_with("body.")) {
    std::string inner = replaced(name, {{"body.", "model.1.sub."}, {"rdb", "RDB"}});
    return inner.insert(inner.rfind('.'), ".0");
  }
  return replaced(name, {{"conv_first", "model.0"},
                         {"conv_body", "model.1.sub.2"},
                         {"conv_up1", "model.3"},
                         {"conv_up2", "model.6"},
                         {"conv_hr", "model.8"},
                         {"conv_last", "model.10"}});
}

at::Tensor picture() { return test::seeded("rrdb.picture", {1, 3, 7, 9}, 0.5, 0.5); }

at::Tensor golden(const std::string& name) {
  static const auto source = io::WeightSource::open(std::string(ATELIER_TEST_DATA) + "/control/goldens.safetensors");
  return source->load(name, at::kFloat, at::kCPU);
}

RrdbNet loaded(const models::rrdb::File& file) {
  RrdbNet net(file.config);
  nn::load_parameters(net, *file.weights, nn::NameMap(), at::kFloat, at::kCPU);
  return net;
}

}  // namespace

TEST_CASE("pictures are enlarged as the papers' network does it, within 1e-5") {
  const at::NoGradGuard no_grad;
  struct Kind {
    const char* name;
    std::int64_t unshuffle, blocks;
  };
  for (const Kind& kind : {Kind{"rrdb.x4", 1, 2}, Kind{"rrdb.x2", 2, 1}, Kind{"rrdb.x1", 4, 1}}) {
    CAPTURE(kind.name);
    const RrdbNet shape(sizes(kind.unshuffle, kind.blocks));
    const auto net = loaded(models::rrdb::open_file(file_of(shape, as_is)));
    CHECK(net.config().scale() == 4 / kind.unshuffle);
    const double d = difference(net.forward(picture()), golden(kind.name));
    CHECK(d < 1e-5);
    MESSAGE(kind.name << ": largest difference " << d);
  }
}

TEST_CASE("the three spellings of names give the same network") {
  const at::NoGradGuard no_grad;
  const RrdbNet shape(sizes(1, 2));
  const auto expected = loaded(models::rrdb::open_file(file_of(shape, as_is))).forward(picture());
  const auto ema = [](const std::string& name) { return "params_ema." + name; };
  for (const auto& name : std::vector<std::function<std::string(const std::string&)>>{repository, oldest, ema}) {
    const auto file = models::rrdb::open_file(file_of(shape, name));
    CHECK(file.config.blocks == 2);
    CHECK(at::equal(loaded(file).forward(picture()), expected));
  }
}

TEST_CASE("sizes are read off the tensors: the published ones, other numbers of doublings") {
  const auto config_of = [](const Config& c, const auto& name) {
    const RrdbNet net(c);
    auto source = std::make_shared<test::TensorSource>();
    for (const auto& entry : net.named_parameters()) source->tensors[name(entry.key())] = entry.value();
    return models::rrdb::open_file(source).config;
  };
  const auto anime = config_of({.blocks = 6}, as_is);
  CHECK(anime.blocks == 6);
  CHECK(anime.features == 64);
  CHECK(anime.growth == 32);
  CHECK(anime.scale() == 4);
  CHECK(config_of({.unshuffle = 2}, as_is).scale() == 2);
  CHECK(config_of({.upsamplers = 1}, repository).scale() == 2);
  CHECK(config_of({.upsamplers = 3}, as_is).scale() == 8);
}

TEST_CASE("what is no RRDB network is refused by name") {
  const RrdbNet net(sizes(1, 1));
  const auto message = [&](const std::function<void(test::TensorSource&)>& change) {
    const auto source = file_of(net, as_is);
    change(*source);
    return test::error_of(base::ExitCode::data, [&] { models::rrdb::open_file(source); });
  };
  CHECK(test::contains(message([](auto& s) { s.tensors.clear(), s.tensors["body.0.weight"] = at::ones({1}); }),
                       "compact"));
  CHECK(test::contains(message([](auto& s) { s.tensors.clear(); }), "not an RRDB"));
  CHECK(test::contains(message([](auto& s) { s.tensors["body.0.rdb1.conv1x1.weight"] = at::ones({1}); }), "1 of its"));
  CHECK(test::contains(message([](auto& s) {
                         s.tensors["conv_first.weight"] = at::ones({8, 4, 3, 3});
                       }),
                       "4 channels"));
  CHECK(test::contains(message([](auto& s) { s.tensors["conv_first.weight"] = at::ones({8}); }), "no convolution"));
  const auto cut = file_of(net, as_is);
  cut->tensors.erase("conv_hr.bias");
  const auto file = models::rrdb::open_file(cut);
  CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { loaded(file); }), "conv_hr.bias"));
}
