"""The motifs of the demonstration's pictures: calm shapes in few colours, drawn by a seeded hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from PIL import Image, ImageFilter

from rehost.demo.shapes import Palette, Pen, Size, below, between, fade, mask, mesh, spot, thinned, wave

Motif = Callable[[Size, Palette, Random], Image.Image]


def hills(size: Size, colours: Palette, random: Random) -> Image.Image:
    """A low sun over ridges, each darker than the one behind it."""
    width, height = size
    x, y, radius = random.uniform(0.25, 0.75) * width, random.uniform(0.24, 0.42) * height, width * 0.15
    field = fade(size, colours[3], colours[4])
    glow = spot(size, x, y, radius * 1.5).filter(ImageFilter.BoxBlur(radius / 2))
    field.paste(colours[4], mask=thinned(glow, 0.5))
    field.paste(colours[2], mask=spot(size, x, y, radius))
    for ridge in range(5):
        shade = between(colours[2], colours[0], ridge / 4)
        line = wave(size, height * (0.48 + 0.11 * ridge), height * random.uniform(0.03, 0.07), random)
        ground = below(size, line)
        field.paste(fade(size, between(shade, colours[3], 0.35), shade), mask=ground)
    return field


def bands(size: Size, colours: Palette, random: Random) -> Image.Image:
    """Ribbons that flow from side to side."""
    height = size[1]
    field = fade(size, colours[4], colours[3])
    for band, colour in enumerate((3, 1, 2, 0, 3, 2, 1, 0)):
        line = wave(size, height * (0.1 + 0.115 * band), height * 0.05, random)
        ribbon = below(size, line)
        field.paste(fade(size, colours[colour], between(colours[colour], colours[4], 0.3)), mask=ribbon)
    return field


def orbits(size: Size, colours: Palette, random: Random) -> Image.Image:
    """Planets on their rings, at night."""
    width, height = size
    x, y = width * random.uniform(0.35, 0.65), height * random.uniform(0.4, 0.6)
    field = mesh(size, (colours[0], colours[0], colours[1], between(colours[0], colours[1], 0.5)), random)
    rings = [width * (0.1 + 0.085 * ring) for ring in range(1, 6)]

    def stars(pen: Pen) -> None:
        for _ in range(40):
            pen.disc(random.uniform(0, width), random.uniform(0, height), random.uniform(0.5, 1.6))

    def lines(pen: Pen) -> None:
        for radius in rings:
            pen.ring(x, y, radius, 1.4)

    def planets(pen: Pen) -> None:
        for radius in rings[shade::3]:
            angle = random.uniform(0, math.tau)
            pen.disc(x + radius * math.cos(angle), y + radius * math.sin(angle), random.uniform(0.018, 0.05) * width)

    field.paste(colours[3], mask=mask(size, stars))
    field.paste(between(colours[1], colours[4], 0.45), mask=mask(size, lines))
    for shade in range(3):
        field.paste(colours[2 + shade], mask=mask(size, planets))
    field.paste(colours[2], mask=spot(size, x, y, width * 0.09))
    return field


def tiles(size: Size, colours: Palette, random: Random) -> Image.Image:
    """Quarter circles in a grid, as on a tiled floor."""
    edge = size[0] // 4
    faces = [
        lambda pen: pen.quarter(0, 0, edge, 0),
        lambda pen: pen.quarter(edge, 0, edge, 90),
        lambda pen: pen.quarter(edge, edge, edge, 180),
        lambda pen: pen.quarter(0, edge, edge, 270),
        lambda pen: pen.disc(edge / 2, edge / 2, edge * 0.3),
    ]  # one for each corner, and a disc
    masks = [mask((edge, edge), face) for face in faces]
    field = Image.new("RGB", size, colours[4])
    for left in range(0, size[0], edge):
        for top in range(0, size[1], edge):
            ground, figure = random.sample(colours, 2)
            tile = Image.new("RGB", (edge, edge), ground)
            tile.paste(figure, mask=random.choice(masks))
            field.paste(tile, (left, top))
    return field


def rays(size: Size, colours: Palette, random: Random) -> Image.Image:
    """A sun and its beams."""
    width, height = size
    x, y = width * random.uniform(0.3, 0.7), height * random.uniform(0.55, 0.75)
    field = mesh(size, (colours[3], colours[4], colours[3]), random)
    beams, turn, reach = random.choice((14, 18, 22)), random.uniform(0, 1), width + height

    def sunbeams(pen: Pen) -> None:
        for beam in range(beams):
            sides = [math.tau * (beam + turn + side) / beams for side in (0.0, 0.5)]
            pen.area([(x, y), *((x + reach * math.cos(side), y + reach * math.sin(side)) for side in sides)])

    field.paste(fade(size, colours[2], between(colours[2], colours[3], 0.7)), mask=mask(size, sunbeams))
    for part, colour in ((0.3, colours[4]), (0.25, colours[1]), (0.17, colours[0])):
        field.paste(colour, mask=spot(size, x, y, width * part))
    return field


def bubbles(size: Size, colours: Palette, random: Random) -> Image.Image:
    """Discs that shine through each other."""
    width, height = size
    field = mesh(size, colours[2:], random)
    for _ in range(12):
        bubble = spot(size, random.uniform(0, width), random.uniform(0, height), random.uniform(0.08, 0.26) * width)
        field.paste(random.choice(colours), mask=thinned(bubble, 0.6))
    return field


def bloom(size: Size, colours: Palette, random: Random) -> Image.Image:
    """One large flower."""
    width, height = size
    x, y = width * random.uniform(0.42, 0.58), height * random.uniform(0.42, 0.56)
    petals, turn = random.choice((7, 9, 11, 13)), random.uniform(0, 1)
    field = fade(size, colours[1], colours[0])
    for circle, reach in enumerate((0.56, 0.41, 0.27)):

        def flower(pen: Pen, circle: int = circle, reach: float = reach) -> None:
            for petal in range(petals):
                pen.petal(x, y, width * reach, math.tau * (petal + turn + circle / 2) / petals)

        colour = colours[2 + circle]
        field.paste(fade(size, colour, between(colour, colours[1], 0.35)), mask=mask(size, flower))
    field.paste(colours[0], mask=spot(size, x, y, width * 0.07))
    return field


def arches(size: Size, colours: Palette, random: Random) -> Image.Image:
    """Gates within gates."""
    width, height = size
    x, base, first = width * random.uniform(0.42, 0.58), height * random.uniform(0.45, 0.55), random.randrange(4)
    field = mesh(size, (colours[4], colours[3], colours[4]), random)
    for gate in range(5):
        half, top, colour = width * (0.42 - 0.075 * gate), base + gate * height * 0.03, colours[(first + gate) % 4]

        def doorway(pen: Pen, half: float = half, top: float = top) -> None:
            pen.disc(x, top, half)
            pen.area([(x - half, top), (x + half, top), (x + half, height), (x - half, height)])

        field.paste(fade(size, colour, between(colour, colours[4], 0.25)), mask=mask(size, doorway))
    return field


MOTIFS: tuple[Motif, ...] = (hills, tiles, orbits, bands, bloom, rays, arches, bubbles)
