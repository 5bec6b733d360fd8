"""Pictures of caption scenes, and their measurement: what a picture shows, found by its pixels alone.

A picture is a float tensor (3, H, W) in [0, 1]. Shapes are drawn with soft edges from signed inside functions, so
that any size needs only another grid.
"""
import functools
import math

import torch

from .captions import BACKGROUNDS, COLOURS, POSITIONS, SHAPES, SIZES, Item, Scene

PALETTE = {"red": (220, 40, 40), "orange": (245, 140, 30), "yellow": (250, 220, 50), "green": (50, 160, 70),
           "blue": (50, 90, 220), "purple": (130, 60, 180), "pink": (245, 150, 190), "brown": (130, 80, 45),
           "black": (20, 20, 20), "white": (245, 245, 245), "grey": (140, 140, 140)}
RADII = {"small": 0.095, "medium": 0.13, "large": 0.165}  # half of a shape's height, as a part of the picture's
CELLS = (0.19, 0.5, 0.81)                                 # where rows and columns of the 3 x 3 grid lie
OVERSAMPLING = 3


def colour_of(name):
    """The colour as (3,) in [0, 1]."""
    return torch.tensor(PALETTE[name]) / 255


def _polygon(x, y, corners):
    """True inside the polygon, by the number of edges to the right of a point."""
    inside = torch.zeros_like(x, dtype=torch.bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1]):
        crosses = (y0 > y) != (y1 > y)
        if y0 != y1:
            inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


_STAR = [(math.sin(a) * r, -math.cos(a) * r) for i in range(10) for a, r in [(math.pi * i / 5, 1.08 if i % 2 == 0 else 0.45)]]
_TRIANGLE = [(0.0, -1.0), (1.05, 0.9), (-1.05, 0.9)]
# x right, y down, the shape within about one unit of the origin.
INSIDE = {
    "circle": lambda x, y: x * x + y * y < 1,
    "square": lambda x, y: (x.abs() < 0.9) & (y.abs() < 0.9),
    "triangle": lambda x, y: _polygon(x, y, _TRIANGLE),
    "star": lambda x, y: _polygon(x, y, _STAR),
    "heart": lambda x, y: ((x * 1.12) ** 2 + (0.15 - y * 1.12) ** 2 - 0.75) ** 3 < (x * 1.12) ** 2 * (0.15 - y * 1.12) ** 3,
    "diamond": lambda x, y: x.abs() / 0.8 + y.abs() / 1.1 < 1,
    "cross": lambda x, y: (torch.maximum(x.abs(), y.abs()) < 1) & (torch.minimum(x.abs(), y.abs()) < 0.34),
    "ring": lambda x, y: (x * x + y * y < 1) & (x * x + y * y > 0.3),
}


@functools.lru_cache(maxsize=None)
def _grid(size):
    n = size * OVERSAMPLING
    line = (torch.arange(n) + 0.5) / n
    return line[None, :].expand(n, n), line[:, None].expand(n, n)


def coverage(shape, size, cx, cy, radius):
    """How much of each pixel the shape covers: (size, size) in [0, 1]; centre and radius as parts of the picture."""
    x, y = _grid(size)
    inside = INSIDE[shape]((x - cx) / radius, (y - cy) / radius).float()
    return torch.nn.functional.avg_pool2d(inside[None, None], OVERSAMPLING)[0, 0]


def complete(rng, scene):
    """The scene with everything that it leaves open drawn at random, as far as it can be seen."""
    said = [i.colour for i in scene.items]
    background = scene.background or rng.choice([b for b in BACKGROUNDS if b not in said])
    free = [p for p in POSITIONS if p not in [i.position for i in scene.items]]
    rng.shuffle(free)
    items = [Item(i.shape, i.colour or rng.choice([c for c in COLOURS if c != background]), i.size or rng.choice(SIZES),
                  i.position or (free.pop() if len(scene.items) > 1 or rng.random() < 0.4 else "centre")) for i in scene.items]
    return Scene(tuple(items), background)


def draw(rng, scene, size=64):
    """The picture of a complete scene; places and radii vary a little."""
    picture = colour_of(scene.background)[:, None, None].expand(3, size, size).clone()
    for item in scene.items:
        row, column = POSITIONS[item.position]
        cover = coverage(item.shape, size, CELLS[column] + rng.uniform(-0.02, 0.02), CELLS[row] + rng.uniform(-0.02, 0.02),
                         RADII[item.size] * rng.uniform(0.94, 1.06))
        picture += cover * (colour_of(item.colour)[:, None, None] - picture)
    return picture


def nearest_colour(rgb):
    """The palette's name for a colour (3,)."""
    return min(PALETTE, key=lambda name: ((rgb - colour_of(name)) ** 2).sum().item())


def measure(picture):
    """(background, [(colour, position, share of the picture)]) of what is seen, the largest part first.

    The background is the median colour of the border. Every pixel that differs clearly from it belongs to a shape; pixels
    are put together by the palette's nearest colour within each cell of the 3 x 3 grid. Parts of less than half of a
    small shape's area are taken for edges.
    """
    size = picture.shape[-1]
    edge = max(1, size // 32)
    border = torch.cat([picture[:, :edge].flatten(1), picture[:, -edge:].flatten(1), picture[:, :, :edge].flatten(1),
                        picture[:, :, -edge:].flatten(1)], 1)
    ground = border.median(1).values
    foreign = ((picture - ground[:, None, None]) ** 2).sum(0).sqrt() > 0.2
    names = list(PALETTE)
    palette = torch.stack([colour_of(n) for n in names])
    nearest = ((picture[:, None] - palette.T[:, :, None, None]) ** 2).sum(0).argmin(0)
    cells = ((torch.arange(size) + 0.5) / size * 3).long().clamp_(max=2)
    cell = cells[:, None] * 3 + cells[None, :]
    parts = []
    for index, position in enumerate(POSITIONS):
        here = foreign & (cell == index)
        if here.any():
            kinds, counts = nearest[here].unique(return_counts=True)
            best = counts.argmax()
            parts.append((names[kinds[best]], position, counts[best].item() / size ** 2))
    least = 0.3 * math.pi * RADII["small"] ** 2 * 0.5
    return nearest_colour(ground), sorted((p for p in parts if p[2] > least), key=lambda p: -p[2])


def obeys(picture, scene):
    """(background right, colours right, positions right) for what the scene says; None where it says nothing."""
    background, parts = measure(picture)
    seen = parts[:len(scene.items)]
    ground = None if scene.background is None else background == scene.background
    colours = sorted(p[0] for p in seen) == sorted(i.colour for i in scene.items)
    if all(i.position is None for i in scene.items):
        return ground, colours, None
    where = {p[1]: p[0] for p in seen}
    return ground, colours, all(where.get(i.position) == i.colour for i in scene.items if i.position)
