"""Drills in looking things up in a described scene: a ladder from bare words to sentences.

In "The star is red" one word of five has to be looked up, too few to learn it from: a model learns to say some colour, and
stays there. In a drill nothing but the looked-up words is learned, ten in each dialogue, and each rung adds one thing to the
one before. On the first the value follows its key at once, so that one step of attention finds it; then signs and words
come between the two. Colours, shapes, sizes and places have to come together from the start: learned later, one of them
stays at chance.
"""
from dataclasses import dataclass

from .captions import BACKGROUNDS, COLOURS, POSITIONS, SHAPES, Scene, noun, phrase, position_phrase, sample_item

FIELDS = ("colour", "shape", "size", "position")
KEYS = ("colour", "shape", "position")
LOOKUPS = 10
ONE_WORD = tuple(p for p in POSITIONS if " " not in p)


@dataclass(frozen=True)
class Rung:
    """`pools` of training with these forms of a look-up.

    positions: those that occur; bare: 'red star top left' rather than 'a red star at the top left'; described: the
    scene in any of the ways in which users say it.
    """
    pools: int
    forms: tuple
    positions: tuple = tuple(POSITIONS)
    bare: bool = False
    described: bool = False


LADDER = (
    Rung(20, ("plain",), ONE_WORD, bare=True),
    Rung(8, ("plain",), bare=True),
    Rung(7, ("plain", "colon", "of"), bare=True),
    Rung(12, ("plain", "colon", "of")),
    Rung(14, ("of", "sentence"), described=True),
)
HEIGHT = sum(rung.pools for rung in LADDER)


def rung_of(pool):
    """The rung that a pool of training stands on, None above the ladder."""
    for rung in LADDER:
        if pool < rung.pools:
            return rung
        pool -= rung.pools
    return None


def distinct_scene(rng, count, positions):
    """Shapes of which no two share a colour, a shape or a place, none of them held out."""
    while True:
        background, items = rng.choice(BACKGROUNDS), []
        for _ in range(count):
            left = {field: [v for v in values if v not in {getattr(i, field) for i in items}]
                    for field, values in (("shape", SHAPES), ("colour", COLOURS), ("position", positions))}
            items.append(sample_item(rng, background, False, shapes=left["shape"], colours=left["colour"], positions=left["position"]))
            if items[-1] is None:
                break
        else:
            return Scene(tuple(items), background)


def scene_text(scene, bare):
    """The scene as a plain list."""
    return f"Scene: {', '.join(f'{noun(i)} {i.position}' if bare else phrase(i) for i in scene.items)}."


def value_text(item, field, bare):
    """What an item has in a field, as the scene's text says it."""
    return position_phrase(item.position) if field == "position" and not bare else getattr(item, field)


def lookup(rng, scene, rung):
    """One look-up as (what is given, what is learned, what follows)."""
    key = rng.choice(KEYS)
    field = rng.choice([f for f in FIELDS if f != key])
    item = rng.choice(scene.items)
    word = "place" if field == "position" else field
    known, value = value_text(item, key, rung.bare), " " + value_text(item, field, rung.bare)
    form = rng.choice(rung.forms)
    if form == "plain":
        return f" {word} {known}", value, ""
    if form == "colon":
        return f" {word} {known}:", value, ";"
    if form == "of":
        return f" {word} of {known}:", value, ";"
    named = {"colour": f"{known} shape", "shape": known, "position": f"shape {known}"}[key]
    return f" The {word} of the {named} is", value, "."


def drill(rng, rung, describe):
    """(what the user says, the reply in parts [(text, learned?)]); describe(rng, scene): the scene in a user's words."""
    scene = distinct_scene(rng, rng.choice((2, 3, 4, 5)), rung.positions)
    parts = []
    for _ in range(LOOKUPS):
        given, value, after = lookup(rng, scene, rung)
        parts += [(given, False), (value, True), (after, False)]
    return describe(rng, scene) if rung.described else scene_text(scene, rung.bare), [p for p in parts if p[0]]
