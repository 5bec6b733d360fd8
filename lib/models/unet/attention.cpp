#include "models/unet/attention.h"

#include "nn/channels_last.h"
#include "nn/checkpoint.h"

namespace atelier::models::unet {
namespace {

/// With checkpointing: the finest level of SD 1 (320) takes most of the memory, and its products are computed again in little time.
constexpr std::int64_t kKeptColumns = 512;

using nn::Group;
using nn::LayerNorm;
using nn::Linear;

class Attention : public nn::Module {
 public:
  Attention(std::int64_t channels, std::int64_t context, std::int64_t heads, bool upcast)
      : heads_(heads), upcast_(upcast) {
    to_q = register_module("to_q", std::make_shared<Linear>(channels, channels));
    to_k = register_module("to_k", std::make_shared<Linear>(context, channels));
    to_v = register_module("to_v", std::make_shared<Linear>(context, channels));
    to_out = register_module("to_out", std::make_shared<Group>())
                 ->append(std::make_shared<Linear>(channels, channels, true));
  }

  /// onto + attention of x to context. x, onto: (B, L, channels); context: (B, S, context).
  at::Tensor forward(const at::Tensor& x, const at::Tensor& context, const at::Tensor& onto) const {
    auto q = to_q->forward(x), k = to_k->forward(context), v = to_v->forward(context);
    if (upcast_ && q.scalar_type() == at::kHalf) {  // SD 2.1's scores leave the range of fp16
      q = q.to(at::kFloat);
      k = k.to(at::kFloat);
      v = v.to(at::kFloat);
    }
    return to_out->forward_plus(nn::multi_head_attention(q, k, v, heads_).to(x.scalar_type()), onto);
  }

 private:
  std::int64_t heads_;
  bool upcast_;
  std::shared_ptr<Linear> to_q, to_k, to_v, to_out;
};

/// GEGLU and the way back: `net.0.proj`, `net.2`.
class FeedForward : public nn::Module {
 public:
  explicit FeedForward(std::int64_t channels) : inner_(4 * channels) {
    auto net = register_module("net", std::make_shared<Group>());
    proj = net->register_module("0", std::make_shared<Group>())
               ->register_module("proj", std::make_shared<Linear>(channels, 2 * inner_, true));
    out = net->register_module("2", std::make_shared<Linear>(inner_, channels, true));
  }

  at::Tensor forward(const at::Tensor& x, const at::Tensor& onto) const {  // onto + its own; (B, L, channels), all
    const auto both = proj->forward(x);                                    // (B, L, 2 inner)
    // Training computes the gate again in the backward pass: it takes twice what it begins with, and hardly any time.
    return out->forward_plus(nn::checkpoint(nn::gelu_gate, both, {}), onto);
  }

 private:
  std::int64_t inner_;
  std::shared_ptr<Linear> proj, out;
};

}  // namespace

class TransformerBlock : public nn::Module {
 public:
  explicit TransformerBlock(const TransformerOptions& o) {
    const auto norm = [&](const char* name) { return register_module(name, std::make_shared<LayerNorm>(o.channels)); };
    norm1 = norm("norm1");
    attn1 = register_module("attn1", std::make_shared<Attention>(o.channels, o.channels, o.heads, o.upcast));
    norm2 = norm("norm2");
    attn2 = register_module("attn2", std::make_shared<Attention>(o.channels, o.context, o.heads, o.upcast));
    norm3 = norm("norm3");
    ff = register_module("ff", std::make_shared<FeedForward>(o.channels));
  }

  at::Tensor forward(at::Tensor x, const at::Tensor& context) const {  // (B, L, channels), same shape
    const auto h = norm1->forward(x);
    x = attn1->forward(h, h, x);
    x = attn2->forward(norm2->forward(x), context, x);
    return ff->forward(norm3->forward(x), x);
  }

 private:
  std::shared_ptr<LayerNorm> norm1, norm2, norm3;
  std::shared_ptr<Attention> attn1, attn2;
  std::shared_ptr<FeedForward> ff;
};

Transformer2D::Transformer2D(const TransformerOptions& o) : linear_projection_(o.linear_projection) {
  const nn::Conv2d::Options point{.kernel = 1, .padding = 0};
  norm = register_module("norm", std::make_shared<nn::GroupNorm>(o.groups, o.channels, 1e-6));
  if (linear_projection_) {
    linear_in_ = register_module("proj_in", std::make_shared<Linear>(o.channels, o.channels, true));
  } else {
    conv_in_ = register_module("proj_in", std::make_shared<nn::Conv2d>(o.channels, o.channels, point));
  }
  auto blocks = register_module("transformer_blocks", std::make_shared<Group>());
  for (std::int64_t i = 0; i < o.depth; ++i) blocks_.push_back(blocks->append(std::make_shared<TransformerBlock>(o)));
  if (linear_projection_) {
    linear_out_ = register_module("proj_out", std::make_shared<Linear>(o.channels, o.channels, true));
  } else {
    conv_out_ = register_module("proj_out", std::make_shared<nn::Conv2d>(o.channels, o.channels, point));
  }
}

at::Tensor Transformer2D::forward(const at::Tensor& x, const at::Tensor& context, bool checkpointing) const {
  const std::int64_t b = x.size(0), c = x.size(1), height = x.size(2), width = x.size(3);
  auto h = norm->forward(x);  // (B, C, H, W)
  if (conv_in_) h = conv_in_->forward(h);
  h = h.permute({0, 2, 3, 1}).reshape({b, height * width, c});  // (B, HW, C); no copy where channels come last
  if (linear_in_) h = linear_in_->forward(h);
  for (const auto& block : blocks_) {
    if (!checkpointing) {
      h = block->forward(h, context);
      continue;
    }
    const auto work = [block](const std::vector<at::Tensor>& in) { return block->forward(in[0], in[1]); };
    h = nn::checkpoint(work, std::vector<at::Tensor>{h, context}, nn::trained_tensors(*block), nn::Keep::from(kKeptColumns));
  }
  if (linear_out_) h = linear_out_->forward(h);
  h = h.view({b, height, width, c}).permute({0, 3, 1, 2});  // (B, C, H, W), channels last
  return conv_out_ ? conv_out_->forward_plus(h, x) : nn::add_into(h, x);
}

}  // namespace atelier::models::unet
