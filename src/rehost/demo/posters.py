"""The demonstration's pictures: a motif, a frame and the case's words, encoded and kept on disk for the next time.

The lettering is English: Pillow brings a Latin typeface, and a bare machine has no Chinese one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import PIL
from PIL import Image, ImageDraw, ImageFont

from rehost.demo.cases import SEED, Case, Fault
from rehost.demo.motifs import MOTIFS
from rehost.demo.shapes import PALETTES, Palette, Size, between
from rehost.model import Format

EDITION = 1  # of the drawing below; to be raised when it changes
STAMP = "edition.txt"
SIZE: Size = (480, 600)
MARGIN = 28
FOOT = 150  # height of the strip that carries the words
NOTICE = "notice.png"


@dataclass(frozen=True, slots=True)
class Posters:
    """The pictures on disk."""

    folder: Path

    def path(self, case: Case) -> Path:
        """Return where the file lies that the case's host serves."""
        return self.folder / f"{case.case_id}.{case.format.value}"

    @property
    def notice(self) -> Path:
        """Return the picture that hosts show in place of the one asked for."""
        return self.folder / NOTICE

    def digest(self, case: Case) -> str:
        """Return the SHA-256 of the case's picture."""
        return hashlib.sha256(self.path(case).read_bytes()).hexdigest()

    def make(self, cases: Sequence[Case]) -> bool:
        """Make all pictures, unless they are there; return whether they had to be made."""
        stamp = self.folder / STAMP
        edition = _edition(cases)
        if stamp.is_file() and stamp.read_text("utf-8") == edition:
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        _notice().save(self.notice, optimize=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow lets go of the interpreter while it works
            list(pool.map(self._save, [case for case in cases if case.host is not None]))
        stamp.write_text(edition, "utf-8")  # last: a make that was cut short is begun again
        return True

    def _save(self, case: Case) -> None:
        path, poster = self.path(case), poster_of(case)
        match case.format:
            case Format.JPEG:
                poster.save(path, quality=86, progressive=case.case_id % 3 == 0)
            case Format.WEBP:
                poster.save(path, quality=84, method=2)
            case Format.GIF:
                frames = [_sunlit(poster, step).quantize(96) for step in range(6)]
                frames[0].save(path, save_all=True, append_images=frames[1:], duration=180, loop=0)
            case _:
                poster.save(path, compress_level=6)
        if case.fault is Fault.CUT:
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) * 3 // 5])


def poster_of(case: Case) -> Image.Image:
    """Return the poster of a case; the same one every time."""
    random = Random(case.case_id * SEED)
    number = case.case_id
    colours = PALETTES[(number * 5 + number // len(PALETTES)) % len(PALETTES)]
    motif = MOTIFS[number % len(MOTIFS)]
    width, height = SIZE
    if random.random() < 0.4:  # noqa: PLR2004 - two in five fill the sheet
        poster = motif(SIZE, colours, random)
        poster.paste(colours[4], (0, height - FOOT, width, height))
    else:
        poster = Image.new("RGB", SIZE, between(colours[4], (255, 255, 255), 0.35))
        art = motif((width - 2 * MARGIN, height - FOOT - MARGIN), colours, random)
        poster.paste(art, (MARGIN, MARGIN))
    _letter(poster, case, colours)
    return poster


def _edition(cases: Sequence[Case]) -> str:
    """Return what pictures on disk must have been made by; others are made anew."""
    drawn = repr([(case.case_id, case.title, case.brand, case.format, case.fault, case.host) for case in cases])
    return f"{EDITION} {PIL.__version__} {hashlib.sha256(drawn.encode()).hexdigest()}"


def _letter(poster: Image.Image, case: Case, colours: Palette) -> None:
    draw = ImageDraw.Draw(poster)
    left, top = MARGIN, SIZE[1] - FOOT + 20
    draw.text((left, top), _spaced(case.brand.name.english), colours[1], ImageFont.load_default(13))
    draw.line((left, top + 24, left + 36, top + 24), colours[2], 3)
    title, font = _fitting(draw, case.title.english, SIZE[0] - 2 * MARGIN)
    draw.multiline_text((left, top + 36), title, colours[0], font, spacing=4)


def _fitting(
    draw: ImageDraw.ImageDraw, text: str, width: int
) -> tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont]:
    """Return the text in one or two lines, and the largest type in which it fits."""
    words = text.split()
    middle = (len(words) + 1) // 2
    for points, shape in ((46, text), (40, text), (34, text), (30, text), (24, _two(words, middle)), (16, text)):
        font = ImageFont.load_default(points)
        if draw.multiline_textbbox((0, 0), shape, font)[2] <= width:
            return shape, font
    return text[:40], ImageFont.load_default(16)


def _two(words: Sequence[str], middle: int) -> str:
    return " ".join(words[:middle]) + "\n" + " ".join(words[middle:])


def _spaced(text: str) -> str:
    return " ".join(text.upper())


def _sunlit(poster: Image.Image, step: int) -> Image.Image:
    """Return one frame of a slow change of light."""
    lit = Image.new("RGB", SIZE, (255, 236, 200))
    return Image.blend(poster, lit, (0.0, 0.05, 0.10, 0.14, 0.10, 0.05)[step]).resize((320, 400))


def _notice() -> Image.Image:
    """Return a grey sign that says that this is not the picture."""
    sign = Image.new("RGB", (480, 320), (226, 226, 228))
    draw = ImageDraw.Draw(sign)
    draw.rounded_rectangle((40, 40, 440, 280), 18, outline=(150, 150, 156), width=3)
    draw.ellipse((205, 70, 275, 140), outline=(120, 120, 128), width=7)
    draw.line((216, 81, 264, 129), (120, 120, 128), 7)
    for top, points, text in ((165, 24, "This picture is from our platform"), (205, 24, "and may not be quoted here")):
        draw.text((240, top), text, (96, 96, 104), ImageFont.load_default(points), anchor="ma")
    return sign
