#include "models/lpips/lpips.h"

#include <array>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "base/error.h"

namespace atelier::models::lpips {
namespace {

constexpr double kEps = 1e-10;  // keeps a pixel without features from being divided by 0

/// A layer of the trunk, by its number in torchvision's `features`.
struct Spec {
  enum class Kind { conv, pool, fire } kind;
  std::int64_t number;
  std::int64_t in, out, kernel, stride,
      padding;  ///< fire: out is that of each of its two halves, kernel the squeezed channels
  bool tap;     ///< a linear layer looks at its result
};

Spec conv(std::int64_t number, std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
          std::int64_t padding, bool tap = true) {
  return {Spec::Kind::conv, number, in, out, kernel, stride, padding, tap};
}
Spec pool(std::int64_t number, std::int64_t kernel) { return {Spec::Kind::pool, number, 0, 0, kernel, 2, 0, false}; }
Spec fire(std::int64_t number, std::int64_t in, std::int64_t squeezed, std::int64_t expanded, bool tap = true) {
  return {Spec::Kind::fire, number, in, expanded, squeezed, 1, 0, tap};
}

std::vector<Spec> alex() {
  return {conv(0, 3, 64, 11, 4, 2),   pool(2, 3),
          conv(3, 64, 192, 5, 1, 2),  pool(5, 3),
          conv(6, 192, 384, 3, 1, 1), conv(8, 384, 256, 3, 1, 1),
          conv(10, 256, 256, 3, 1, 1)};
}

std::vector<Spec> vgg() {
  std::vector<Spec> all;
  std::int64_t number = 0, in = 3;
  constexpr std::array<std::array<std::int64_t, 2>, 5> stages{{{2, 64}, {2, 128}, {3, 256}, {3, 512}, {3, 512}}};
  for (const auto& [layers, out] : stages) {
    if (number > 0) all.push_back(pool(number++, 2));
    for (std::int64_t i = 0; i < layers; ++i, number += 2, in = out)  // a convolution and its ReLU
      all.push_back(conv(number, in, out, 3, 1, 1, i + 1 == layers));
  }
  return all;
}

std::vector<Spec> squeeze() {
  return {conv(0, 3, 64, 3, 2, 0),
          pool(2, 3),
          fire(3, 64, 16, 64, false),
          fire(4, 128, 16, 64),
          pool(5, 3),
          fire(6, 128, 32, 128, false),
          fire(7, 256, 32, 128),
          pool(8, 3),
          fire(9, 256, 48, 192),
          fire(10, 384, 48, 192),
          fire(11, 384, 64, 256),
          fire(12, 512, 64, 256)};
}

std::vector<Spec> specs(Trunk trunk) {
  switch (trunk) {
    case Trunk::alex: return alex();
    case Trunk::vgg: return vgg();
    case Trunk::squeeze: return squeeze();
  }
  return {};
}

std::shared_ptr<nn::Conv2d> make_conv(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
                                      std::int64_t padding, bool bias = true) {
  return std::make_shared<nn::Conv2d>(in, out, nn::Conv2d::Options{kernel, stride, padding, bias});
}

/// SqueezeNet's module: 1 x 1 to few channels, then 1 x 1 and 3 x 3 side by side.
class Fire : public nn::Module {
 public:
  explicit Fire(const Spec& s) {
    squeeze_ = register_module("squeeze", make_conv(s.in, s.kernel, 1, 1, 0));
    expand1x1_ = register_module("expand1x1", make_conv(s.kernel, s.out, 1, 1, 0));
    expand3x3_ = register_module("expand3x3", make_conv(s.kernel, s.out, 3, 1, 1));
  }
  at::Tensor forward(const at::Tensor& x) const {
    const auto few = squeeze_->forward(x).relu_();
    return at::cat({expand1x1_->forward(few), expand3x3_->forward(few)}, 1).relu_();
  }

