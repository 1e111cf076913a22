"""Two models as one: the first scores every picture, the second those that it is unsure of."""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np
import numpy.typing as npt

from scanner.bundle import EMBEDDED, Bundle
from scanner.detector import DEFAULT_BATCH, Detector, Device
from scanner.preprocess import PreprocessSpec

Floats = npt.NDArray[np.float32]


class Model(Protocol):
    """A loaded bundle of either kind: what scans, maps and checks use."""

    @property
    def bundle(self) -> Bundle:
        """What it was loaded from."""

    @property
    def device(self) -> str:
        """ "cuda" or "cpu", as it really runs."""

    @property
    def note(self) -> str | None:
        """What did not go as asked for, in one line."""

    @property
    def streams(self) -> int:
        """How many threads may score at the same time, to use all of the device."""

    @property
    def stages_used(self) -> str:
        """How many pictures each of two stages has scored, in words; empty for one model."""

    def score(self, batch: Floats) -> npt.NDArray[np.float64]:
        """float32 [B, V, 3, S, S] -> calibrated P(fake), float64 [B]."""

    def deciding(self, batch: Floats) -> Detector:
        """The single model that scores this one picture, float32 [1, V, 3, S, S]."""

    def reconstruct(self, pixels: Floats) -> Floats | None:
        """Prepared pixels [N, 3, S, S] -> RGB in [0, 1], [N, 3, R, R]; None without a decoder."""


def open_model(
    bundle: Bundle, device: Device = "auto", *, cuda_batch: int = DEFAULT_BATCH
) -> Model:
    """Load `bundle`, of one model or of two. Raises ImgscanError."""
    if bundle.stages:
        return Cascade(bundle, device, cuda_batch=cuda_batch)
    return Detector(bundle, device, cuda_batch=cuda_batch)


class Cascade:
    """A bundle of two stages on one device.

    A picture's P(fake) is the first stage's, unless that lies in the bundle's `rescore` band
    (low included, high not): then it is the second's. So a score hangs on the picture alone.
    `score()` may be called by several threads. `scored` and `rescored` count pictures.

    On the CPU a second stage that comes with this program is loaded when the first picture needs
    it: a scan of what is remembered needs neither its time nor its memory. Any other is loaded at
    once: that its files are whole does not tell that its graphs run, nor that a GPU takes them, and
    this must not come out in mid-scan.
    """

    def __init__(
        self, bundle: Bundle, device: Device = "auto", *, cuda_batch: int = DEFAULT_BATCH
    ) -> None:
        assert bundle.rescore is not None
        self.bundle = bundle
        self._low, self._high = bundle.rescore
        first, second = bundle.stages
        self._first = Detector(first, device, cuda_batch=cuda_batch)
        # Where CUDA failed for the first, it need not be tried again.
        self._device: Device = device if self._first.device == "cuda" else "cpu"
        self._cuda_batch = cuda_batch
        self._second: Detector | None = None
        self._factor, self._shift = _between(first.spec, second.spec)
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self.scored = self.rescored = 0
        if self._first.device == "cuda" or second.path not in EMBEDDED.values():
            self.second()

    @property
    def device(self) -> str:
        """Where the stages run; "cpu" if one of them does."""
        return (self._second or self._first).device

    @property
    def half(self) -> bool:
        """Whether all that is loaded runs in half precision."""
        return self._first.half and (self._second is None or self._second.half)

    @property
    def note(self) -> str | None:
        """What did not go as asked for, of either stage; what is said of both, once."""
        loaded = [self._first] if self._second is None else [self._first, self._second]
        said = dict.fromkeys(stage.note for stage in loaded if stage.note)
        return "; ".join(said) or None

    @property
    def stages_used(self) -> str:
        """See `Model.stages_used`."""
        first, second = (stage.name for stage in self.bundle.stages)
        if not self.scored:
            return ""
        share = self.rescored / self.scored
        return (
            f"{self.scored:,} scored by {first}, {self.rescored:,} ({share:.0%}) then by {second}"
        )

    @property
    def streams(self) -> int:
        """See `Detector.streams`."""
        return self._first.streams

    def score(self, batch: Floats) -> npt.NDArray[np.float64]:
        """Pictures prepared by the bundle's `spec`, float32 [B, V, 3, S, S] -> P(fake) [B]."""
        p_fake = self._first.score(batch)
        again = self._is_unsure(p_fake)
        if again.any():
            p_fake[again] = self.second().score(self._for_second(batch[again]))
        with self._lock:
            self.scored += len(batch)
            self.rescored += int(again.sum())
        return p_fake

    def deciding(self, batch: Floats) -> Detector:
        """The stage whose score this one picture, float32 [1, V, 3, S, S], gets."""
        return self.second() if self._is_unsure(self._first.score(batch))[0] else self._first

    def second(self) -> Detector:
        """The second stage, loaded with the first call. Raises ImgscanError."""
        with self._loading:
            if self._second is None:
                second = self.bundle.stages[1]
                self._second = Detector(second, self._device, cuda_batch=self._cuda_batch)
            return self._second

    def reconstruct(self, pixels: Floats) -> Floats | None:
        """By the first stage's decoder; see `Detector.reconstruct`."""
        return self._first.reconstruct(pixels)

    def _is_unsure(self, p_fake: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        return (p_fake >= self._low) & (p_fake < self._high)

    def _for_second(self, batch: Floats) -> Floats:
        return np.asarray(batch * self._factor + self._shift, np.float32)


def _between(first: PreprocessSpec, second: PreprocessSpec) -> tuple[Floats, Floats]:
    """(factor, shift), each [3, 1, 1], that turn the first's normalisation into the second's."""
    mean, std = (np.array(v, np.float64) for v in (first.mean, first.std))
    other_mean, other_std = (np.array(v, np.float64) for v in (second.mean, second.std))
    factor, shift = std / other_std, (mean - other_mean) / other_std
    return (
        factor.astype(np.float32).reshape(3, 1, 1),
        shift.astype(np.float32).reshape(3, 1, 1),
    )
