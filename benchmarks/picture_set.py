"""Sets of pictures for measurements: generated from a seed, and multiplied by hard links."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.draft_decode import CAMERA, CONTENTS, Content, jpeg, picture

_SCENES: list[Content] = [c for c in CONTENTS if c not in ("fabric", "colour")]


def mixed(folder: Path, count: int) -> None:
    """`count` files below `folder`: equal parts of four kinds, of each of which eight differ.

    Camera JPEGs of 12 megapixels, web JPEGs of 1200 x 800, PNGs of 1000 x 750 and WebPs of
    1280 x 960. Hard links are files of their own to a scan without a memory.
    """
    folder.mkdir(parents=True)
    originals = []
    for number in range(min(8, -(-count // 4))):
        for name, data in _kinds(number):
            path = folder / f"{number:06d}-{name}"
            path.write_bytes(data)
            originals.append(path)
    for number in range(len(originals), count):
        original = originals[number % len(originals)]
        os.link(original, folder / f"{number:06d}-{original.name}")


def tiny(folder: Path, count: int) -> None:
    """`count` JPEGs of 256 x 192, all links to 64 that differ, in folders of 1,000."""
    originals: list[Path] = []
    for number in range(count):
        path = folder / f"{number // 1000:04d}" / f"{number:07d}.jpg"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        if number < 64:
            scene = _SCENES[number % len(_SCENES)]
            shown = picture(scene, (256, 192), seed=number)
            path.write_bytes(jpeg(shown, quality=85, subsampling="4:2:0"))
            originals.append(path)
        else:
            os.link(originals[number % len(originals)], path)


def _kinds(number: int) -> Iterator[tuple[str, bytes]]:
    scene = _SCENES[number % len(_SCENES)]
    camera = picture(scene, CAMERA, seed=number)
    yield "camera.jpg", jpeg(camera, quality=90, subsampling="4:2:0")
    web = picture(scene, (1200, 800), seed=number)
    yield "web.jpg", jpeg(web, quality=80, subsampling="4:2:0")
    for name, size, options in (
        ("screen.png", (1000, 750), {}),
        ("web.webp", (1280, 960), {"quality": 80}),
    ):
        stream = io.BytesIO()
        picture(scene, size, seed=number).save(stream, Path(name).suffix[1:], **options)
        yield name, stream.getvalue()
