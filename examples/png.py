#!/usr/bin/env python3
"""Reads and writes 8-bit RGB pictures for the examples, with nothing but Python.

  png.py sheet FILE PICTURE...   puts pictures of one size side by side, ten in a row
"""
import struct
import sys
import zlib


def write_png(path, rows):
    """Rows of (r, g, b)."""
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
                raise SystemExit(f"{path}: is no plain RGB picture")
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


def smooth(point, side):
    """Rows of a square picture, each pixel the mean of 3 x 3 points; point(x, y) gives the colour at a place in [0, 1]."""
    def pixel(x, y):
        points = [point((x + (i + 0.5) / 3) / side, (y + (j + 0.5) / 3) / side) for i in range(3) for j in range(3)]
        return tuple(round(sum(p[c] for p in points) / 9) for c in range(3))

    return [[pixel(x, y) for x in range(side)] for y in range(side)]


def sheet(pictures, columns, gap=4):
    """Pictures of one size in a grid on white."""
    high, wide = len(pictures[0]), len(pictures[0][0])
    lines = -(-len(pictures) // columns)
    rows = [[(255, 255, 255)] * (columns * (wide + gap) - gap) for _ in range(lines * (high + gap) - gap)]
    for i, picture in enumerate(pictures):
        left, top = i % columns * (wide + gap), i // columns * (high + gap)
        for y, row in enumerate(picture):
            rows[top + y][left:left + wide] = row
    return rows


def main(arguments):
    if len(arguments) > 2 and arguments[0] == "sheet":
        write_png(arguments[1], sheet([read_png(path) for path in arguments[2:]], 10))
        return 0
    print(__doc__.strip(), file=sys.stderr)
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
