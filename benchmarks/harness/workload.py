"""Real pictures for an origin, of a chosen mean size, no two with the same bytes."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageFilter

SHARES = (("jpg", 0.60), ("png", 0.36), ("gif", 0.03), ("webp", 0.01))  # as in the first operator's catalogue
KEPT = Path(__file__).parents[2] / ".cache" / "bench-pictures"


@dataclass(frozen=True)
class Picture:
    """One picture at the origin."""

    name: str
    size: int
    digest: str


def scene(seed: int, width: int, height: int, *, grain: int) -> Image.Image:
    """Return a picture like a photograph: soft shapes with some grain, so that it compresses like one."""
    rng = random.Random(seed)
    small = Image.frombytes("RGB", (12, 9), rng.randbytes(12 * 9 * 3)).resize((width, height), Image.Resampling.BICUBIC)
    noise = Image.effect_noise((width, height), grain).convert("RGB").filter(ImageFilter.BoxBlur(1))
    return Image.blend(small, noise, 0.2)


def encode(image: Image.Image, kind: str) -> bytes:
    """Encode the picture in a format with the options that sites usually choose."""
    out = io.BytesIO()
    match kind:
        case "jpg":
            image.save(out, "JPEG", quality=88)
        case "png":
            image.save(out, "PNG")
        case "gif":
            image.quantize(256).save(out, "GIF")
        case "webp":
            image.save(out, "WEBP", quality=85, method=2)
        case "progressive jpg":
            image.save(out, "JPEG", quality=88, progressive=True)
        case "avif":
            image.save(out, "AVIF", quality=75, speed=8)
    return out.getvalue()


def base(kind: str, seed: int, size: int) -> bytes:
    """Return a picture of about `size` bytes, the same each time; it is cached, because the search is slow."""
    kept = KEPT / f"{kind}-{seed}-{size}-{Image.__version__}"
    if not kept.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        begun = kept.with_suffix(f".{os.getpid()}")
        begun.write_bytes(found(kind, seed, size))
        begun.rename(kept)
    return kept.read_bytes()


def found(kind: str, seed: int, size: int) -> bytes:
    """Search for the dimensions that give about `size` bytes, and return that picture."""
    width = 64
    body = b""
    for _ in range(6):
        body = encode(scene(seed, width, width * 3 // 4, grain=40), kind)
        ratio = (size / len(body)) ** 0.5
        if 0.93 < ratio < 1.07:
            break
        width = max(16, round(width * ratio))
    return body


def stamp(body: bytes, kind: str, number: int) -> bytes:
    """Return the same picture with a unique comment, still valid to the last byte."""
    text = b"rehost benchmark %010d" % number
    match kind:
        case "jpg":  # COM segment after SOI (ITU T.81, B.2.4.5)
            return body[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + body[2:]
        case "png":  # tEXt chunk after IHDR (PNG, 11.3.4.3)
            chunk = b"tEXtComment\0" + text
            return (
                body[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + body[33:]
            )
        case "gif":  # comment extension before the trailer (GIF89a, 24)
            return body[:-1] + b"\x21\xfe" + bytes([len(text)]) + text + b"\0" + body[-1:]
        case _:  # a chunk at the end that readers skip (WebP container, unknown chunks)
            chunk = b"note" + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)
            return body[:4] + struct.pack("<I", len(body) - 8 + len(chunk)) + body[8:] + chunk


def make(folder: Path, count: int, mean_size: int) -> list[Path]:
    """Write `count` distinct pictures of `mean_size` bytes on average to a folder; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(count * 31 + mean_size)
    kinds, weights = zip(*SHARES, strict=True)
    sizes = [round(mean_size * factor) for factor in (0.4, 0.6, 0.8, 1.0, 1.0, 1.2, 1.4, 1.6)]
    bases = {kind: [base(kind, seed, size) for seed, size in enumerate(sizes)] for kind in kinds}
    paths = []
    for number in range(count):
        kind = rng.choices(kinds, weights)[0]
        path = folder / f"{number // 1000:03d}" / f"{number:07d}.{kind}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(stamp(rng.choice(bases[kind]), kind, number))
        paths.append(path)
    return paths
