"""A CUDA that is not there: what runs on it is the CPU's, by the ways that CUDA's goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnxruntime as ort
import pytest

CUDA = "CUDAExecutionProvider"


def cuda_seems_there(
    monkeypatch: pytest.MonkeyPatch, preload: Callable[[], object] = lambda: None
) -> list[Any]:
    """Sessions say that they run on CUDA, and run on the CPU. Returns a list of those made."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr("scanner.detector.nvidia_driver_present", lambda: True)
    monkeypatch.setattr("scanner.detector._CUDA_MEMORY", "cpu")
    monkeypatch.setattr(ort, "preload_dlls", preload, raising=False)
    session = ort.InferenceSession
    made = []

    class OnCuda(session):
        def __init__(self, graph, options, providers) -> None:
            self.asked, self.runs, self.bound_runs = providers, 0, 0
            super().__init__(graph, options, ["CPUExecutionProvider"])
            made.append(self)

        def get_providers(self):
            return self.asked

        def run(self, *args, **options):
            self.runs += 1
            return super().run(*args, **options)

        def run_with_iobinding(self, *args, **options):
            self.bound_runs += 1
            return super().run_with_iobinding(*args, **options)

    monkeypatch.setattr(ort, "InferenceSession", OnCuda)
    return made
