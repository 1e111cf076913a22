"""Torch against the scanner's own Detector on golden pictures; export refuses on a mismatch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFilter

from scanner.bundle import Bundle
from scanner.detector import Detector
from scanner.errors import ImgscanError
from scanner.half import objection
from scanner.preprocess import prepare
from scanner.verdict import probabilities
from trainer.models import AutoencoderClassifier

RGB = npt.NDArray[np.uint8]
TOLERANCE = 1e-4  # largest difference in P(fake) that an export may have
# Largest in the logit, as a part of the largest logit: where the sigmoid is flat, P(fake) is deaf.
LOGIT_TOLERANCE = 1e-3
# Largest in a reconstruction, RGB in [0, 1]: a quarter of a step of 8 bits.
RECONSTRUCTION_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest differences over the golden pictures, alone and in one batch, and how far torch's
    own answers lie apart: P(fake) over `probability_range`, the logit up to `max_logit` from 0.

    `max_reconstruction_difference` is in RGB from 0 to 1; None without a decoder.
    """

    pictures: int
    max_probability_difference: float
    max_logit_difference: float
    probability_range: float
    max_logit: float
    max_reconstruction_difference: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether both ways give the same answers, P(fake) and what it is made of."""
        return (
            self.max_probability_difference <= TOLERANCE
            and self.max_logit_difference <= LOGIT_TOLERANCE * self.max_logit + TOLERANCE
            and self.remakes
        )

    @property
    def remakes(self) -> bool:
        """Whether both ways give the same reconstructions, if any. Fails for NaN."""
        difference = self.max_reconstruction_difference
        return difference is None or difference <= RECONSTRUCTION_TOLERANCE

    @property
    def degenerate(self) -> bool:
        """Whether the pictures score so much alike that another graph would have passed, too."""
        return self.probability_range < 100 * TOLERANCE


def golden_pictures() -> list[RGB]:
    """Sixteen pictures, uint8 [H, W, 3], drawn from fixed seeds: nothing has to be shipped.

    They range over what moves a network: flat areas, gradients, edges, fine texture, noise,
    saturated colour, black and white, tall and wide and tiny shapes.
    """
    pictures = [
        np.full((64, 64, 3), 0, np.uint8),
        np.full((300, 300, 3), 255, np.uint8),
    ]
    for seed, (height, width) in enumerate(_SIZES):
        rng = np.random.default_rng(seed)
        pictures.append(_scene(rng, height, width))
    return pictures


_SIZES = [
    (256, 256), (480, 640), (640, 480), (200, 300), (1024, 1024), (90, 700), (700, 90),
    (33, 47), (768, 512), (256, 384), (1080, 1920), (300, 300), (512, 512), (225, 400),
]  # fmt: skip


def _scene(rng: np.random.Generator, height: int, width: int) -> RGB:
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    start, across, down = rng.uniform(0, 255, (3, 3))
    base = start + (across - start) * x[..., None] + (down - start) * y[..., None] / 2
    image = Image.fromarray(np.clip(base, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 24))):
        corner = rng.uniform(-0.1, 0.9, 2) * (width, height)
        extent = rng.uniform(0.05, 0.6, 2) * (width, height)
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        box = [*corner, *(corner + extent)]
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, fill=colour)
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 2.5))))
    noise = rng.normal(0, rng.uniform(0, 25), (height, width, 3))
    return np.clip(np.asarray(image, np.float64) + noise, 0, 255).astype(np.uint8)


def measure(model: AutoencoderClassifier, detector: Detector) -> Parity:
    """Score the golden pictures both ways; P(fake) by the bundle's temperature."""
    batch = np.stack([prepare(rgb, model.spec) for rgb in golden_pictures()])  # [16, V, 3, S, S]
    with torch.inference_mode():
        output = model.eval().cpu()(torch.from_numpy(batch).flatten(0, 1))
    logit = output.logit.double().view(len(batch), -1).mean(1).numpy()
    temperature = detector.bundle.temperature
    expected = probabilities(logit, temperature)
    found = np.stack(  # [2, 16]
        [
            detector.logits(batch),
            np.concatenate([detector.logits(batch[i : i + 1]) for i in range(len(batch))]),
        ]
    )
    p_fake = probabilities(found, temperature)
    return Parity(
        pictures=len(batch),
        max_probability_difference=float(np.abs(p_fake - expected).max()),
        max_logit_difference=float(np.abs(found - logit).max()),
        probability_range=float(np.ptp(expected)),
        max_logit=float(np.abs(logit).max()),
        max_reconstruction_difference=_reconstruction_difference(
            batch.reshape(-1, *batch.shape[2:]), output.reconstruction, detector
        ),
    )


def _reconstruction_difference(
    pixels: npt.NDArray[np.float32], expected: torch.Tensor | None, detector: Detector
) -> float | None:
    if not detector.bundle.has_decoder:
        return None
    found = detector.reconstruct(pixels)
    assert found is not None
    assert expected is not None
    return float(np.abs(found - expected.numpy()).max())


def require(model: AutoencoderClassifier, bundle: Bundle) -> Parity:
    """`measure`, raising ImgscanError where the two do not agree."""
    parity = measure(model, Detector(bundle, device="cpu"))
    if not parity.remakes:
        raise ImgscanError(
            "the exported decoder's reconstructions differ from those of the torch model by up to "
            f"{parity.max_reconstruction_difference:.2e} (at most {RECONSTRUCTION_TOLERANCE:g} is "
            "let pass); nothing was written"
        )
    if not parity.agrees:
        raise ImgscanError(
            f"the exported graphs differ from the torch model by up to "
            f"{parity.max_probability_difference:.2e} in P(fake) (at most {TOLERANCE:g} is let "
            f"pass) and {parity.max_logit_difference:.2e} in the logit (at most "
            f"{LOGIT_TOLERANCE:g} of {parity.max_logit:.2g}); nothing was written"
        )
    return parity


@dataclass(frozen=True, slots=True)
class HalfParity:
    """How far half precision scores from float32, both by the Detector on the CPU.

    `problem` says in one line why it may not stand for it; None where it may.
    """

    max_probability_difference: float
    problem: str | None

    def worse(self, other: HalfParity) -> HalfParity:
        """The one with a problem, or of the larger difference."""
        if (self.problem is None) != (other.problem is None):
            return self if other.problem is None else other
        return max(self, other, key=lambda parity: parity.max_probability_difference)


def measure_half(bundle: Bundle) -> HalfParity:
    """Score the golden pictures by both encoders of `bundle`.

    No P(fake) may differ by more than `scanner.half.TOLERANCE`, and no picture may change sides
    of the bundle's threshold. The Detector has its own say too: a graph that it would refuse in
    a scan is of no use.
    """
    half, full = (Detector(bundle, "cpu", half=wanted) for wanted in (True, False))
    if not half.half:
        return HalfParity(float("nan"), half.half_refused)
    batch = np.stack([prepare(rgb, bundle.spec) for rgb in golden_pictures()])  # [16, V, 3, S, S]
    found, expected = half.score(batch), full.score(batch)
    threshold = bundle.thresholds[bundle.operating_point]
    flipped = int(np.count_nonzero((found >= threshold) != (expected >= threshold)))
    problem = objection(found, expected)
    if problem is None and flipped:
        problem = f"{flipped} of {len(batch)} golden pictures change sides of the threshold"
    return HalfParity(float(np.abs(found - expected).max()), problem)
