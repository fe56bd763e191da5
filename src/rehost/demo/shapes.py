"""Smooth fields and smooth shapes, of which the demonstration's pictures are put together.

Shapes are drawn as masks at twice the size and halved, which smooths their edges; colours run into each other because
a handful of points is enlarged with a smooth filter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Palette = tuple[Colour, ...]  # from the darkest to the lightest
Size = tuple[int, int]
Point = tuple[float, float]

FINE = 2  # masks are drawn this many times larger


def palette(colours: str) -> Palette:
    """Return the colours of `rrggbb rrggbb ...`."""
    return tuple((int(each[0:2], 16), int(each[2:4], 16), int(each[4:6], 16)) for each in colours.split())


PALETTES: tuple[Palette, ...] = tuple(
    palette(each)
    for each in (
        "1f2a44 35507a e07a5f f2cc8f f8f1e5",
        "22333b 5e6f52 a9b388 f0b67f fefae0",
        "2b1b3d 6a3d7c d1607e f5a97f fdeedc",
        "0b3142 0f7173 e7a977 f2d0a4 f7f3e8",
        "3a2e39 7a4b5c d88373 f4c095 fff4e6",
        "10375c 3d6f9e 8fb8de f3c623 f9f4e4",
        "233d2c 3f7d58 ef9651 f7c59f fbf5e9",
        "2d2a4a 52489c 4f9da6 ffad5a fff6e5",
        "402218 865439 c68b59 e8c39e faf0e4",
        "1d3557 457b9d a8dadc f1a7a9 f9f1ee",
        "3d1f2b 9b2f4b e4677a f7b2a1 fdf0ec",
        "17313e 415e72 c5b0cd f3c9a5 f6f0ea",
    )
)


def between(one: Colour, other: Colour, part: float) -> Colour:
    """Return the colour `part` of the way from one to the other."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def mesh(size: Size, colours: Sequence[Colour], random: Random) -> Image.Image:
    """Return a field in which these colours run into each other."""
    points = Image.new("RGB", (3, 4))
    points.putdata([random.choice(colours) for _ in range(12)])
    return points.resize(size, Image.Resampling.BICUBIC)


def fade(size: Size, top: Colour, bottom: Colour) -> Image.Image:
    """Return a field that goes from one colour at its top to another at its bottom."""
    points = Image.new("RGB", (1, 2))
    points.putdata([top, bottom])
    return points.resize(size, Image.Resampling.BILINEAR)


def wave(size: Size, base: float, height: float, random: Random) -> list[Point]:
    """Return a line from the left to the right, around `base`, that swings by some `height`."""
    swings = [
        (random.uniform(least, most), random.uniform(0, math.tau), 1 / (index + 1))
        for index, (least, most) in enumerate(((0.5, 1.1), (1.2, 2.0), (2.2, 3.2)))
    ]
    return [
        (
            x,
            base
            + height * sum(part * math.sin(phase + math.tau * turns * x / size[0]) for turns, phase, part in swings),
        )
        for x in range(0, size[0] + 8, 8)
    ]


class Pen:
    """Draws on a mask, in the coordinates of the picture."""

    def __init__(self, large: Image.Image) -> None:
        self._draw = ImageDraw.Draw(large)

    def disc(self, x: float, y: float, radius: float) -> None:
        """Fill a circle."""
        self._draw.ellipse(_box(x, y, radius), fill=255)

    def ring(self, x: float, y: float, radius: float, line: float) -> None:
        """Draw a circle's outline."""
        self._draw.ellipse(_box(x, y, radius), outline=255, width=round(line * FINE))

    def area(self, points: Sequence[Point]) -> None:
        """Fill what these points enclose."""
        self._draw.polygon([(x * FINE, y * FINE) for x, y in points], fill=255)

    def quarter(self, x: float, y: float, radius: float, start_degrees: int) -> None:
        """Fill a quarter of a circle, clockwise from an angle; 0 points to the right."""
        self._draw.pieslice(_box(x, y, radius), start_degrees, start_degrees + 90, fill=255)

    def petal(self, x: float, y: float, reach: float, angle: float) -> None:
        """Fill a petal that begins at a point and reaches out at an angle in radians."""
        there = [(step / 16, 0.2 * math.sin(math.pi * step / 16)) for step in range(17)]
        back = [(along, -aside) for along, aside in reversed(there)]
        along_x, along_y = reach * math.cos(angle), reach * math.sin(angle)
        self.area([(x + a * along_x - b * along_y, y + a * along_y + b * along_x) for a, b in there + back])


def mask(size: Size, draw: Callable[[Pen], None]) -> Image.Image:
    """Return a mask of what was drawn, with smooth edges."""
    large = Image.new("L", (size[0] * FINE, size[1] * FINE))
    draw(Pen(large))
    return large.reduce(FINE)


def spot(size: Size, x: float, y: float, radius: float) -> Image.Image:
    """Return the mask of a disc."""
    return mask(size, lambda pen: pen.disc(x, y, radius))


def below(size: Size, line: Sequence[Point]) -> Image.Image:
    """Return the mask of all that lies below a line."""
    return mask(size, lambda pen: pen.area([*line, size, (0, size[1])]))


def thinned(shape: Image.Image, part: float) -> Image.Image:
    """Return a mask through which only a part of a colour comes."""
    return shape.point([round(each * part) for each in range(256)])


def _box(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return (x - radius) * FINE, (y - radius) * FINE, (x + radius) * FINE, (y + radius) * FINE
