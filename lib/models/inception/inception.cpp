#include "models/inception/inception.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/max_pool2d.h>

#include "models/inception/blocks.h"

namespace atelier::models::inception {

InceptionV3::InceptionV3() {
  conv_1a_ = convolution("Conv2d_1a_3x3", 3, 32, 3, 2, 0);
  conv_2a_ = convolution("Conv2d_2a_3x3", 32, 32, 3, 1, 0);
  conv_2b_ = convolution("Conv2d_2b_3x3", 32, 64, 3, 1, 1);
  conv_3b_ = convolution("Conv2d_3b_1x1", 64, 80, 1, 1, 0);
  conv_4a_ = convolution("Conv2d_4a_3x3", 80, 192, 3, 1, 0);
  block("Mixed_5b", block_a(192, 32));
  block("Mixed_5c", block_a(256, 64));
  block("Mixed_5d", block_a(288, 64));
  block("Mixed_6a", block_b(288));
  block("Mixed_6b", block_c(768, 128));
  block("Mixed_6c", block_c(768, 160));
  block("Mixed_6d", block_c(768, 160));
  block("Mixed_6e", block_c(768, 192));
  block("Mixed_7a", block_d(768));
  block("Mixed_7b", block_e(1280, /*max_pool=*/false));
  block("Mixed_7c", block_e(2048, /*max_pool=*/true));
}

std::shared_ptr<BasicConv2d> InceptionV3::convolution(const char* name, std::int64_t in, std::int64_t out,
                                                      std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  const BasicConv2d::Options options{{kernel, kernel}, stride, {padding, padding}};
  convolutions_.push_back(register_module(name, std::make_shared<BasicConv2d>(in, out, options)));
  return convolutions_.back();
}

void InceptionV3::block(const char* name, std::shared_ptr<Block> block) {
  blocks_.push_back(register_module(name, std::move(block)));
}

void InceptionV3::fold() {
  for (const auto& convolution : convolutions_) convolution->fold();
  for (const auto& block : blocks_) block->fold();
}

at::Device InceptionV3::device() const { return conv_1a_->weight().device(); }

at::Tensor InceptionV3::forward(const at::Tensor& pictures) const {
  const auto pool = [](const at::Tensor& x) { return at::max_pool2d(x, {3, 3}, {2, 2}); };
  auto x = conv_1a_->forward(pictures.contiguous(at::MemoryFormat::ChannelsLast));  // (B, 32, 149, 149)
  x = pool(conv_2b_->forward(conv_2a_->forward(x)));                                // (B, 64, 73, 73)
  x = pool(conv_4a_->forward(conv_3b_->forward(x)));                                // (B, 192, 35, 35)
  for (const auto& block : blocks_) x = block->forward(x);                          // (B, 2048, 8, 8)
  return x.mean({2, 3});
}

std::shared_ptr<const InceptionV3> load(io::WeightSource& weights, at::Device device) {
  const at::NoGradGuard no_grad;
  auto network = std::make_shared<InceptionV3>();
  nn::load_parameters(*network, weights, nn::NameMap{}, at::kFloat, device);
  network->fold();
  for (const std::string& name : weights.names())
    if (name.starts_with("fc.") || name.starts_with("AuxLogits.") || name.ends_with(".num_batches_tracked"))
      weights.note_used(name);
  return network;
}

}  // namespace atelier::models::inception
