"""Decoded pictures, kept on disk: decoded once, read in every epoch and by every later run.

An entry is named by the SHA-256 of the picture's file and by all that decides its pixels: the
side it is decoded for, Pillow's version and, where nothing random follows, the preprocessing,
else the side that bounds what a lottery draws from. It holds a checksum; one that does not fit is
made anew. What is read is what decoding would have given, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
from filelock import FileLock

from scanner.errors import UsageError
from scanner.preprocess import PreprocessSpec, resized_squares
from scanner.types import Box, Failed, Pixels
from trainer.augment import bounded, lottery_side
from trainer.data import Sample
from trainer.decoded_index import FileKey, Index, opened
from trainer.tiers import Tier

RGB = npt.NDArray[np.uint8]
Wanted = Sequence[tuple[Sample, "Recipe"]]
_SUFFIX = ".pixels"
_FORMAT = 1  # raised when entries are laid out, or pixels made, in another way
_HEADER = 256  # bytes before the pixels of an entry
_CHUNK = 64  # pictures between two looks at what another process has done meanwhile


@dataclass(frozen=True, slots=True)
class Kept:
    """`rgb` is uint8 [H, W, 3] with `box` as in `Pixels`, or squares, uint8 [V, S, S, 3]."""

    rgb: RGB
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """From a picture's file to what `Pictures` starts from in every epoch.

    `whole`: the decoded picture, from which an augmentation draws, its short side at most
    `lottery_side(spec.size)`. Else the squares of `spec`, after `change`: nothing random
    follows. A JPEG is decoded as for a square of `side` pixels.
    """

    spec: PreprocessSpec
    side: int
    whole: bool
    change: Callable[[RGB], RGB] | None = None

    def make(self, sample: Sample) -> Kept | Failed:
        """Decode `sample` and go on as far as is kept."""
        decoded = sample.decode(replace(self.spec, size=self.side))
        return self.finish(decoded) if isinstance(decoded, Pixels) else decoded

    def finish(self, decoded: Pixels | Kept) -> Kept:
        """From a whole decoded picture of the same side to what is kept."""
        if self.whole:
            return Kept(*bounded(decoded.rgb, self.spec.size, decoded.box))
        rgb = decoded.rgb if self.change is None else self.change(decoded.rgb)
        # The box spoke of the decoded picture; what it trims is under one pixel.
        box = decoded.box if rgb is decoded.rgb else None
        return Kept(resized_squares(rgb, self.spec, box))

    @property
    def name(self) -> str | None:
        """A folder's name, the same for what gives the same pixels; None: not to be kept."""
        if self.whole:
            return f"whole-{self.side}-{lottery_side(self.spec.size)}"
        if self.change is not None and not isinstance(self.change, Tier):
            return None
        tier = self.change if self.change is not None and self.change.longest else None
        spec = self.spec
        settings = [self.side, spec.size, spec.views, spec.resampling, spec.grey]
        settings += [tier.longest, tier.quality] if tier is not None else []
        digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        return f"squares-{spec.size}-{digest[:12]}"


