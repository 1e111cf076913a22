"""Pictures changed in one way at a time: other views of a tier's picture, and harder lessons.

A variant "WAY@TIER" is another view of a picture at a tier; "WAY+lottery-N" is draw N of the
lottery of a picture that was changed before. Each way is the same for the same picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from torch import Tensor

from scanner.preprocess import PreprocessSpec, prepare
from scanner.types import Failed
from trainer.augment import augment, jpeg
from trainer.encoded import EncodedPictures, Rows
from trainer.loader import Pictures, _key_number
from trainer.tiers import TIERS

RGB = npt.NDArray[np.uint8]
Way = Callable[[Image.Image, np.random.Generator], Image.Image]
_ZOOM = 224 / 256  # what is left of the short side


def _square(image: Image.Image, left: float, top: float, side: float) -> Image.Image:
    return image.crop((round(left), round(top), round(left + side), round(top + side)))


def _zoom(image: Image.Image) -> Image.Image:
    side = min(image.size) * _ZOOM
    return _square(image, (image.width - side) / 2, (image.height - side) / 2, side)


VIEWS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "flip": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "zoom": _zoom,
    # The two ends of the longer side; of a square, the picture itself.
    "start": lambda image: _square(image, 0, 0, min(image.size)),
    "end": lambda image: _square(
        image, image.width - min(image.size), image.height - min(image.size), min(image.size)
    ),
}  # fmt: skip


def _noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    noise = rng.standard_normal((image.height, image.width, 3)) * rng.uniform(4, 16)
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _colour(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(float(rng.uniform(0.6, 1.4)))
    return image


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = min(image.size) * float(rng.uniform(0.35, 0.6))
    left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
    return _square(image, left, top, side)


def _heavy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    factor = float(rng.uniform(0.35, 0.6))
    small = image.resize([max(16, round(side * factor)) for side in image.size])
    return jpeg(jpeg(small, int(rng.integers(15, 41))), int(rng.integers(15, 41)))


def _screenshot(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """On a page of flat colour, under a bar, with lines of text beside it."""
    scale = float(rng.uniform(1.1, 1.6))
    width, height = round(image.width * scale), round(image.height * scale)
    grey = int(rng.choice([18, 32, 240, 255]))
    page = Image.new("RGB", (width, height), (grey, grey, grey))
    draw = ImageDraw.Draw(page)
    ink = (235, 235, 235) if grey < 128 else (30, 30, 30)
    for y in range(30, height, 14):
        draw.text((8, y), "lorem ipsum dolor sit amet " * 3, fill=ink)
    draw.rectangle((0, 0, width, 22), fill=(grey // 2 + 60,) * 3)
    draw.text((8, 5), "File  Edit  View", fill=ink)
    free = width - image.width, height - image.height
    page.paste(image, (int(rng.integers(free[0] + 1)), min(free[1], 24)))
    return page


WAYS: dict[str, Way] = {
    "blur": lambda image, rng: image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.8, 2)))),
    "noise": _noise,
    "colour": _colour,
    "grey": lambda image, rng: image.convert("L").convert("RGB"),
    "crop": _crop,
    "heavy": _heavy,
    "screenshot": _screenshot,
}
# A part of another picture of the same source is pasted in (after Yun et al., 2019).
CUT_MIX = "cutmix"


class _Changed(Pictures):
    """`Pictures` of a draw of the lottery, each changed by one of `WAYS`, or cut-mixed."""

    way = ""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._alike: dict[tuple[str, str | None], list[int]] = defaultdict(list)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        sample = self.samples[index]
        rng = np.random.default_rng((self.seed, self.epoch, _key_number(sample)))
        own = np.random.default_rng((1 + self.seed, self.epoch, _key_number(sample)))
        image = self._image(index)
        if self.way == CUT_MIX:
            image = _cut_mixed(image, self._other(index, own), own)
        else:
            image = WAYS[self.way](image, own)
        rgb = augment(np.asarray(image), self.augmentation, rng)
        return torch.from_numpy(prepare(rgb, self.spec, None)), sample.label, index

    def _other(self, index: int, rng: np.random.Generator) -> Image.Image:
        """Another of the same source and split: while a family is left out, no part of its
        pictures may be inside another's."""
        if not self._alike:
            for i, sample in enumerate(self.samples):
                self._alike[sample.source, sample.split].append(i)
        same = self._alike[self.samples[index].source, self.samples[index].split]
        return self._image(same[int(rng.integers(len(same)))])

    def _image(self, index: int) -> Image.Image:
        decoded = self.recipe.make(self.samples[index])
        if isinstance(decoded, Failed):
            raise SystemExit(f"{self.samples[index].key}: {decoded.detail}")
        return Image.fromarray(decoded.rgb)


