"""The model card of the tiny Stable Diffusion, with the figures that were measured."""
import math

from .sd_eval import ALL_THREE, GUIDANCE, PROMPTS, STEPS, prompts, table
from .sd_parts import SIZE, TEXT_CONFIG, UNET_CONFIG, VAE_CONFIG, WIDTH
from .sd_text import BATCH as TEXT_BATCH
from .sd_tokenizer import LENGTH
from .sd_train import GUIDANCE_BATCH, SCENES, TAUGHT, UNET_BATCH, VAE_BATCH

CARD = """---
license: apache-2.0
language: [en]
library_name: diffusers
pipeline_tag: text-to-image
---
# Tiny SD

A complete Stable Diffusion of {million:.1f} million parameters ({megabytes:.1f} MB) that ships with Atelier, so that every picture tool works
without a download. It draws coloured shapes on a coloured background, {size} by {size} pixels, as a caption says:

{examples}

![twelve captions and their pictures](samples.png)

It knows the shapes circle, square, triangle, star, heart, diamond, cross and ring; the colours red, orange, yellow,
green, blue, purple, pink, brown, black, white and grey; small, medium and large; the places top left, top, top right,
left, centre, right, bottom left, bottom and bottom right. What a caption leaves out is drawn at random. One or two
shapes; other words mean nothing to it. tiny-gemma turns plain requests into such captions.

## Figures

{count} captions, each shape a combination of colour, shape, place and background that the training never saw, drawn
with {steps} steps and guidance {guidance} and measured by pixels: the colour of the border, the colour and the place of what differs from it,
and which of the eight shapes, drawn at its best size and place, covers that best.

{table}
{verdict}
`scripts/make-tiny-models sd --eval-only` prints this table again. The picture above shows the first twelve of these captions.

## How it was made

`scripts/make-tiny-models sd` draws the pictures, learns CLIP's kind of tokenizer from the captions and from everyday
words, and trains from scratch; no other data or model was used. CPU minutes are those of all processes together.

| stage | steps | batch | CPU minutes |
| --- | ---: | ---: | ---: |
| text encoder: its last hidden states say what the caption puts where | {text_steps:,} | {text_batch} | {text_minutes:.0f} |
| autoencoder: begins as the average colour of 4 x 4 pixels | {vae_steps:,} | {vae_batch} | {vae_minutes:.0f} |
| UNet: v-prediction with zero terminal signal on {scenes:,} scenes, a tenth of the captions left out; at first its cross-attention is taught where to look | {unet_steps:,} | {unet_batch} | {unet_minutes:.0f} |
| guidance: the same UNet learns to say at {guidance} what it said at {taught:g}, where its colours are truest | {guidance_steps:,} | {guidance_batch} | {guidance_minutes:.0f} |

| part | |
| --- | --- |
| UNet | widths {unet_widths}, one layer per block, cross-attention on the two coarser levels |
| autoencoder | widths {vae_widths}, 4 channels at a quarter of the picture's width and height |
| text encoder | CLIP, {layers} layers of {width}, {length} places |
| scheduler | DDIM, trailing spacing |
| precision | float16 |

## Licence

Apache-2.0, as the rest of the project.
"""
GOAL = 0.9
# Said in the card when a run had too little computing time.
UNFINISHED = """
**This is an unfinished model**: it is meant to get all three right in at least {goal:.0%} of the pictures. Its shapes are rough, and two of
them at once often wrong.
"""


def write_card(folder, rows, times):
    """Write README.md; rows as from sd_eval.evaluate, times: {stage: {"step", "cpu"}}."""
    examples = "\n>\n".join(f"> {text}" for text, _ in prompts(3))
    stages = {f"{stage}_{name}": value for stage, short in (("text", times["text"]), ("vae", times["autoencoder"]), ("unet", times["unet"]),
                                                                       ("guidance", times["guidance"]))
              for name, value in (("steps", short["step"]), ("minutes", short["cpu"] / 60))}
    right, asked = next((right, of) for what, right, of in rows if what == ALL_THREE)
    (folder / "README.md").write_text(CARD.format(
        verdict="" if right >= GOAL * asked else UNFINISHED.format(goal=GOAL),
        million=parameters(folder) / 1e6, megabytes=sum(f.stat().st_size for f in folder.rglob("*.safetensors")) / 1e6, size=SIZE,
        examples=examples, count=PROMPTS, steps=STEPS, guidance=GUIDANCE, table=table(rows), text_batch=TEXT_BATCH, vae_batch=VAE_BATCH,
        unet_batch=UNET_BATCH, guidance_batch=GUIDANCE_BATCH, taught=TAUGHT, scenes=SCENES, unet_widths=", ".join(map(str, UNET_CONFIG["block_out_channels"])),
        vae_widths=", ".join(map(str, VAE_CONFIG["block_out_channels"])), layers=TEXT_CONFIG["num_hidden_layers"], width=WIDTH,
        length=LENGTH, **stages), encoding="utf-8")


def parameters(folder):
    """How many numbers the folder's weight files hold."""
    from safetensors import safe_open
    count = 0
    for file in folder.glob("*/*.safetensors"):
        with safe_open(file, "pt") as f:
            count += sum(math.prod(f.get_slice(name).get_shape()) for name in f.keys())
    return count
