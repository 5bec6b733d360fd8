#!/usr/bin/env python3
"""Pictures of a wasp ball, which the small picture model has never seen: a disc of broad yellow and black stripes.

  pictures.py draw DIR             writes DIR/1.png ... DIR/4.png
  pictures.py subject PICTURE...   prints how many of these pictures show one, told by their pixels alone
  pictures.py circles PICTURE...   prints how many show the circle that their names say, ...-COLOUR-BACKGROUND-N.png

A wasp ball is seen where, around some point near the picture's middle, four fifths of the pixels within each stripe have the colour
that belongs there. A circle is right where four fifths of the frame have the background's colour, the pixels of other colours are 2 % to
12 % of the picture (the model's own circles are 3 % to 9 %, the wasp ball is 28 %), and half of these have the circle's own, each pixel's
colour being called by the nearest one of those that the model knows. Needs nothing but Python.
"""
import math
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from png import read_png, smooth, write_png  # noqa: E402

SIDE = 64
PALETTE = {"red": (220, 40, 40), "orange": (245, 140, 30), "yellow": (250, 220, 50), "green": (50, 160, 70), "blue": (50, 90, 220),
           "purple": (130, 60, 180), "pink": (245, 150, 190), "brown": (130, 80, 45), "black": (20, 20, 20),
           "white": (245, 245, 245), "grey": (140, 140, 140)}
PLACES = ((0.48, 0.48), (0.52, 0.48), (0.48, 0.52), (0.52, 0.52))  # of the four pictures' balls
RADIUS = 0.3  # as a part of the side
STRIPES = ((-0.30, -0.15, "yellow"), (-0.15, 0.0, "black"), (0.0, 0.15, "yellow"), (0.15, 0.30, "black"))  # from, to, colour
MARGIN = 0.025  # at a border the autoencoder blurs: not looked at


def stripe_colour(height):
    return next(colour for start, end, colour in STRIPES if start <= height < end)


def draw(cx, cy):
    """Rows of (r, g, b)."""
    def point(x, y):
        inside = (x - cx) ** 2 + (y - cy) ** 2 < RADIUS ** 2
        return PALETTE[stripe_colour(y - cy) if inside else "white"]

    return smooth(point, SIDE)


def distance(pixel, colour):
    return sum((a - b) ** 2 for a, b in zip(pixel, PALETTE[colour]))


def nearest(pixel):
    return min(PALETTE, key=lambda name: distance(pixel, name))


def near(pixel, colour):
    return distance(pixel, colour) < (0.35 * 255) ** 2


def shows_subject(rows):
    side = len(rows)
    points = [(x, y, (x + 0.5) / side, (y + 0.5) / side) for y in range(side) for x in range(side)]

    def found(cx, cy):
        for start, end, colour in STRIPES:
            inside = [near(rows[y][x], colour) for x, y, u, v in points
                      if start + MARGIN <= v - cy < end - MARGIN and (u - cx) ** 2 + (v - cy) ** 2 < (RADIUS - MARGIN) ** 2]
            if sum(inside) < 0.8 * len(inside):
                return False
        return True

    shifts = [i * 0.03 for i in range(-4, 5)]
    return any(found(0.5 + dx, 0.5 + dy) for dy in shifts for dx in shifts)


def shows_circle(rows, colour, background):
    """Whether a picture shows one shape of this colour on this background."""
    side = len(rows)
    frame = [nearest(p) for p in (*rows[0], *rows[1], *rows[-2], *rows[-1], *(row[x] for row in rows for x in (0, 1, -2, -1)))]
    if frame.count(background) < 0.8 * len(frame):
        return False
    inner = [(x, y) for y, row in enumerate(rows) for x, p in enumerate(row) if not near(p, background)]
    if not 0.02 * side ** 2 <= len(inner) <= 0.12 * side ** 2:
        return False
    return sum(nearest(rows[y][x]) == colour for x, y in inner) >= 0.5 * len(inner) and fills_disc(inner)


def fills_disc(pixels):
    cx, cy = (sum(p[i] for p in pixels) / len(pixels) for i in (0, 1))
    radius = 0.8 * math.sqrt(len(pixels) / math.pi)
    reach = range(-math.ceil(radius) - 1, math.ceil(radius) + 2)
    disc = [(x, y) for x in (round(cx) + d for d in reach) for y in (round(cy) + d for d in reach)
            if (x - cx) ** 2 + (y - cy) ** 2 <= radius ** 2]
    return len(set(disc) & set(pixels)) >= 0.9 * len(disc)


def named(path):
    """Colour and background that a file's name says."""
    return os.path.basename(path).split("-")[-3:-1]


def main(arguments):
    command, *rest = arguments or ["help"]
    if command == "draw" and len(rest) == 1:
        os.makedirs(rest[0], exist_ok=True)
        for i, place in enumerate(PLACES):
            write_png(os.path.join(rest[0], f"{i + 1}.png"), draw(*place))
        return 0
    if command == "subject" and rest:
        print(f"{sum(shows_subject(read_png(path)) for path in rest)} of {len(rest)}")
        return 0
    if command == "circles" and rest:
        print(f"{sum(shows_circle(read_png(path), *named(path)) for path in rest)} of {len(rest)}")
        return 0
    print(__doc__.strip(), file=sys.stderr)
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