def _cut_mixed(image: Image.Image, other: Image.Image, rng: np.random.Generator) -> Image.Image:
    mixed = image.copy()
    side = round(min(image.size) * float(rng.uniform(0.5, 0.8)))
    part = _square(other.resize(image.size), 0, 0, side)
    free = image.width - side, image.height - side
    mixed.paste(part, (int(rng.integers(free[0] + 1)), int(rng.integers(free[1] + 1))))
    return mixed


class ChangedEncodings(EncodedPictures):
    """Encodings that know these variants too; by the exported `graph`, where one is given,
    which takes half of PyTorch's time on a CPU."""

    _graph: ort.InferenceSession | None = None

    def use(self, graph: Path, threads: int) -> None:
        """Take the features from this ONNX graph; it must be that of the same encoder."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = ort.InferenceSession(str(graph), options)
        size = self.model.spec.size
        x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            ours = self.model.encoder.eval()(x).features.numpy()
        apart = float(np.abs(_run(session, x) - ours).max())
        if apart > 1e-3:
            raise SystemExit(f"{graph}: not this encoder, its features differ by {apart:.3g}")
        self._graph = session

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> npt.NDArray[np.float32]:
        """Features, float32 [N, F], of prepared squares [N, 3, S, S]; kept nowhere."""
        if self._graph is not None:
            return _run(self._graph, pixels)
        found: npt.NDArray[np.float32] = self.model.encoder.eval()(pixels).features.numpy()
        return found

    def fill(self, variant: str, rows: Rows, *, maps: bool) -> None:
        """As before, but who finds all done does not wait for the lock."""
        if not self._array(variant, "done-maps" if maps else "done")[rows].all():
            super().fill(variant, rows, maps=maps)

    def _encode(
        self, encoder: torch.nn.Module, pixels: Tensor, rows: Rows, arrays: dict[str, np.memmap]
    ) -> None:
        if self._graph is None or "deepest" in arrays:
            super()._encode(encoder, pixels, rows, arrays)
        else:
            arrays["features"][rows] = _run(self._graph, pixels[:, 0])

    def _pictures(self, variant: str) -> Pictures:
        view, _, tier = variant.partition("@")
        if tier:
            return self._views(view, tier)
        way, _, draw = variant.partition("+")
        if draw:
            return self._ways(way, draw)
        return super()._pictures(variant)

    def _views(self, view: str, name: str) -> Pictures:
        def change(rgb: RGB) -> RGB:
            return np.asarray(VIEWS[view](Image.fromarray(np.ascontiguousarray(tier(rgb)))))

        tier = TIERS[name]
        side = max(tier.longest, 512)  # a part of the picture needs more pixels than the whole
        return Pictures(self.samples, self.model.spec, change=change, decode_side=side)

    def _ways(self, way: str, draw: str) -> Pictures:
        spec: PreprocessSpec = self.model.spec
        kind = self.config.augment
        pictures = _Changed(self.samples, spec, augmentation=kind, seed=self.config.seed)
        pictures.way, pictures.epoch = way, int(draw.removeprefix("lottery-"))
        return pictures


def _run(session: ort.InferenceSession, pixels: Tensor) -> npt.NDArray[np.float32]:
    found: Sequence[Any] = session.run(["features"], {session.get_inputs()[0].name: pixels.numpy()})
    features: npt.NDArray[np.float32] = found[0]
    return features