 private:
  std::shared_ptr<nn::Conv2d> squeeze_, expand1x1_, expand3x3_;
};

at::Tensor unit_length(const at::Tensor& x) {  // along the channels
  return x / ((x * x).sum(1, /*keepdim=*/true).sqrt() + kEps);
}

}  // namespace

const char* trunk_name(Trunk trunk) {
  switch (trunk) {
    case Trunk::alex: return "alex";
    case Trunk::vgg: return "vgg";
    case Trunk::squeeze: return "squeeze";
  }
  return "";
}

/// What stands in one place of the trunk: a convolution, a pooling or a fire module.
class Layer {
 public:
  Layer(const Spec& spec, nn::Group& features) : spec_(spec), ceil_(false) {
    const std::string name = std::to_string(spec.number);
    if (spec.kind == Spec::Kind::conv)
      conv_ = features.register_module(name, make_conv(spec.in, spec.out, spec.kernel, spec.stride, spec.padding));
    if (spec.kind == Spec::Kind::fire) fire_ = features.register_module(name, std::make_shared<Fire>(spec));
  }
  void round_up() { ceil_ = true; }
  bool tap() const { return spec_.tap; }
  std::int64_t channels() const { return fire_ ? 2 * spec_.out : spec_.out; }

  at::Tensor forward(const at::Tensor& x) const {
    if (conv_) return conv_->forward(x).relu_();
    if (fire_) return fire_->forward(x);
    return at::max_pool2d(x, {spec_.kernel, spec_.kernel}, {2, 2}, {0, 0}, {1, 1}, ceil_);
  }

 private:
  Spec spec_;
  bool ceil_;  // SqueezeNet's poolings keep what is left at the edge
  std::shared_ptr<nn::Conv2d> conv_;
  std::shared_ptr<Fire> fire_;
};

Network::Network(Trunk trunk) : trunk_(trunk) {
  auto features = register_module("features", std::make_shared<nn::Group>());
  for (const Spec& spec : specs(trunk)) {
    layers_.push_back(std::make_shared<Layer>(spec, *features));
    if (trunk == Trunk::squeeze) layers_.back()->round_up();
    if (!spec.tap) continue;
    auto linear = register_module(fmt::format("lin{}", linear_.size()), std::make_shared<nn::Group>());
    auto model = linear->register_module("model", std::make_shared<nn::Group>());
    linear_.push_back(model->register_module("1", make_conv(layers_.back()->channels(), 1, 1, 1, 0, /*bias=*/false)));
  }
}

std::vector<at::Tensor> Network::features(const at::Tensor& pictures) const {
  const auto shift = at::tensor({-0.030, -0.088, -0.188}, pictures.options()).view({1, 3, 1, 1});
  const auto scale = at::tensor({0.458, 0.448, 0.450}, pictures.options()).view({1, 3, 1, 1});
  auto x = ((pictures - shift) / scale).contiguous(at::MemoryFormat::ChannelsLast);
  std::vector<at::Tensor> taps;
  for (const auto& layer : layers_) {
    x = layer->forward(x);
    if (layer->tap()) taps.push_back(unit_length(x));
  }
  return taps;
}

at::Tensor Network::distance(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) const {
  at::Tensor total;  // (B)
  for (std::size_t i = 0; i < linear_.size(); ++i) {
    const auto difference = a[i] - b[i];
    const auto part = linear_[i]->forward(difference * difference).mean({1, 2, 3});  // (B, 1, H', W') -> (B)
    total = total.defined() ? total + part : part;
  }
  return total;
}

std::int64_t Network::smallest_side() const {
  switch (trunk_) {
    case Trunk::alex: return 31;
    case Trunk::vgg: return 16;
    case Trunk::squeeze: return 17;
  }
  return 1;
}

Trunk recognise(const io::WeightSource& weights) {
  const std::string path = weights.files().empty() ? "checkpoint" : weights.files().front().path;
  if (!weights.has("features.0.weight"))
    throw base::Error(base::ExitCode::data,
                      fmt::format("{}: holds no trunk for LPIPS (torchvision's features.0.weight is missing)", path));
  if (!weights.has("lin0.model.1.weight"))
    throw base::Error(
        base::ExitCode::data,
        fmt::format("{}: holds a trunk but no linear layers of LPIPS (lin0.model.1.weight is missing)", path),
        "scripts/convert-metrics puts both into one file");
  if (weights.has("features.3.squeeze.weight")) return Trunk::squeeze;
  return weights.has("features.28.weight") ? Trunk::vgg : Trunk::alex;
}

std::shared_ptr<const Network> load(io::WeightSource& weights, at::Device device) {
  const at::NoGradGuard no_grad;
  auto network = std::make_shared<Network>(recognise(weights));
  nn::load_parameters(*network, weights, nn::NameMap{}, at::kFloat, device);
  for (const std::string& name : weights.names())
    if (name.starts_with("classifier.")) weights.note_used(name);
  return network;
}

}  // namespace atelier::models::lpips
