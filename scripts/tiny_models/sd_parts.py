"""The tiny Stable Diffusion's parts with fresh weights: what each is made of."""
import torch

from .sd_tokenizer import LENGTH

SIZE = 64
WIDTH = 128  # of the text encoder
VAE_CONFIG = dict(in_channels=3, out_channels=3, latent_channels=4, sample_size=SIZE, layers_per_block=1, norm_num_groups=1,
                  block_out_channels=(16, 16, 32), down_block_types=("DownEncoderBlock2D",) * 3,
                  up_block_types=("UpDecoderBlock2D",) * 3)
UNET_CONFIG = dict(sample_size=SIZE // 4, in_channels=4, out_channels=4, layers_per_block=1, norm_num_groups=16,
                   block_out_channels=(32, 64, 96), cross_attention_dim=WIDTH, attention_head_dim=4,
                   down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                   up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"))
TEXT_CONFIG = dict(hidden_size=WIDTH, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, projection_dim=WIDTH,
                   max_position_embeddings=LENGTH, hidden_act="quick_gelu")
# Zero terminal signal: with any left, every background would be drawn towards the mean brightness of the noise.
SCHEDULER_CONFIG = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
                        set_alpha_to_one=False, steps_offset=1, clip_sample=False)


def parts(vocabulary, seed):
    """(vae, unet, text encoder) with fresh weights; vocabulary: its size, the last piece being the end mark."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel
    torch.manual_seed(seed)
    text = CLIPTextConfig(vocab_size=vocabulary, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1,
                          pad_token_id=vocabulary - 1, **TEXT_CONFIG)
    return start_as_average(AutoencoderKL(**VAE_CONFIG)), UNet2DConditionModel(**UNET_CONFIG), CLIPTextModel(text)


STEADY = 6.0  # a channel and its opposite hold this value, so that what norms divide by hardly depends on the picture


@torch.no_grad()
def start_as_average(vae):
    """Set the autoencoder's weights so that it begins as the plain average colour of 4 x 4 pixels, and learns only what lacks.

    Residual branches begin at nothing. Along the straight path channels 0 to 2 carry the colour, 3 to 5 its opposite, 6 and 7
    plus and minus STEADY; silu(x) - silu(-x) = x makes the last activations harmless, and the pairs leave a norm's mean at
    nothing. The other channels begin at random, and small.
    """
    encoder, decoder = vae.encoder, vae.decoder
    for block in (encoder, decoder):
        for module in block.modules():
            if hasattr(module, "conv2"):
                module.conv2.weight.zero_()
                module.conv2.bias.zero_()
                if module.conv_shortcut is not None:
                    _pass_on(module.conv_shortcut, torch.eye(8))
        block.mid_block.attentions[0].to_out[0].weight.zero_()
        block.mid_block.attentions[0].to_out[0].bias.zero_()
        _begin(block.conv_in)
    for down in encoder.down_blocks[:-1]:
        _pass_on(down.downsamplers[0].conv, torch.eye(8), average=True)
    for up in decoder.up_blocks[:-1]:
        _pass_on(up.upsamplers[0].conv, torch.eye(8))
    for conv, width in ((encoder.conv_out, VAE_CONFIG["block_out_channels"][-1]), (decoder.conv_out, VAE_CONFIG["block_out_channels"][0])):
        # Norms make the steady pair, and all else with it, smaller by its root mean square.
        back = STEADY * (2 / width) ** 0.5
        _pass_on(conv, back * torch.cat([torch.eye(3), -torch.eye(3), torch.zeros(3, 2)], 1))
    for conv in (vae.quant_conv, vae.post_quant_conv):
        conv.weight.copy_(torch.eye(conv.weight.shape[0])[:, :, None, None])
        conv.bias.zero_()
    encoder.conv_out.weight[4:] *= 0.1
    encoder.conv_out.bias[4:] = -6.0  # the logarithm of the latents' variance
    return vae


def _begin(conv):
    """The first convolution: colour, its opposite, the steady pair, and the rest as it is but smaller."""
    conv.weight *= 0.5
    _pass_on(conv, torch.cat([torch.eye(3), -torch.eye(3), torch.zeros(2, 3)]))
    conv.bias[6:8] = torch.tensor([STEADY, -STEADY])


def _pass_on(conv, matrix, average=False):
    """The first rows of a convolution become `matrix` (out, in) of the same pixel, or of the four that become one."""
    out, into = matrix.shape
    conv.weight[:out] = 0
    conv.bias[:out] = 0
    if average:
        conv.weight[:out, :into, :2, :2] = matrix[:, :, None, None] / 4
    else:
        middle = conv.kernel_size[0] // 2
        conv.weight[:out, :into, middle, middle] = matrix
