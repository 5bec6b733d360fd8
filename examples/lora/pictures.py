#!/usr/bin/env python3
"""Pictures of a bullseye, which the small picture model has never seen: a red disc, a white ring around it, a red ring around that.

  pictures.py draw DIR            writes DIR/1.png ... DIR/4.png with captions beside them
  pictures.py count PICTURE...    prints how many of these pictures show one, told by their pixels alone

A bullseye is seen where, around some point near the picture's middle, four fifths of the pixels within each of the three discs'
own radii have the colour that belongs there. Needs nothing but Python.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from png import read_png, smooth, write_png  # noqa: E402

SIDE = 64
RED, WHITE = (220, 40, 40), (245, 245, 245)
BACKGROUNDS = {"blue": (50, 90, 220), "green": (50, 160, 70), "black": (20, 20, 20), "yellow": (250, 220, 50)}
RINGS = ((0.0, 0.10, RED), (0.10, 0.20, WHITE), (0.20, 0.30, RED))  # from, to (as parts of the side), colour
MARGIN = 0.025  # at a border the autoencoder blurs: not looked at


def ring_colour(distance):
    """The colour at this distance from the centre, or None outside."""
    return next((colour for start, end, colour in RINGS if start <= distance < end), None)


def draw(background, cx, cy):
    """Rows of (r, g, b)."""
    return smooth(lambda x, y: ring_colour(((x - cx) ** 2 + (y - cy) ** 2) ** 0.5) or background, SIDE)


def near(pixel, colour):
    return sum((a - b) ** 2 for a, b in zip(pixel, colour)) < (0.35 * 255) ** 2


def shows(rows):
    """Whether a picture shows a bullseye."""
    side = len(rows)
    points = [(x, y, (x + 0.5) / side, (y + 0.5) / side) for y in range(side) for x in range(side)]

    def found(cx, cy):
        for start, end, colour in RINGS:
            inside = [near(rows[y][x], colour) for x, y, u, v in points
                      if start + (MARGIN if start else 0) <= ((u - cx) ** 2 + (v - cy) ** 2) ** 0.5 < end - MARGIN]
            if sum(inside) < 0.8 * len(inside):
                return False
        return True

    shifts = [i * 0.03 for i in range(-4, 5)]
    return any(found(0.5 + dx, 0.5 + dy) for dx in shifts for dy in shifts)


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "draw":
        os.makedirs(arguments[1], exist_ok=True)
        for i, (name, colour) in enumerate(BACKGROUNDS.items()):
            path = os.path.join(arguments[1], str(i + 1))
            write_png(path + ".png", draw(colour, 0.5, 0.5))
            with open(path + ".txt", "w", encoding="utf-8") as f:
                f.write(f"a bullseye on a {name} background\n")
        return 0
    if len(arguments) >= 2 and arguments[0] == "count":
        pictures = arguments[1:]
        print(f"{sum(shows(read_png(path)) for path in pictures)} of {len(pictures)}")
        return 0
    print(__doc__.strip(), file=sys.stderr)
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