class DecodedPictures:
    """A cache below folder `root` of at most `limit` bytes.

    `fill` is called once, in the process that starts a run; `read` anywhere, also in the
    workers of a DataLoader. Several runs may share the folder at the same time: each entry
    is one file, written under another name and renamed, and never half there. When the limit
    is reached, what no run asked for since this one began gives way, oldest first; then the
    rest is decoded in every epoch as it would be without a cache.
    """

    def __init__(self, root: Path, *, limit: int) -> None:
        """Raises UsageError where the folder cannot be made."""
        self.folder, self.limit = root / "decoded", limit
        self.full = False
        self._digests: dict[str, str] = {}  # sample's key -> SHA-256 of its file
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{self.folder}: {error.strerror}; name another folder with --cache"
            ) from None

    def fill(self, wanted: Wanted, *, workers: int = 4) -> list[Failed]:
        """Keep what is missing of `wanted`; returns the pictures that cannot be decoded."""
        began = time.time()
        failures: dict[str, Failed] = {}
        with opened(self.folder, _SUFFIX) as index, ThreadPoolExecutor(max(1, workers)) as pool:
            samples = {sample.key: sample for sample, _ in wanted}
            for start in range(0, len(samples), 16 * _CHUNK):
                part = list(samples.values())[start : start + 16 * _CHUNK]
                self._look_up(part, index, pool)
            present = {self._entry(sample, recipe) for sample, recipe in wanted}
            index.mark_used((n for n in present if n and (self.folder / n).exists()), began)
            missing = [(s, r) for s, r in wanted if not self._has(s, r)]
            for start in range(0, len(missing), _CHUNK):
                with FileLock(self.folder / ".lock"):
                    # Looked at again: another process may have been quicker.
                    todo = [w for w in missing[start : start + _CHUNK] if not self._has(*w)]
                    made = pool.map(lambda w: w[1].make(w[0]), todo)
                    for (sample, recipe), kept in zip(todo, made, strict=True):
                        if isinstance(kept, Failed):
                            failures[sample.key] = kept
                        else:
                            self._keep(sample, recipe, kept, index, began)
        return list(failures.values())

    def read(self, sample: Sample, recipe: Recipe) -> Kept | Failed:
        """As `recipe.make(sample)`, out of the cache where that holds it."""
        name = self._entry(sample, recipe)
        if name is None:
            return recipe.make(sample)
        path = self.folder / name
        kept = _read(path)
        if kept is not None:
            return kept
        damaged = path.exists()
        other = None if recipe.whole else self._whole(sample, recipe)
        made = recipe.finish(other) if other is not None else recipe.make(sample)
        if damaged and isinstance(made, Kept):
            _write(path, made)  # of the size that it had: the book stays right
        return made

    def _whole(self, sample: Sample, recipe: Recipe) -> Kept | None:
        """The decoded picture of the same side, if it is kept and was not made smaller."""
        whole = replace(recipe, whole=True, change=None)
        kept = _read(self.folder / str(self._entry(sample, whole)))
        if kept is None or min(kept.rgb.shape[:2]) >= lottery_side(recipe.spec.size):
            return None
        return kept

    def _has(self, sample: Sample, recipe: Recipe) -> bool:
        name = self._entry(sample, recipe)
        return name is not None and (self.folder / name).exists()

    def _entry(self, sample: Sample, recipe: Recipe) -> str | None:
        digest, name = self._digests.get(sample.key), recipe.name
        if digest is None or name is None:
            return None
        version = f"{_FORMAT}-pillow-{PIL.__version__}"
        return f"{version}/{name}/{digest[:2]}/{digest[2:]}{_SUFFIX}"

    def _keep(self, sample: Sample, recipe: Recipe, kept: Kept, index: Index, now: float) -> None:
        name = self._entry(sample, recipe)
        size = kept.rgb.nbytes + _HEADER
        if name is None or self.full:
            return
        if not index.make_room(name, size, limit=self.limit, unused_since=now):
            self.full = True
        elif not _write(self.folder / name, kept):
            index.forget(name)
            self.full = True  # the disk is, or does not let us: go on without

    def _look_up(self, samples: Sequence[Sample], index: Index, pool: ThreadPoolExecutor) -> None:
        unknown: list[tuple[Sample, FileKey]] = []
        for sample in samples:
            key = _file_key(sample)
            digest = None if key is None else index.digest(key)
            if digest is not None:
                self._digests[sample.key] = digest
            elif key is not None:
                unknown.append((sample, key))
        found = list(pool.map(lambda item: item[0].sha256(), unknown))
        new = [
            (sample, key, digest)
            for (sample, key), digest in zip(unknown, found, strict=True)
            if digest is not None
        ]
        self._digests.update((sample.key, digest) for sample, _, digest in new)
        index.remember((key, digest) for _, key, digest in new)


def fit_recipes(spec: PreprocessSpec, augmentation: str) -> tuple[Recipe, Recipe]:
    """What a fit reads of each (training, validation) picture in every epoch."""
    squares = Recipe(spec, spec.size, whole=False)
    return replace(squares, whole=augmentation != "none"), squares


def _file_key(sample: Sample) -> FileKey | None:
    try:
        state = sample.path.stat()
    except OSError:
        return None  # decoding it will say why
    length = sample.length if sample.offset >= 0 else state.st_size
    return str(sample.path.absolute()), sample.offset, length, state.st_mtime_ns


def _write(path: Path, kept: Kept) -> bool:
    """One line of 256 bytes, JSON with checksum, shape and box, then the pixels.

    False: the disk is full, or does not let us.
    """
    pixels = np.ascontiguousarray(kept.rgb)
    about = [list(pixels.shape), None if kept.box is None else list(kept.box)]
    header = json.dumps([_checksum(about, pixels.data), *about]).encode().ljust(_HEADER - 1)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            stream.write(header + b"\n")
            stream.write(pixels.data)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        return False
    return True


def _read(path: Path) -> Kept | None:
    """An entry; None if there is none or it is not as it was written."""
    try:
        data = path.read_bytes()
        checksum, shape, box = json.loads(data[:_HEADER])
        if checksum != _checksum([shape, box], memoryview(data)[_HEADER:]):
            return None
        pixels = np.frombuffer(data, np.uint8, offset=_HEADER).reshape(shape)
    except (OSError, ValueError, TypeError):
        return None
    return Kept(pixels, None if box is None else (box[0], box[1], box[2], box[3]))


def _checksum(about: object, pixels: memoryview) -> int:
    return zlib.crc32(pixels, zlib.crc32(json.dumps(about).encode()))
