"""A scan that is ready to begin: what every face opens from the same options."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from scanner import verdict
from scanner.bundle import Bundle, bundle_path, read_bundle
from scanner.decoders import start_ahead
from scanner.find import WalkCounts, count_all, find_all
from scanner.journal import Pipeline, pipeline_of
from scanner.limits import Limits
from scanner.memory import Memory
from scanner.options.walk import WalkOptions
from scanner.scan import scan
from scanner.spool import Spool
from scanner.types import Failed, ImageRef, Verdict
from scanner.verdict import OperatingPoint

if TYPE_CHECKING:
    from scanner.cascade import Model

Device = Literal["auto", "cuda", "cpu"]


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for on the command line; what is None is as the model has it.

    `renew` is not to believe what is remembered.
    """

    paths: Sequence[Path]
    walk: WalkOptions
    limits: Limits
    model: Path | None = None
    operating_point: str | None = None
    threshold: float | None = None
    device: Device = "auto"
    batch_size: int = 16
    renew: bool = False


class OpenedScan:
    """The request, with its roots looked at, its bundle read and its threshold found.

    Raises UsageError and BundleError for what is wrong with it, from what is cheapest to find
    wrong to what is dearest; the model itself is loaded by `load()`.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.counts = WalkCounts()
        self.spool = Spool()
        self._refs: Iterator[ImageRef | Failed] | None = self._find()
        self.bundle: Bundle = read_bundle(bundle_path(request.model))
        self.point: OperatingPoint = verdict.operating_point(
            self.bundle, name=request.operating_point, threshold=request.threshold
        )

    def _find(self) -> Iterator[ImageRef | Failed]:
        return find_all(self.request.paths, self.request.walk, self.counts, self.spool)

    @property
    def roots(self) -> Sequence[Path]:
        """What is scanned."""
        return self.request.paths

    @property
    def renew(self) -> bool:
        """Whether what is remembered is not believed."""
        return self.request.renew

    @property
    def model_name(self) -> str:
        """As reports write it."""
        return f"{self.bundle.name}@{self.bundle.digest}"

    @property
    def pipeline(self) -> Pipeline:
        """What the results depend on besides the files."""
        limits = self.request.limits
        return pipeline_of(self.bundle, limits.decode, limits.memory_mb)

    @property
    def selection(self) -> str | None:
        """Which files of the roots, as the journal tells lists apart."""
        return self.request.walk.selection

    def load(self) -> Model:
        """The model, ready; decoders start beside it. Raises ImgscanError."""
        start_ahead()
        from scanner.cascade import open_model

        request = self.request
        return open_model(self.bundle, request.device, cuda_batch=request.batch_size)

    def scan(
        self, detector: Model, memory: Memory | None = None
    ) -> Generator[Verdict | Failed, None, None]:
        """The results, within `spool`. A second time, the roots are looked at anew."""
        refs = self._refs or self._find()
        self._refs = None
        results = scan(
            refs,
            detector,
            point=self.point,
            batch_size=self.request.batch_size,
            limits=self.request.limits,
            memory=memory,
        )
        return self._released(results)

    def _released(
        self, results: Generator[Verdict | Failed, None, None]
    ) -> Generator[Verdict | Failed, None, None]:
        with closing(results):
            for result in results:
                yield result
                self.spool.release(result.ref)

    def results(self, memory: Memory | None) -> Generator[Verdict | Failed, None, None]:
        """Load the model and scan, for a face that runs all of that in a thread."""
        with self.spool:
            yield from self.scan(self.load(), memory)

    def count(self, stop: Callable[[], bool]) -> int | None:
        """As `count_all()`."""
        return count_all(self.roots, self.request.walk, stop)
