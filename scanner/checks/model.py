"""The model, and where it runs."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scanner.bundle import Bundle, bundle_path, read_bundle
from scanner.checks.finding import Finding, State
from scanner.detector import (
    Detector,
    Device,
    available_providers,
    nvidia_driver_present,
    preload_cuda,
    runtime_version,
    try_provider,
)
from scanner.errors import ImgscanError

_BATCH = 16
_SHORT = {"CPUExecutionProvider": "CPU", "CUDAExecutionProvider": "CUDA"}
_EXTRA = "pip install 'imgscan[cuda]'"
# The list of libraries that a shared object needs lies near its beginning.
_HEAD_BYTES = 1 << 23
_NEEDED = re.compile(rb"lib(?:cu|nv)[A-Za-z]+\.so\.\d+")
_CUDNN = "libcudnn.so.9"  # which onnxruntime loads by itself, so that it is not in that list


def model(path: Path | None) -> tuple[Finding, Bundle | None]:
    """The bundle at `path` (None: the embedded one), read and verified."""
    try:
        bundle = read_bundle(bundle_path(path))
    except ImgscanError as error:
        remedy = "give another --model" if path else "install imgscan again"
        return Finding("Model", "Bundle", "broken", str(error), remedy), None
    facts: dict[str, object] = {"name": bundle.name, "digest": bundle.digest, "verified": True}
    facts["half_precision"] = bundle.has_half
    kinds = "float32 and half precision" if bundle.has_half else "float32"
    text = f"{bundle.name}@{bundle.digest}, verified; {kinds}"
    if bundle.stages:
        stages = [f"{stage.name}@{stage.digest}" for stage in bundle.stages]
        facts["stages"] = stages
        text += f"; {stages[0]}, then {stages[1]}"
    return Finding("Model", "Bundle", "ok", text, facts=facts), bundle


def providers(bundle: Bundle, device: Device) -> list[Finding]:
    """Each execution provider, and whether a batch of the model really runs on it.

    The CPU is always asked for; CUDA is by `device`.
    """
    side = bundle.spec.size
    batch = np.zeros((_BATCH, 3, side, side), np.float32)
    findings = []
    names = available_providers()
    if device == "cuda" and "CUDAExecutionProvider" not in names:
        names = ["CUDAExecutionProvider", *names]
    # The CPU first; then those that a scan can use.
    for name in sorted(names, key=lambda name: [*_SHORT].index(name) if name in _SHORT else 9):
        findings.append(_provider(bundle, name, batch, device))
    return findings


def _provider(bundle: Bundle, name: str, batch: npt.NDArray[np.float32], device: Device) -> Finding:
    short = _SHORT.get(name, name.removesuffix("ExecutionProvider"))
    remedy = None
    precision = ""
    facts: dict[str, object] = {"provider": name, "runs": False, "onnxruntime": runtime_version()}
    try:
        if name == "CUDAExecutionProvider":
            missing = missing_cuda_libraries()
            facts["missing_libraries"] = missing
            remedy = _cuda_remedy(missing)
            if not nvidia_driver_present():
                raise ImgscanError("no NVIDIA driver was found")
            if missing:
                raise ImgscanError(f"cannot be loaded: {', '.join(missing)}")
        seconds = sum(try_provider(model, name, batch) for model in bundle.models)
        if name == "CUDAExecutionProvider":
            precision, facts["half_precision"] = _precision(bundle)
    except ImgscanError as error:
        needed = name == "CPUExecutionProvider" or (short == "CUDA" and device == "cuda")
        if short == "CPU":
            remedy = "install onnxruntime again; there must be only one of its packages"
        elif short != "CUDA":
            remedy = None  # a scan makes no use of it
        elif not needed and not nvidia_driver_present():
            remedy = None  # nothing is wrong with a machine that has no GPU
        note = "" if short in ("CPU", "CUDA") else " (imgscan does not use it)"
        state: State = "broken" if needed else "missing"
        return Finding("Providers", short, state, f"no: {error}{note}", remedy, facts)
    facts |= {"runs": True, "batch": len(batch), "seconds": seconds}
    stages = " by both stages" if bundle.stages else ""
    text = (
        f"yes: {len(batch)} pictures in {seconds * 1000:.0f} ms{stages} "
        f"(onnxruntime {runtime_version()}){precision}"
    )
    return Finding("Providers", short, "ok", text, facts=facts)


def _precision(bundle: Bundle) -> tuple[str, bool]:
    """What a scan on CUDA computes in, in words, and whether that is half precision."""
    detectors = [Detector(model, "cuda") for model in bundle.models]
    if all(detector.half for detector in detectors):
        return "; in half precision", True
    refused = next((d.half_refused for d in detectors if d.half_refused), None)
    return "; in float32" + (f", half precision was refused: {refused}" if refused else ""), False


def missing_cuda_libraries() -> list[str]:
    """Those that onnxruntime's CUDA provider needs and the loader does not find; on Linux only."""
    provider = _provider_library()
    if provider is None:
        return []
    with provider.open("rb") as file:
        names = {name.decode() for name in _NEEDED.findall(file.read(_HEAD_BYTES))} | {_CUDNN}
    preload_cuda()
    missing = []
    for name in sorted(names):
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    return missing


def _provider_library() -> Path | None:
    found = importlib.util.find_spec("onnxruntime")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "capi" / "libonnxruntime_providers_cuda.so"
    return path if path.exists() else None


def _cuda_remedy(missing: list[str]) -> str:
    if not nvidia_driver_present() or missing == ["libcuda.so.1"]:
        return "install NVIDIA's driver and check it with `nvidia-smi`, or use --device cpu"
    if missing:
        return f"{_EXTRA} brings the CUDA and cuDNN libraries"
    return f"check the driver with `nvidia-smi`, and {_EXTRA}; or use --device cpu"
