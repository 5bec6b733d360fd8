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
LEAST = 0.15 * math.pi * RADII["small"] ** 2               # share of the picture below which a part is an edge


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


REACH = 1.12  # no shape reaches farther than this many radii from its centre


def _centres(start, end, size):
    """Where the points lie that are looked at in pixels start to end of a line of `size` pixels."""
    return (torch.arange(start * OVERSAMPLING, end * OVERSAMPLING) + 0.5) / (size * OVERSAMPLING)


def coverage(shape, size, cx, cy, radius):
    """How much of each pixel the shape covers: (size, size) in [0, 1]; centre and radius as parts of the picture."""
    left, top = (max(0, math.floor((c - REACH * radius) * size)) for c in (cx, cy))
    right, bottom = (min(size, math.ceil((c + REACH * radius) * size)) for c in (cx, cy))
    x, y = torch.meshgrid((_centres(left, right, size) - cx) / radius, (_centres(top, bottom, size) - cy) / radius, indexing="xy")
    whole = torch.zeros(size, size)
    whole[top:bottom, left:right] = torch.nn.functional.avg_pool2d(INSIDE[shape](x, y).float()[None, None], OVERSAMPLING)[0, 0]
    return whole


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


def cells(size):
    """(size, size): of each pixel of a square picture the number of its cell of the 3 x 3 grid, in POSITIONS' order."""
    line = ((torch.arange(size) + 0.5) * 3 / size).long()
    return line[:, None] * 3 + line[None, :]


def measure(picture):
    """(background, [(colour, position, share of the picture)]) of what is seen in a square picture, the largest part first.

    1. The background is, channel by channel, the median of the frame's pixels: the rows and columns at most max(1, size / 32)
       from an edge, those of the corners counted twice (top and bottom rows whole, left and right columns whole; of an
       even number of values the lower of the two in the middle).
    2. A pixel belongs to a shape if its Euclidean distance from the background is above 0.2 (channels being 0 to 1).
    3. Each such pixel takes the name of the palette's nearest colour (Euclidean; the first in the palette's order of equals).
    4. A pixel's cell is floor((i + 0.5) * 3 / size), i being its row for the cell's row, its column for the cell's column.
       POSITIONS names the cells.
    5. Each cell with such pixels is one part: the colour is the name that most of the cell's pixels have (of equals the first
       in the palette's order), its share the number of pixels with that name over all pixels of the picture.
    6. Parts with a share of not more than LEAST, half of a small shape that fills little, are edges and are left out.
       The rest is sorted by share, the largest first (of equals the first in the order of POSITIONS).
    7. The background is then called by the palette's nearest colour.
    """
    size, ground, names = picture.shape[-1], _ground(picture), list(PALETTE)
    foreign = ((picture - ground[:, None, None]) ** 2).sum(0).sqrt() > 0.2
    palette = torch.stack([colour_of(n) for n in names])
    nearest = ((picture[:, None] - palette.T[:, :, None, None]) ** 2).sum(0).argmin(0)
    cell = cells(size)
    parts = []
    for index, position in enumerate(POSITIONS):
        here = foreign & (cell == index)
        if here.any():
            counts = nearest[here].bincount(minlength=len(names))
            best = counts.argmax().item()
            parts.append((names[best], position, counts[best].item() / size ** 2))
    return nearest_colour(ground), sorted((p for p in parts if p[2] > LEAST), key=lambda p: -p[2])


def _ground(picture):
    """The colour (3,) of the background, as step 1 of `measure` says."""
    edge = max(1, picture.shape[-1] // 32)
    frame = torch.cat([picture[:, :edge].flatten(1), picture[:, -edge:].flatten(1), picture[:, :, :edge].flatten(1),
                       picture[:, :, -edge:].flatten(1)], 1)
    return frame.median(1).values


def obeys(picture, scene):
    """(background right, colours right, positions right) for what the scene says; None where it says nothing.

    Of the measured parts only the first len(scene.items) count. Background: its name is the one said. Colours: the parts'
    names are the items', in any order. Positions: for each item with a position, the part there has the item's colour.
    """
    background, parts = measure(picture)
    seen = parts[:len(scene.items)]
    ground = None if scene.background is None else background == scene.background
    colours = sorted(p[0] for p in seen) == sorted(i.colour for i in scene.items)
    if all(i.position is None for i in scene.items):
        return ground, colours, None
    where = {p[1]: p[0] for p in seen}
    return ground, colours, all(where.get(i.position) == i.colour for i in scene.items if i.position)


def nothing_else(picture, scene):
    """True if every further part reaches over from a larger one: in a cell next to it, and of its colour unless it is tiny."""
    parts = measure(picture)[1]
    count = len(scene.items)

    def belongs(part, to):
        (r, c), (row, column) = POSITIONS[part[1]], POSITIONS[to[1]]
        return (part[0] == to[0] or part[2] < 2 * LEAST) and max(abs(r - row), abs(c - column)) == 1
    return len(parts) >= count and all(any(belongs(part, to) for to in parts[:count]) for part in parts[count:])


def shapes_in(picture, count):
    """[(colour, shape)] of the `count` largest parts of `measure`.

    A part's mask are the pixels nearer to the part's colour than to the background, and nearer to the middle of its cell than to
    that of the others. Its shape is that of which a drawing, at the best size and place, has the largest
    intersection over union with the mask.
    """
    size, ground = picture.shape[-1], _ground(picture)
    parts = measure(picture)[1][:count]
    middles = torch.tensor([[CELLS[i] * size for i in POSITIONS[position]] for _, position, _ in parts])
    line = torch.arange(size) + 0.5
    owner = torch.stack([(line[:, None] - row) ** 2 + (line[None, :] - column) ** 2 for row, column in middles.tolist()]).argmin(0) if parts else None
    distance = lambda colour: ((picture - colour[:, None, None]) ** 2).sum(0)  # noqa: E731
    made = []
    for index, (colour, _, _) in enumerate(parts):
        mask = ((distance(colour_of(colour)) < distance(ground)) & (owner == index)).float()
        made.append((colour, _nearest_shape(mask, *middles[index].tolist())))
    return made


@functools.lru_cache(maxsize=None)
def _templates(size):
    """(shapes, sizes and places, side, side): each shape as drawn, at all its sizes, up to two pixels of 64 off the middle."""
    side = 2 * math.ceil(0.24 * size)
    places = [k * size / 64 / side for k in (-2, -1, 0, 1, 2)]
    radii = [r * factor * size / side for r in RADII.values() for factor in (0.94, 1.0, 1.06)]
    return torch.stack([torch.stack([coverage(shape, side, 0.5 + x, 0.5 + y, r) for r in radii for x in places for y in places])
                        for shape in SHAPES])


def _nearest_shape(mask, row, column):
    """The name of the shape; row and column: the middle of the cell, in pixels."""
    templates = (_templates(mask.shape[-1]) > 0.5).float().flatten(2)
    half = math.isqrt(templates.shape[-1]) // 2
    padded = torch.nn.functional.pad(mask, (half,) * 4)
    top, left = round(row), round(column)  # the padding moves the window's corner to its middle
    window = padded[top:top + 2 * half, left:left + 2 * half].flatten()
    shared = templates @ window
    union = templates.sum(-1) + mask.sum() - shared
    return SHAPES[(shared / union).amax(1).argmax().item()]
