#!/usr/bin/env python3
"""Pictures of a bullseye, which the small picture model has never seen: a red disc, a white ring around it, a red ring around that.

  pictures.py draw DIR            writes DIR/1.png ... DIR/4.png with captions beside them
  pictures.py count PICTURE...    prints how many of these pictures show one, told by their pixels alone

A bullseye is seen where, around some point near the picture's middle, four fifths of the pixels within each of the three discs'
own radii have the colour that belongs there. Needs nothing but Python.
"""
import os
import struct
import sys
import zlib

SIDE = 64
RED, WHITE = (220, 40, 40), (245, 245, 245)
BACKGROUNDS = {"blue": (50, 90, 220), "green": (50, 160, 70), "black": (20, 20, 20), "yellow": (250, 220, 50)}
RINGS = ((0.0, 0.10, RED), (0.10, 0.20, WHITE), (0.20, 0.30, RED))  # from, to (as parts of the side), colour
MARGIN = 0.025  # at a border the autoencoder blurs: not looked at


def ring_colour(distance):
    """The colour at this distance from the centre, or None outside."""
    return next((colour for start, end, colour in RINGS if start <= distance < end), None)


def draw(background, cx, cy):
    """Rows of (r, g, b), each pixel the mean of 3 x 3 points."""
    def point(x, y):
        distance = ((x - cx) ** 2 + (y - cy) ** 2) ** 0.5
        return ring_colour(distance) or background

    def pixel(x, y):
        points = [point((x + (i + 0.5) / 3) / SIDE, (y + (j + 0.5) / 3) / SIDE) for i in range(3) for j in range(3)]
        return tuple(round(sum(p[c] for p in points) / 9) for c in range(3))

    return [[pixel(x, y) for x in range(SIDE)] for y in range(SIDE)]


def write_png(path, rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    raw = b"".join(b"\0" + bytes(value for pixel in row for value in pixel) for row in rows)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0))
                + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def predict(kind, left, up, corner):
    if kind == 4:  # Paeth
        nearest = left + up - corner
        return min((abs(nearest - left), 0, left), (abs(nearest - up), 1, up), (abs(nearest - corner), 2, corner))[2]
    return (0, left, up, (left + up) // 2)[kind]


def read_png(path):
    """Rows of (r, g, b) of an 8-bit RGB picture that is not interlaced, as the tools write them."""
    with open(path, "rb") as f:
        data = f.read()
    at, packed, width, height = 8, b"", 0, 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        at += 12 + size
        if kind == b"IHDR":
            width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            if (depth, colours, interlaced) != (8, 2, 0):
                raise SystemExit(f"pictures.py: {path}: is no plain RGB picture")
        elif kind == b"IDAT":
            packed += body
    raw, stride = zlib.decompress(packed), 3 * width
    rows, above = [], bytearray(stride)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for i in range(stride):
            left, corner = (line[i - 3], above[i - 3]) if i >= 3 else (0, 0)
            line[i] = (line[i] + predict(kind, left, above[i], corner)) & 255
        rows.append([tuple(line[3 * x:3 * x + 3]) for x in range(width)])
        above = line
    return rows


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
