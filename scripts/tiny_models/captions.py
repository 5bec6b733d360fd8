"""The caption grammar shared by the small language model and the small image model.

A caption names one or more coloured shapes, where they are, and the background:

    a large red circle at the top left on a blue background
    a small orange star and a medium blue ring in the centre

Every part but the shape may be left out. `held_out` is the rule that keeps a tenth of all
combinations out of training, so that figures are measured on combinations never seen.
"""
import functools
import hashlib
from dataclasses import dataclass, replace

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring")
SIZES = ("small", "medium", "large")
# Name -> (row, column) on a 3 x 3 grid.
POSITIONS = {
    "top left": (0, 0), "top": (0, 1), "top right": (0, 2),
    "left": (1, 0), "centre": (1, 1), "right": (1, 2),
    "bottom left": (2, 0), "bottom": (2, 1), "bottom right": (2, 2),
}
BACKGROUNDS = COLOURS


@dataclass(frozen=True)
class Item:
    """One shape; every field but `shape` may be None, which means "not said"."""
    shape: str
    colour: str | None = None
    size: str | None = None
    position: str | None = None

    def but(self, **changes):
        """A copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Scene:
    """Shapes on a background (None: not said)."""
    items: tuple
    background: str | None = None

    def but(self, **changes):
        """A copy with some fields changed."""
        return replace(self, **changes)


@functools.lru_cache(maxsize=None)
def held_out(*parts):
    """True for the tenth of all combinations that training never sees.

    For a shape the parts are colour, shape, position, background; None stands for a part that
    was not said. The hash depends on nothing but the words, so every model uses the same tenth.
    """
    text = "|".join("-" if p is None else str(p) for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 10 == 0


def item_held_out(item, background):
    """`held_out` for one shape on a background."""
    return held_out(item.colour, item.shape, item.position, background)


def scene_on_side(scene, held):
    """True if every shape of the scene is held out (held) or none is (not held)."""
    return all(item_held_out(i, scene.background) == held for i in scene.items)


def article(word):
    """'a' or 'an' for the word that follows (of our words only 'orange' takes 'an')."""
    return "an" if word[0] in "aeiou" else "a"


def position_phrase(position):
    """'at the top left', 'on the right', 'in the centre'."""
    if position == "centre":
        return "in the centre"
    return ("on the " if position in ("left", "right") else "at the ") + position


def noun(item):
    """'large red circle', without article or position."""
    return " ".join(w for w in (item.size, item.colour, item.shape) if w)


def phrase(item):
    """'a large red circle at the top left'."""
    words = noun(item)
    text = f"{article(words)} {words}"
    return f"{text} {position_phrase(item.position)}" if item.position else text


def join(parts, word="and"):
    """'a', 'a and b', 'a, b and c'."""
    parts = list(parts)
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f" {word} " + parts[-1]


def background_phrase(background):
    """'on a blue background'."""
    return f"on {article(background)} {background} background"


def caption(scene):
    """The one spelling of a scene as a caption."""
    text = join(phrase(i) for i in scene.items)
    return f"{text} {background_phrase(scene.background)}" if scene.background else text


def sample_item(rng, background, held, *, shapes=SHAPES, colours=COLOURS, positions=tuple(POSITIONS),
                sizes=SIZES):
    """One shape on the wanted side of the hold-out rule, or None if the choice allows none."""
    for _ in range(200):
        item = Item(rng.choice(shapes), rng.choice(colours), rng.choice(sizes), rng.choice(positions))
        # A shape in the background's own colour could not be seen.
        if (item.colour is None or item.colour != background) and item_held_out(item, background) == held:
            return item
    return None


def sample_scene(rng, count, held, *, few_kinds=False):
    """`count` fully described shapes in different places, no two alike in colour and shape.

    few_kinds draws them from few shapes and colours, so that there is something to count.
    """
    while True:
        background = rng.choice(BACKGROUNDS)
        shapes = rng.sample(SHAPES, rng.randint(2, 3)) if few_kinds else SHAPES
        colours = rng.sample(COLOURS, rng.randint(2, 4)) if few_kinds else COLOURS
        items, places, kinds = [], list(POSITIONS), set()
        for _ in range(count * 12):
            if len(items) == count:
                return Scene(tuple(items), background)
            item = sample_item(rng, background, held, shapes=shapes, colours=colours, positions=places)
            if item is None:
                break
            if (item.colour, item.shape) not in kinds:
                kinds.add((item.colour, item.shape))
                places.remove(item.position)
                items.append(item)
        if len(items) == count:
            return Scene(tuple(items), background)


def sample_caption_scene(rng, held, count=None):
    """A scene as a person would ask for it: often without size, position or background."""
    count = count or (2 if rng.random() < 0.2 else 1)
    while True:
        background = rng.choice(BACKGROUNDS) if rng.random() < 0.6 else None
        items = []
        for _ in range(count):
            item = sample_item(rng, background, held,
                               colours=COLOURS if rng.random() < 0.95 else (None,),
                               sizes=SIZES if rng.random() < 0.6 else (None,),
                               positions=tuple(POSITIONS) if rng.random() < 0.5 else (None,))
            if item is None:
                break
            items.append(item)
        if len(items) < count:
            continue
        if count == 1 or (noun(items[0]) != noun(items[1])
                          and (items[0].position is None or items[0].position != items[1].position)):
            return Scene(tuple(items), background)
