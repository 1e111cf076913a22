"""How a model does on pictures out of its domain: tiny, blank, drawn by a program.

    python -m benchmarks.odd_pictures --data pictures --model accurate

Held-out pictures of known sources are shrunk, to see from which side on the model no longer tells
them apart. Pictures without a camera or a generator behind them (blank areas, gradients, noise,
pages of text, windows with text) have no right answer; the table says what they are called.
docs/model-quality.md states what was found, and scanner/domain.py goes by it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from scanner.bundle import bundle_path, read_bundle
from scanner.cascade import open_model
from scanner.images import decode
from scanner.preprocess import prepare
from scanner.types import ImageRef, Pixels
from scanner.verdict import OperatingPoint, operating_point, verdict_of
from trainer.data import FAKE, draw_key, load_samples

RGB = npt.NDArray[np.uint8]
SIDES = (256, 192, 128, 96, 64, 48, 32)
_WORDS = (
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "nobody",
    "looks",
)


def shrunk(rgb: RGB, side: int) -> RGB:
    """Its shorter side made `side` pixels, by Lanczos; a smaller one stays."""
    scale = side / min(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))


def blank(rng: np.random.Generator) -> RGB:
    """One colour, with a sensor's faint noise."""
    colour = rng.integers(0, 256, 3)
    return _bytes(colour + rng.normal(0, 1.5, (480, 640, 3)))


def gradient(rng: np.random.Generator) -> RGB:
    """From one colour to another, as a clear sky or a wall."""
    a, b = rng.integers(0, 256, 3), rng.integers(0, 256, 3)
    at = np.linspace(0, 1, 480)[:, None, None]
    return _bytes(a * (1 - at) + b * at + rng.normal(0, 1.5, (480, 640, 3)))


def noise(rng: np.random.Generator) -> RGB:
    """Of each pixel's own."""
    return _bytes(rng.normal(128, 60, (480, 640, 3)))


def document(rng: np.random.Generator) -> RGB:
    """A page of text, dark on white."""
    return _text(rng, (800, 1100), "white", "black", 22)


def screenshot(rng: np.random.Generator) -> RGB:
    """A window: a bar, a column of buttons, lines of text."""
    dark = rng.random() < 0.5
    image = Image.fromarray(
        _text(rng, (1280, 800), *(("#202124", "#dddddd") if dark else ("#fafafa", "#222222")), 18)
    )
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 1280, 36), fill="#3a5fcd" if rng.random() < 0.5 else "#444444")
    for row in range(int(rng.integers(4, 12))):
        box = (12, 60 + 44 * row, 200, 92 + 44 * row)
        draw.rounded_rectangle(box, 6, fill=tuple(int(v) for v in rng.integers(60, 220, 3)))
    return np.asarray(image)


def _text(
    rng: np.random.Generator, size: tuple[int, int], paper: str, ink: str, height: int
) -> RGB:
    image = Image.new("RGB", size, paper)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=height)
    left = 60 if size[0] < size[1] else 240
    for y in range(70, size[1] - 60, height + 10):
        words = rng.choice(_WORDS, int(rng.integers(2, 9)))
        draw.text((left, y), " ".join(words), fill=ink, font=font)
    return np.asarray(image)


def _bytes(values: npt.NDArray[np.float64]) -> RGB:
    return np.asarray(values.round().clip(0, 255), np.uint8)


MADE: dict[str, Callable[[np.random.Generator], RGB]] = {
    "blank": blank,
    "gradient": gradient,
    "noise": noise,
    "page of text": document,
    "window with text": screenshot,
}


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--split", default="val")
    parser.add_argument("--per-class", type=int, default=60)
    asked = parser.parse_args()

    bundle = read_bundle(bundle_path(asked.model))
    detector, point = open_model(bundle, "cpu"), operating_point(bundle)

    def p_fake(rgb: RGB) -> float:
        return float(detector.score(prepare(rgb, bundle.spec)[None])[0])

    chosen: list[tuple[bool, RGB]] = []
    held_out = [s for s in load_samples(asked.data) if s.split == asked.split]
    for label in (0, 1):
        some = sorted(
            (s for s in held_out if s.label == label), key=lambda s: draw_key(0, "odd", s.key)
        )
        for sample in some[: asked.per_class]:
            pixels = decode(ImageRef(sample.path), bundle.spec)
            if isinstance(pixels, Pixels):
                chosen.append((label == FAKE, np.asarray(pixels.rgb)))
    print(f"{bundle.name}@{bundle.digest}, {len(chosen)} pictures of split {asked.split}\n")
    print("| shorter side | fakes called fake | reals called real | unsure | sure ones right |")
    print("|---|---|---|---|---|")
    for side in SIDES:
        scores = [(fake, p_fake(shrunk(rgb, side))) for fake, rgb in chosen]
        print(f"| {side} | {_row(scores, point)} |", flush=True)
    print("\n| made by a program | fake | real | unsure | median P(fake) |\n|---|---|---|---|---|")
    for name, make in MADE.items():
        values = [p_fake(make(np.random.default_rng(n))) for n in range(40)]
        called = [verdict_of(p, point) for p in values]
        cells = [f"{called.count(v) / len(called):.0%}" for v in ("fake", "real", "unsure")]
        print(f"| {name} | {' | '.join(cells)} | {np.median(values):.2f} |", flush=True)


def _row(scores: list[tuple[bool, float]], point: OperatingPoint) -> str:
    cut = [(fake, p >= point.threshold) for fake, p in scores]
    found = np.mean([called for fake, called in cut if fake])
    passed = np.mean([not called for fake, called in cut if not fake])
    called = [(fake, verdict_of(p, point)) for fake, p in scores]
    sure = [("fake" if fake else "real") == v for fake, v in called if v != "unsure"]
    right = f"{np.mean(sure):.0%}" if sure else "-"
    return f"{found:.0%} | {passed:.0%} | {1 - len(sure) / len(called):.0%} | {right}"


if __name__ == "__main__":
    main()
