"""Evaluation of the saved image model with diffusers: does the picture show what a held-out caption says?"""
import json
import random
import sys
import textwrap

import torch

from .captions import caption, sample_caption_scene
from .draw import PALETTE, nothing_else, obeys, shapes_in

PROMPTS = 200
BATCH = 20
STEPS, GUIDANCE = 20, 7.5  # sd-txt2img's defaults
ALL_THREE = "**all three**"


def prompts(count=PROMPTS):
    """[(caption, scene)] of held-out combinations, every shape with a colour; always the same ones."""
    rng, made, seen = random.Random("tiny-sd evaluation"), [], set()
    while len(made) < count:
        scene = sample_caption_scene(rng, True)
        text = caption(scene)
        if text not in seen and all(i.colour for i in scene.items):
            seen.add(text)
            made.append((text, scene))
    return made


def pipeline(folder):
    """The folder's diffusers pipeline in float32, silent."""
    from diffusers import StableDiffusionPipeline
    made = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None)
    made.set_progress_bar_config(disable=True)
    return made


def render(pipe, texts, first_seed=0, steps=STEPS, guidance=GUIDANCE):
    """(n, 3, H, W) in [0, 1]; picture k uses seed first_seed + k."""
    made = []
    for start in range(0, len(texts), BATCH):
        group = texts[start:start + BATCH]
        generators = [torch.Generator().manual_seed(first_seed + start + k) for k in range(len(group))]
        made.append(pipe(group, num_inference_steps=steps, guidance_scale=guidance, generator=generators, output_type="pt").images)
    return torch.cat(made)


def evaluate(folder, *, show=5, log=print, steps=STEPS, guidance=GUIDANCE, count=PROMPTS):
    """[(what, right, asked)]: backgrounds, colours, positions, pictures with these three right, shapes, nothing else."""
    asked = prompts(count)
    pictures = render(pipeline(folder), [text for text, _ in asked], steps=steps, guidance=guidance)
    verdicts = [obeys(p, scene) for p, (_, scene) in zip(pictures, asked)]
    rows = []
    for place, what in enumerate(("background colour", "shape colours", "positions")):
        said = [v[place] for v in verdicts if v[place] is not None]
        rows.append((what, sum(said), len(said)))
    whole = [all(x is not False for x in v) for v in verdicts]
    rows.append((ALL_THREE, sum(whole), len(whole)))
    for size, what in ((1, "of them with one shape"), (2, "of them with two shapes")):
        of = [right for right, (_, scene) in zip(whole, asked) if len(scene.items) == size]
        rows.append((what, sum(of), len(of)))
    shapes = [sorted(shapes_in(p, len(scene.items))) == sorted((i.colour, i.shape) for i in scene.items)
              for p, (_, scene) in zip(pictures, asked)]
    rows.append(("every shape recognised, in its colour", sum(shapes), len(shapes)))
    rows.append(("nothing else in the picture", sum(nothing_else(p, scene) for p, (_, scene) in zip(pictures, asked)), len(asked)))
    for (text, _), verdict, right in zip(asked, verdicts, whole):
        if not right and show:
            show -= 1
            print(f"wrong: {text}: background, colours, positions: {verdict}", file=sys.stderr)
    log(table(rows))
    return rows


def table(rows):
    """The figures as a Markdown table."""
    return "\n".join(["| what the caption says | right | of | % |", "| --- | ---: | ---: | ---: |"]
                     + [f"| {what} | {right} | {of} | {100 * right / max(1, of):.1f} |" for what, right, of in rows])


def write_prompts(path, count=20):
    """The first prompts as JSON Lines for tests that run sd-txt2img, the seeds those of `render`; the palette beside it."""
    lines = [{"prompt": text, "seed": seed, "background": scene.background,
              "items": [{"shape": i.shape, "colour": i.colour, "position": i.position} for i in scene.items]}
             for seed, (text, scene) in enumerate(prompts(count))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    colours = ",\n".join(f'  "{name}": {list(rgb)}' for name, rgb in PALETTE.items())
    path.with_name("tiny-sd-palette.json").write_text("{\n" + colours + "\n}\n", encoding="utf-8")


SHEET = 12


def write_sheet(folder, columns=4, scale=2):
    """samples.png: the first prompts' pictures with their captions below, whatever they show."""
    from PIL import Image, ImageDraw
    texts = [text for text, _ in prompts(SHEET)]
    pictures = (render(pipeline(folder), texts) * 255).round().byte().permute(0, 2, 3, 1)
    side = pictures.shape[1] * scale
    width, height, letters = side + 16, side + 48, (side + 12) // 6
    sheet = Image.new("RGB", (columns * width, -(-len(texts) // columns) * height), "white")
    for k, (text, picture) in enumerate(zip(texts, pictures)):
        x, y = k % columns * width + 8, k // columns * height + 4
        sheet.paste(Image.fromarray(picture.numpy()).resize((side, side), Image.NEAREST), (x, y))
        ImageDraw.Draw(sheet).multiline_text((x - 6, y + side + 2), "\n".join(textwrap.wrap(text, letters)), fill="black", spacing=0)
    sheet.quantize(64).save(folder / "samples.png", optimize=True)
