"""The stage that teaches the text encoder to read captions, before there is any picture.

Linear heads, thrown away afterwards, say from each last hidden state behind the caption (its end mark and the padding)
what lies in each place and on which background. The UNet then finds all of it said plainly, in every one of them, and has
to learn only how it is drawn.
"""
import random

import torch
from torch.nn import functional as F

from .captions import BACKGROUNDS, COLOURS, POSITIONS, SHAPES, SIZES, Scene, caption, sample_caption_scene
from .sd_loop import Loop
from .sd_parts import WIDTH
from .sd_tokenizer import LENGTH

STEPS, BATCH = 2800, 64
SHORT = 32     # no caption is longer; the last part of the training sees all of the padding
SHORT_PART = 0.85
EMPTY = 0.05   # captions of no words

SLOTS = (*POSITIONS, "somewhere", "somewhere else")
FIELDS = (("colour", (None, *COLOURS)), ("shape", (None, *SHAPES)), ("size", (None, *SIZES)))
QUESTIONS = [(slot, field, values) for slot in SLOTS for field, values in FIELDS]
ANSWERS = [len(BACKGROUNDS) + 1] + [len(values) for _, _, values in QUESTIONS]


def answers(scene):
    """For the background and each of QUESTIONS the number of the right answer, 0 for nothing there or nothing said."""
    free, places = iter(SLOTS[len(POSITIONS):]), {}
    for item in scene.items:
        places[item.position or next(free)] = item
    ground = 0 if scene.background is None else 1 + BACKGROUNDS.index(scene.background)
    return [ground] + [values.index(getattr(places.get(slot), field, None)) for slot, field, values in QUESTIONS]


def captions_of(rng, count, held):
    """[(caption, scene)], some of no words and with two shapes often, since those are harder."""
    made = []
    for _ in range(count):
        scene = Scene(()) if rng.random() < EMPTY else sample_caption_scene(rng, held, 2 if rng.random() < 0.6 else 1)
        made.append((caption(scene) if scene.items else "", scene))
    return made


def batch(tokenizer, rng, count, held=False):
    """(ids (count, LENGTH), right answers (count, questions))."""
    pairs = captions_of(rng, count, held)
    return tokenize(tokenizer, [text for text, _ in pairs]), torch.tensor([answers(scene) for _, scene in pairs])


def tokenize(tokenizer, texts):
    """Ids (count, LENGTH)."""
    return tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt").input_ids


class Reader(torch.nn.Module):
    """The heads: logits of every question's answers, side by side."""

    def __init__(self):
        super().__init__()
        self.heads = torch.nn.Linear(WIDTH, sum(ANSWERS))

    def forward(self, hidden):
        return self.heads(hidden).split(ANSWERS, -1)


def train_text(text, tokenizer, work, seed, processes, log):
    """Leaves the text encoder trained and frozen; returns what it took."""
    torch.manual_seed(seed)
    reader, end = Reader(), tokenizer.eos_token_id

    def compute(member, step):
        rng = random.Random(f"text {seed} {step} {member}")
        ids, right = batch(tokenizer, rng, BATCH // processes)
        length = (ids == end).int().argmax(1)  # where the end mark stands
        places = torch.arange(LENGTH).expand(len(ids), -1)
        if step < SHORT_PART * STEPS:
            # Less padding, and it stands anywhere: the first of it behind the caption, the rest up to the last place.
            rest = torch.tensor([sorted(rng.sample(range(SHORT, LENGTH), 6)) for _ in range(len(ids))])
            places = torch.cat([places[:, :SHORT], rest], 1)
            ids = ids.gather(1, places)
        hidden = text(ids, position_ids=places).last_hidden_state
        asked = torch.cat([length[:, None], torch.tensor([[rng.randrange(n, ids.shape[1]) for _ in range(4)] for n in length.tolist()])], 1)
        hidden = hidden.gather(1, asked[:, :, None].expand(-1, -1, WIDTH))
        return sum(F.cross_entropy(logits.flatten(0, 1), truth.repeat_interleave(asked.shape[1]))
                   for logits, truth in zip(reader(hidden), right.T))

    loop = Loop("text encoder", [text, reader], compute, steps=STEPS, lr=2e-3, file=work / "text.pt", processes=processes, log=log, average=0.99)
    loop.run()
    text.eval().requires_grad_(False)
    log(f"text encoder: {100 * read_right(text, reader, tokenizer):.1f} % of held-out captions read without a mistake")
    return loop.at


@torch.no_grad()
def read_right(text, reader, tokenizer, count=400):
    """The part of held-out captions of which every question is answered rightly at every place behind the caption."""
    ids, right = batch(tokenizer, random.Random("text encoder evaluation"), count, held=True)
    hidden = text(ids).last_hidden_state
    said = torch.stack([logits.argmax(-1) for logits in reader(hidden)], -1)  # (count, LENGTH, questions)
    behind = (ids == tokenizer.eos_token_id)[:, :, None]
    return ((said == right[:, None]) | ~behind).all(-1).all(-1).float().mean().item()
