#include "models/unet/input.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include "base/error.h"
#include "models/unet/blocks.h"

namespace atelier::models::unet {
namespace {

void want(bool holds, const std::string& message) {
  if (!holds) throw base::Error(base::ExitCode::data, message);
}

}  // namespace

Input Input::rows(std::int64_t begin, std::int64_t count) const {
  const auto of = [&](const at::Tensor& t) { return t.defined() && t.dim() > 0 ? t.narrow(0, begin, count) : t; };
  Input part;
  part.sample = of(sample);
  part.timestep = timestep.numel() == 1 ? timestep : of(timestep);
  part.context = of(context);
  part.time_ids = of(time_ids);
  part.text_embeds = of(text_embeds);
  part.guidance = of(guidance);
  part.mid_residual = of(mid_residual);
  part.checkpointing = checkpointing;
  for (const auto& residual : down_residuals) part.down_residuals.push_back(of(residual));
  return part;
}

void check_input(const Config& c, const Input& in, const std::string& who) {
  want(in.sample.dim() == 4 && in.sample.size(1) == c.in_channels,
       fmt::format("{} takes {} channels, the latents have {}", who, c.in_channels,
                   in.sample.dim() == 4 ? in.sample.size(1) : 0));
  const std::int64_t batch = in.sample.size(0);
  want(in.timestep.defined() && (in.timestep.dim() == 0 || in.timestep.numel() == batch),
       "one timestep for each row is wanted");
  for (const Level& level : c.levels)
    want(in.context.defined() && in.context.dim() == 3 && in.context.size(0) == batch &&
             in.context.size(2) == level.context,
         fmt::format("{} takes text embeddings of size {}, the text encoder gives {}", who, level.context,
                     in.context.defined() ? in.context.size(-1) : 0));
  if (c.has_addition()) {
    want(in.time_ids.defined() && in.text_embeds.defined() && in.time_ids.dim() == 2 && in.text_embeds.dim() == 2 &&
             in.text_embeds.size(1) == c.pooled_size(in.time_ids.size(1)),
         fmt::format(
             "{}: the added embedding has size {}, which does not fit the pooled text embedding and the time ids", who,
             c.addition_input));
  }
}

at::Tensor embed_time(const Config& c, const Input& in, const TimestepEmbedding& embedding,
                      const TimestepEmbedding* addition, at::ScalarType dtype) {
  const std::int64_t batch = in.sample.size(0);
  const auto times = in.timestep.to(in.sample.device()).reshape({-1}).expand({batch});
  const auto waves = sinusoids(times, c.levels.front().channels, c.flip_sin_to_cos, c.freq_shift).to(dtype);
  auto time = embedding.forward(waves, in.guidance);  // (B, time_embedding)
  if (addition != nullptr) {
    const auto ids = sinusoids(in.time_ids, c.addition_time_embed, c.flip_sin_to_cos, c.freq_shift)
                         .reshape({batch, -1})
                         .to(dtype);  // (B, ids * addition_time_embed)
    time = time + addition->forward(at::cat({in.text_embeds, ids}, -1));
  }
  return time;
}

}  // namespace atelier::models::unet
