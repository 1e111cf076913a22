"""The maps of the picture that is looked at, made in a thread and kept for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from scanner.errors import ImgscanError
from scanner.explain import Remade, occlusion_map, remake
from scanner.explain.maps import Scorer, by_stage, deciding
from scanner.text import one_line
from scanner.tui.detail.errands import Errands
from scanner.tui.detail.pictures import Recent
from scanner.types import ImageRef

# Each takes some 0.5 MB for each view.
_KEPT = 32


@dataclass(frozen=True, slots=True)
class MapsMade:
    """`remade` is None without a decoder, for the reason in `missing`; `heat` is float32
    [V, S, S] or None while it is not made, and `by` the stage of a cascade that it is of;
    `problem` says why there are no maps at all.
    """

    remade: Remade | None = None
    missing: str = ""
    heat: npt.NDArray[np.float32] | None = None
    by: str = ""
    problem: str = ""


class Maps:
    """Makes the maps of one picture at a time; that of another is given up for it."""

    def __init__(
        self, detector: Callable[[], Scorer], *, ready: Callable[[ImageRef, MapsMade], None]
    ) -> None:
        self._make_detector, self._ready = detector, ready
        self._detector: Scorer | None = None
        self._recent: Recent[ImageRef, MapsMade] = Recent(_KEPT)
        self._errands = Errands("maps")
        self._cancel = threading.Event()
        self._under_way: tuple[ImageRef, bool] | None = None

    def get(self, ref: ImageRef) -> MapsMade | None:
        """What is at hand at once."""
        return self._recent.get(ref)

    def want(
        self,
        ref: ImageRef | None,
        squares: npt.NDArray[np.uint8] | None = None,
        *,
        heat: bool = False,
    ) -> None:
        """Make the maps of `ref`, with the one that takes a while if `heat`; None: no more."""
        if self._under_way == (ref, heat):
            return
        self._cancel.set()
        if ref is None or squares is None:
            self._under_way = None
            self._errands.replace([])
            return
        self._under_way = (ref, heat)
        self._cancel = cancel = threading.Event()
        self._errands.replace([partial(self._make, ref, squares, heat, cancel)])

    def close(self) -> None:
        """Give up what is under way."""
        self._cancel.set()
        self._errands.close()

    def _make(
        self, ref: ImageRef, squares: npt.NDArray[np.uint8], heat: bool, cancel: threading.Event
    ) -> None:
        try:
            made = self._made(ref, squares, heat, cancel)
        except ImgscanError as error:
            made = MapsMade(problem=str(error))
        # onnxruntime's exceptions share no base class, and a thread has nobody to tell.
        except Exception as error:  # noqa: BLE001
            made = MapsMade(problem=f"the maps cannot be made: {one_line(error)}")
        if made is not None:
            self._recent.put(ref, made)
            self._ready(ref, made)

    def _made(
        self, ref: ImageRef, squares: npt.NDArray[np.uint8], heat: bool, cancel: threading.Event
    ) -> MapsMade | None:
        if cancel.is_set():
            return None
        if self._detector is None:
            self._detector = self._make_detector()
        made = self._recent.get(ref)
        if made is None:
            remade = remake(squares, self._detector)
            made = MapsMade(remade) if isinstance(remade, Remade) else MapsMade(missing=remade)
        if heat and made.heat is None:
            decider = deciding(squares, self._detector)
            found = occlusion_map(squares, decider, cancelled=cancel.is_set)
            by = by_stage(self._detector, decider)
            return None if found is None else replace(made, heat=found, by=by)
        return made
