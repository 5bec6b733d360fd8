"""Evaluation of the saved image model with diffusers: does the picture show what a held-out caption says?"""
import random
import sys

import torch

from .captions import caption, sample_caption_scene
from .draw import obeys

PROMPTS = 200
BATCH = 20
STEPS, GUIDANCE = 20, 7.5  # sd-txt2img's defaults


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


def evaluate(folder, *, show=5, log=print, steps=STEPS, guidance=GUIDANCE):
    """[(what, right, asked)]: backgrounds, colours, positions, and pictures with everything right."""
    asked = prompts()
    pictures = render(pipeline(folder), [text for text, _ in asked], steps=steps, guidance=guidance)
    verdicts = [obeys(p, scene) for p, (_, scene) in zip(pictures, asked)]
    rows = []
    for place, what in enumerate(("background colour", "shape colours", "positions")):
        said = [v[place] for v in verdicts if v[place] is not None]
        rows.append((what, sum(said), len(said)))
    whole = [all(x is not False for x in v) for v in verdicts]
    rows.append(("**everything**", sum(whole), len(whole)))
    for (text, _), verdict, right in zip(asked, verdicts, whole):
        if not right and show:
            show -= 1
            print(f"wrong: {text}: background, colours, positions: {verdict}", file=sys.stderr)
    log(table(rows))
    return rows


def table(rows):
    """The figures as a Markdown table."""
    return "\n".join(["| what the caption says | right | of | % |", "| --- | ---: | ---: | ---: |"]
                     + [f"| {what} | {right} | {of} | {100 * right / of:.1f} |" for what, right, of in rows])
