"""The stage that teaches the text encoder to read captions, before there is any picture.

From place SHORT on, behind the longest caption, each state speaks of one thing: the first of the background, the next ones of
the nine places and of shapes without a place, and so on again to the end. Linear heads, thrown away afterwards, read them. The
UNet then finds what belongs to a part of the picture always in the same states, so that its cross-attention only has to learn
where these are; would every state speak of everything, it would have to learn to tell it apart first.
"""
import random

import torch
from torch.nn import functional as F

from .captions import BACKGROUNDS, COLOURS, POSITIONS, SHAPES, SIZES, Scene, caption, sample_caption_scene
from .sd_loop import Loop
from .sd_parts import WIDTH
from .sd_tokenizer import LENGTH

STEPS, BATCH = 3200, 64
SHORT = 32     # no caption is longer
SHORT_PART = 0.85  # of the training sees only some of the places behind it
EMPTY = 0.05   # captions of no words

SLOTS = (*POSITIONS, "somewhere", "somewhere else")
FIELDS = (("colour", (None, *COLOURS)), ("shape", (None, *SHAPES)), ("size", (None, *SIZES)))
THINGS = 1 + len(SLOTS)  # the background and the slots
ANSWERS = [len(BACKGROUNDS) + 1] + [len(values) for _, values in FIELDS]


def answers(scene):
    """(THINGS, 4): of each thing the number of the right background, colour, shape and size; 0 for nothing said."""
    free, places = iter(SLOTS[len(POSITIONS):]), {}
    for item in scene.items:
        places[item.position or next(free)] = item
    ground = 0 if scene.background is None else 1 + BACKGROUNDS.index(scene.background)
    return [[ground, 0, 0, 0]] + [[0] + [values.index(getattr(places.get(slot), field, None)) for field, values in FIELDS] for slot in SLOTS]


def things(places):
    """Which thing the states at `places` speak of."""
    return (places - SHORT) % THINGS


def captions_of(rng, count, held):
    """[(caption, scene)], some of no words and with two shapes often, since those are harder."""
    made = []
    for _ in range(count):
        scene = Scene(()) if rng.random() < EMPTY else sample_caption_scene(rng, held, 2 if rng.random() < 0.6 else 1)
        made.append((caption(scene) if scene.items else "", scene))
    return made


def batch(tokenizer, rng, count, held=False):
    """(ids (count, LENGTH), right answers (count, THINGS, 4))."""
    pairs = captions_of(rng, count, held)
    return tokenize(tokenizer, [text for text, _ in pairs]), torch.tensor([answers(scene) for _, scene in pairs])


def tokenize(tokenizer, texts):
    """Ids (count, LENGTH)."""
    return tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt").input_ids


class Reader(torch.nn.Module):
    """The heads: logits of the background's, colour's, shape's and size's answers."""

    def __init__(self):
        super().__init__()
        self.heads = torch.nn.Linear(WIDTH, sum(ANSWERS))

    def forward(self, hidden):
        return self.heads(hidden).split(ANSWERS, -1)


def train_text(text, tokenizer, work, seed, processes, log):
    """Leaves the text encoder trained and frozen; returns what it took."""
    torch.manual_seed(seed)
    reader = Reader()

    def compute(member, step):
        rng = random.Random(f"text {seed} {step} {member}")
        ids, right = batch(tokenizer, rng, BATCH // processes)
        behind = torch.arange(SHORT, LENGTH).expand(len(ids), -1)
        if step < SHORT_PART * STEPS:
            # Less padding is quicker, and teaches the same: the states see the caption, not each other.
            behind = torch.tensor([sorted(rng.sample(range(SHORT, LENGTH), 8)) for _ in range(len(ids))])
        places = torch.cat([torch.arange(SHORT).expand(len(ids), -1), behind], 1)
        hidden = text(ids.gather(1, places), position_ids=places).last_hidden_state[:, SHORT:]
        truth = right.gather(1, things(behind)[:, :, None].expand(-1, -1, len(ANSWERS)))
        return sum(F.cross_entropy(logits.flatten(0, 1), truth[:, :, k].flatten()) for k, logits in enumerate(reader(hidden)))

    loop = Loop("text encoder", [text, reader], compute, steps=STEPS, lr=2e-3, file=work / "text.pt", processes=processes, log=log, average=0.99)
    loop.run()
    text.eval().requires_grad_(False)
    log(f"text encoder: {100 * read_right(text, reader, tokenizer):.1f} % of held-out captions read without a mistake")
    return loop.at


@torch.no_grad()
def read_right(text, reader, tokenizer, count=400):
    """The part of held-out captions of which every state behind the caption says rightly what it is there for."""
    ids, right = batch(tokenizer, random.Random("text encoder evaluation"), count, held=True)
    hidden = text(ids).last_hidden_state[:, SHORT:]
    said = torch.stack([logits.argmax(-1) for logits in reader(hidden)], -1)  # (count, places, 4)
    return (said == right[:, things(torch.arange(SHORT, LENGTH))]).flatten(1).all(1).float().mean().item()
