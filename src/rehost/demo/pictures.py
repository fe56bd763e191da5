"""The demonstration's pictures: drawn with Pillow, encoded, and kept on disk for the next time.

Pictures are drawn at twice their size and halved, which smooths the edges.
The lettering is English: Pillow brings a Latin typeface, and a bare machine has no Chinese one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import cos, pi, sin, tau
from pathlib import Path
from random import Random

import PIL
from PIL import Image, ImageDraw, ImageFont

from rehost.demo.cases import SEED, Case, Fault
from rehost.model import Format

EDITION = 4  # raise it when the drawing changes
STAMP = "edition.txt"
WIDTH, HEIGHT = 480, 600
ART = (2 * WIDTH, 900)  # the drawing, above the words, at twice its size
MARGIN = 28
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"  # ISO/IEC 10918-1, table B.1
PNG_END_BYTES = 12  # of the IEND chunk
GIF_FRAMES = (0.0, 0.05, 0.10, 0.14, 0.10, 0.05)  # how much light each frame adds

PALETTES = (  # from the darkest colour to the lightest
    "1f2a44 35507a e07a5f f2cc8f f8f1e5",
    "2b1b3d 6a3d7c d1607e f5a97f fdeedc",
    "10375c 3d6f9e 8fb8de f3c623 f9f4e4",
    "233d2c 3f7d58 ef9651 f7c59f fbf5e9",
    "2d2a4a 52489c 4f9da6 ffad5a fff6e5",
    "402218 865439 c68b59 e8c39e faf0e4",
    "1d3557 457b9d a8dadc f1a7a9 f9f1ee",
    "3d1f2b 9b2f4b e4677a f7b2a1 fdf0ec",
)


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures that the hosts serve, on disk."""

    folder: Path

    def path(self, case: Case) -> Path:
        """Return the path of a case's picture."""
        return self.folder / f"{case.case_id}.{case.format.value}"

    @property
    def placeholder(self) -> Path:
        """Return the path of the picture that hosts send in place of the one requested."""
        return self.folder / "placeholder.png"

    def create(self, cases: Sequence[Case]) -> bool:
        """Draw all pictures unless they exist already; return whether they were drawn."""
        stamp = self.folder / STAMP
        edition = f"{EDITION} {PIL.__version__} {hashlib.sha256(repr(cases).encode()).hexdigest()}"
        if stamp.is_file() and stamp.read_text("utf-8") == edition:
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        _placeholder().save(self.placeholder, optimize=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the interpreter lock while it works
            list(pool.map(self._save, [case for case in cases if case.host]))
        stamp.write_text(edition, "utf-8")  # last: an interrupted run draws all of them again
        return True

    def _save(self, case: Case) -> None:
        path, picture = self.path(case), draw(case)
        match case.format:
            case Format.JPEG:
                picture.save(path, quality=86, progressive=case.case_id % 3 == 0)
            case Format.GIF:
                light = Image.new("RGB", picture.size, (255, 236, 200))
                frames = [Image.blend(picture, light, part).resize((320, 400)).quantize(96) for part in GIF_FRAMES]
                frames[0].save(path, save_all=True, append_images=frames[1:], duration=180, loop=0)
            case _:
                picture.save(path)
        whole = path.read_bytes()
        if case.fault is Fault.CUT:
            path.write_bytes(whole[: len(whole) * 3 // 5])
        elif case.fault is Fault.DAMAGED:
            path.write_bytes(_damaged(whole))


def _damaged(whole: bytes) -> bytes:
    """Return a JPEG without its end marker, or a PNG with a wrong checksum in a text chunk: browsers show both."""
    if whole.startswith(JPEG_START):
        return whole.removesuffix(JPEG_END)
    text = b"Comment\0damaged"
    chunk = len(text).to_bytes(4) + b"tEXt" + text + bytes(4)
    return whole[:-PNG_END_BYTES] + chunk + whole[-PNG_END_BYTES:]


def draw(case: Case) -> Image.Image:
    """Return the picture of a case, the same one every time: a motif above the brand and the title."""
    random = Random(case.case_id * SEED)
    number = case.case_id
    palette = PALETTES[(number * 5 + number // len(PALETTES)) % len(PALETTES)].split()
    colours = [(int(each[:2], 16), int(each[2:4], 16), int(each[4:], 16)) for each in palette]
    sky, ground = random.choice([(3, 4), (4, 3), (0, 1), (1, 0)])
    art = Image.new("RGB", (1, 2))
    art.putdata([colours[sky], colours[ground]])
    art = art.resize(ART, Image.Resampling.BILINEAR)
    MOTIFS[number % len(MOTIFS)](ImageDraw.Draw(art, "RGBA"), colours, random)
    picture = Image.new("RGB", (WIDTH, HEIGHT), colours[4])
    picture.paste(art.reduce(2))
    pen = ImageDraw.Draw(picture)
    top = ART[1] // 2 + 22
    pen.text((MARGIN, top), " ".join(case.brand.english.upper()), colours[1], ImageFont.load_default(13))
    pen.line((MARGIN, top + 24, MARGIN + 36, top + 24), colours[2], 3)
    for points in (46, 40, 34, 30, 22):
        font = ImageFont.load_default(points)
        if pen.textlength(case.title.english, font) <= WIDTH - 2 * MARGIN:
            break
    pen.text((MARGIN, top + 38), case.title.english, colours[0], font)
    return picture


Colour = tuple[int, int, int]


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: Colour) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def _hills(pen: ImageDraw.ImageDraw, colours: Sequence[Colour], random: Random) -> None:
    """Draw a low sun over ridges, each in front of the one before."""
    width, height = ART
    _disc(pen, random.uniform(0.25, 0.75) * width, random.uniform(0.25, 0.4) * height, 0.14 * width, colours[2])
    for ridge in range(5):
        base, swing, phase = height * (0.48 + 0.11 * ridge), random.uniform(24, 60), random.uniform(0, tau)
        line = [
            (x, base + swing * (sin(phase + 5 * x / width) + 0.5 * sin(2 * phase + 11 * x / width)))
            for x in range(0, width + 16, 16)
        ]
        pen.polygon([*line, (width, height), (0, height)], (*colours[1], 90 + 40 * ridge))


def _tiles(pen: ImageDraw.ImageDraw, colours: Sequence[Colour], random: Random) -> None:
    """Draw quarter circles in a grid."""
    edge = ART[0] // 4
    for left in range(0, ART[0], edge):
        for top in range(0, ART[1], edge):
            back, front = random.sample(colours, 2)
            pen.rectangle((left, top, left + edge, top + edge), back)
            x, y, start = random.choice([(0, 0, 0), (edge, 0, 90), (edge, edge, 180), (0, edge, 270)])
            x, y = left + x, top + y
            pen.pieslice((x - edge, y - edge, x + edge, y + edge), start, start + 90, front)


def _rays(pen: ImageDraw.ImageDraw, colours: Sequence[Colour], random: Random) -> None:
    """Draw a sun and its beams."""
    width, height = ART
    x, y, beams = width * random.uniform(0.3, 0.7), height * random.uniform(0.5, 0.8), random.choice((14, 18, 22))
    turn = random.uniform(0, 360)
    reach = width + height
    for beam in range(beams):
        start = turn + 360 * beam / beams
        pen.pieslice((x - reach, y - reach, x + reach, y + reach), start, start + 180 / beams, (*colours[2], 200))
    for part, colour in ((0.3, colours[4]), (0.25, colours[1]), (0.17, colours[0])):
        _disc(pen, x, y, width * part, colour)


def _flower(pen: ImageDraw.ImageDraw, colours: Sequence[Colour], random: Random) -> None:
    """Draw one large flower of three rings of petals."""
    x, y, petals = ART[0] * random.uniform(0.4, 0.6), ART[1] * random.uniform(0.42, 0.56), random.choice((7, 9, 11, 13))
    outline = [(step / 16, 0.2 * sin(pi * step / 16)) for step in range(17)]
    outline += [(along, -across) for along, across in reversed(outline)]
    for ring, reach in enumerate((520, 390, 260)):
        for petal in range(petals):
            angle = tau * (petal + ring / 2) / petals
            there, aside = reach * cos(angle), reach * sin(angle)
            pen.polygon([(x + a * there - b * aside, y + a * aside + b * there) for a, b in outline], colours[2 + ring])
    _disc(pen, x, y, 70, colours[0])


MOTIFS = (_hills, _tiles, _flower, _rays)


def _placeholder() -> Image.Image:
    """Return a grey sign that says that the picture may not be shown elsewhere."""
    sign = Image.new("RGB", (480, 320), (226, 226, 228))
    pen = ImageDraw.Draw(sign)
    text = "This picture is from our platform\nand may not be shown elsewhere"
    pen.multiline_text((240, 160), text, (96, 96, 104), ImageFont.load_default(24), anchor="mm", align="center")
    return sign
