"""What the graphs of a bundle take and give, by the names that the export writes.

Works on onnxruntime's sessions and imports nothing of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import BundleError
from scanner.text import one_line

DEEPEST, FEATURES = "deepest", "features"


def only_input(session: Any, path: Path, *, rank: int, beside: tuple[str, ...] = ()) -> str:
    """Name of a graph's one input, float32 of `rank`.

    Raises BundleError for another, and unless there is one output apart from those named in
    `beside`.
    """
    inputs = session.get_inputs()
    outputs = [output for output in session.get_outputs() if output.name not in beside]
    if len(inputs) != 1 or len(outputs) != 1:
        raise BundleError(f"{path}: needs one input and one output")
    if inputs[0].type != "tensor(float)" or len(inputs[0].shape) != rank:
        raise BundleError(f"{path}: its input must be float32 of rank {rank}")
    return str(inputs[0].name)


def feature_output(encoder: Any) -> str:
    """Name of the encoder's output that the classifier takes."""
    return next(str(o.name) for o in encoder.get_outputs() if o.name != DEEPEST)


class Remaker:
    """A bundle's reconstructions: its encoder's session and its decoder's."""

    def __init__(self, folder: Path, encoder: Any, decoder: Any) -> None:
        """Raises BundleError if the decoder wants what the encoder does not give."""
        self._path = folder / "decoder.onnx"
        self._encoder, self._decoder = encoder, decoder
        self._encoder_input = str(encoder.get_inputs()[0].name)
        features = feature_output(encoder)
        # The decoder's name of an input -> the encoder's of the output that it is.
        given = {FEATURES: features}
        if any(output.name == DEEPEST for output in encoder.get_outputs()):
            given[DEEPEST] = DEEPEST
        wanted = [str(value.name) for value in decoder.get_inputs()]
        if DEEPEST not in wanted or not set(wanted) <= set(given):
            raise BundleError(
                f"{self._path}: takes {', '.join(wanted)}; the encoder gives {', '.join(given)}: "
                "export the run again with this version"
            )
        self._wanted = {name: given[name] for name in wanted}

    def __call__(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Prepared pixels float32 [N, 3, S, S] -> RGB in [0, 1], float32 [N, 3, R, R]."""
        try:
            maps = self._encoder.run([*self._wanted.values()], {self._encoder_input: pixels})
            (rgb,) = self._decoder.run(None, dict(zip(self._wanted, maps, strict=True)))
        # onnxruntime's own exceptions share no base class with a public name.
        except Exception as error:  # noqa: BLE001
            message = one_line(error, 200)
            raise BundleError(f"{self._path}: the graph does not run: {message}") from None
        rgb = np.asarray(rgb, np.float32)
        if rgb.ndim != 4 or rgb.shape[:2] != (len(pixels), 3) or rgb.shape[2] != rgb.shape[3]:
            raise BundleError(f"{self._path}: gives {rgb.shape}, which are no square pictures")
        if not np.isfinite(rgb).all():
            raise BundleError(f"{self._path}: gives values that are not numbers")
        return rgb
