"""The model card of the tiny Stable Diffusion, with the figures that were measured."""
from .sd_eval import GUIDANCE, STEPS, prompts, table
from .sd_train import SCENES, SIZE, UNET_BATCH, UNET_CONFIG, VAE_BATCH

CARD = """---
license: apache-2.0
language: [en]
library_name: diffusers
pipeline_tag: text-to-image
---
# Tiny SD

A complete Stable Diffusion of {million:.1f} million parameters that ships with Atelier, so that every picture tool works without
a download. It draws coloured shapes on a coloured background, {size} by {size} pixels, as a caption says:

{examples}

It knows the shapes circle, square, triangle, star, heart, diamond, cross and ring; the colours red, orange, yellow,
green, blue, purple, pink, brown, black, white and grey; small, medium and large; the places top left, top, top right,
left, centre, right, bottom left, bottom and bottom right. What a caption leaves out is drawn at random. One or two
shapes; other words mean nothing to it. tiny-gemma turns plain requests into such captions.

## Figures

{count} captions, each shape a combination of colour, shape, place and background that the training never saw, drawn
with {steps} steps and guidance {guidance}, measured by pixels: the colour of the border, the colour and the place of what differs from it.

{table}

`scripts/make-tiny-models sd --eval-only` prints this table again.

## How it was made

`scripts/make-tiny-models sd` draws the pictures, learns CLIP's kind of tokenizer from the captions and from everyday
words, and trains from scratch; no other data or model was used. The autoencoder: {vae_steps} steps of {vae_batch} pictures,
{vae_minutes:.0f} CPU minutes. UNet and text encoder together: {unet_steps} steps of {unet_batch} out of {scenes} scenes, {unet_minutes:.0f} CPU
minutes on {threads} processes; v-prediction with zero terminal signal, a tenth of the captions left out.

| | |
| --- | --- |
| UNet | widths {widths}, one layer per block, cross-attention on the two coarser levels |
| autoencoder | 4 channels, a quarter of the picture's width and height |
| text encoder | CLIP, 3 layers of 96 |
| scheduler | DDIM, trailing spacing |
| precision | float16 |

## Licence

Apache-2.0, as the rest of the project.
"""


def write_card(folder, rows, times, processes):
    """Write README.md; rows as from sd_eval.evaluate, times: {stage: {"step", "cpu"}}."""
    from safetensors import safe_open
    million = 0
    for file in folder.glob("*/*.safetensors"):
        with safe_open(file, "pt") as f:
            for name in f.keys():
                shape = f.get_slice(name).get_shape()
                count = 1
                for n in shape:
                    count *= n
                million += count / 1e6
    examples = "\n".join(f"> {text}" for text, _ in prompts(3))
    (folder / "README.md").write_text(CARD.format(
        million=million, size=SIZE, examples=examples.replace("\n", "\n>\n"), count=rows[-1][2], steps=STEPS, guidance=GUIDANCE,
        table=table(rows), vae_steps=times["autoencoder"]["step"], vae_batch=VAE_BATCH, vae_minutes=times["autoencoder"]["cpu"] / 60,
        unet_steps=times["unet"]["step"], unet_batch=UNET_BATCH, scenes=SCENES, unet_minutes=times["unet"]["cpu"] / 60,
        threads=processes, widths=", ".join(map(str, UNET_CONFIG["block_out_channels"]))), encoding="utf-8")
