"""Scores prepared pixels with a bundle's graphs. The only importer of onnxruntime."""

from __future__ import annotations

import io
import os
import threading
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from scanner.bundle import HALF_ENCODER, Bundle
from scanner.chain import Chain
from scanner.errors import BundleError, ImgscanError
from scanner.graphs import DEEPEST, Remaker, feature_output, only_input
from scanner.half import objection, probe_pictures
from scanner.limits import default_workers
from scanner.text import one_line
from scanner.verdict import probabilities

DEFAULT_BATCH = 16
Device = Literal["auto", "cuda", "cpu"]
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_CUDA_MEMORY = "cuda"  # onnxruntime's name of where the CUDA provider computes
_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
_CUDA_REMEDY = (
    "install the CUDA libraries with `pip install 'imgscan[cuda]'` and check the driver "
    "with `nvidia-smi`, or use --device cpu"
)


class _Encoder(NamedTuple):
    """A session and the names of what goes in and out; with the classifier behind it, on CUDA."""

    session: Any
    pixels: str
    features: str
    chain: Chain | None


class Detector:
    """A bundle's encoder and classifier on one device.

    On the CPU pictures are computed one by one, each on one core, as many at the same time as
    threads call `score()` (`streams` of them use all cores). That is as fast as larger batches
    on several cores together, which wait for the slowest of them, and no core that decodes is
    waited for. On CUDA they are computed `cuda_batch` at a time, in half precision if the bundle
    has such an encoder and it proves itself there: see `_try_half`.

    `device` is "cuda" or "cpu", as it really runs: CUDA counts only after a batch has gone
    through it. `half` is whether the encoder runs in half precision; as an argument, None leaves
    that to the device, and True asks for it on the CPU too, which is slower there. `note` says in
    one line why a CUDA that is present was not used, or half precision not; the latter's cause
    alone is `half_refused`.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: Device = "auto",
        *,
        cuda_batch: int = DEFAULT_BATCH,
        half: bool | None = None,
    ) -> None:
        self.bundle = bundle
        self._remaker: Remaker | None = None
        self._remaker_lock = threading.Lock()
        self._cuda_batch = cuda_batch
        self.note: str | None = None
        self.device = "cpu"
        if device != "cpu":
            self._try_cuda(required=device == "cuda")
        if self.device == "cpu":
            self._load(_CPU)
            self._probe()
        self.half = False
        self.half_refused: str | None = None
        if bundle.has_half and (half or (half is None and self.device == "cuda")):
            self._try_half()

    @property
    def streams(self) -> int:
        """How many threads may score at the same time, to use all of the device."""
        # On CUDA the second prepares its batch while the first one's is computed.
        return 2 if self.device == "cuda" else default_workers()

    @property
    def stages_used(self) -> str:
        """Nothing to tell of a single model; see `scanner.cascade.Model`."""
        return ""

    def score(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """float32 [B, V, 3, S, S] -> calibrated P(fake), float64 [B]."""
        return probabilities(self.logits(batch), self.bundle.temperature)

    def logits(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """float32 [B, V, 3, S, S] -> uncalibrated logit, float64 [B], mean over the views."""
        count, views = batch.shape[:2]
        # One shape for all, the tail padded: kernels differ with the number of rows, in the
        # last bits, and a picture's score must not hang on what else is scanned.
        shape = 1 if self.device == "cpu" else self._cuda_batch
        per_view = np.empty((count, views))
        for start in range(0, count, shape):
            some = batch[start : start + shape]
            pixels = some.reshape(len(some) * views, *batch.shape[2:])
            if len(some) < shape:
                pad = np.zeros(((shape - len(some)) * views, *pixels.shape[1:]), np.float32)
                pixels = np.concatenate([pixels, pad])
            logit = self._view_logits(pixels)
            per_view[start : start + shape] = np.reshape(logit, (-1, views))[: len(some)]
        if not np.isfinite(per_view).all():
            raise ImgscanError(
                f"{self.bundle.path}: the model answered with a value that is not a number on "
                f"device {self.device}; try --device cpu or another --model"
            )
        mean: npt.NDArray[np.float64] = per_view.mean(axis=1)
        return mean

    def features(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Prepared pixels float32 [N, 3, S, S] -> features float32 [N, F]."""
        # By name: a bundle with a decoder has an output more, which a score has no use for.
        encoder = self._encoder
        (features,) = encoder.session.run([encoder.features], {encoder.pixels: pixels})
        return np.asarray(features, np.float32)

    def _view_logits(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Prepared pixels float32 [N, 3, S, S] -> logits, one for each."""
        if self._encoder.chain is not None:
            return self._encoder.chain(pixels)
        features = self.features(pixels)
        (logit,) = self._classifier.run(None, {self._classifier_input: features})
        return np.asarray(logit, np.float32)

    def deciding(self, batch: npt.NDArray[np.float32]) -> Detector:
        """Itself: the single model that scores a picture; see `scanner.cascade.Cascade`."""
        return self

    def reconstruct(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Prepared pixels float32 [N, 3, S, S] -> RGB in [0, 1], float32 [N, 3, R, R].

        None for a bundle without a decoder. Its graph is loaded with the first call; raises
        BundleError if it does not fit the encoder.
        """
        if not self.bundle.has_decoder:
            return None
        with self._remaker_lock:
            if self._remaker is None:
                encoder = self._encoder.session
                provider = encoder.get_providers()[0]
                if self.half:  # that one has no map to draw from
                    encoder = _session(self.bundle, "encoder.onnx", provider)
                decoder = _session(self.bundle, "decoder.onnx", provider)
                self._remaker = Remaker(self.bundle.path, encoder, decoder)
        return self._remaker(pixels)

    def _try_cuda(self, *, required: bool) -> None:
        problem = None
        if _CUDA not in ort.get_available_providers():
            problem = "this onnxruntime has no CUDA provider"
        else:
            if nvidia_driver_present():
                preload_cuda()
            if not nvidia_driver_present():
                problem = "no NVIDIA driver was found"
            else:
                try:
                    self._load(_CUDA)
                    if _CUDA not in self._encoder.session.get_providers():
                        problem = "the CUDA provider could not be loaded"
                    else:
                        self.device = "cuda"
                        self._probe()
                        return
                # onnxruntime raises its own classes, bare RuntimeError among them.
                except (RuntimeError, ImgscanError) as error:
                    self.device = "cpu"
                    problem = "CUDA failed on a trial batch: " + one_line(error)
        if required:
            raise ImgscanError(f"--device cuda: {problem}; {_CUDA_REMEDY}")
        if problem != "no NVIDIA driver was found" and nvidia_driver_present():
            self.note = f"running on the CPU: {problem}; {_CUDA_REMEDY}"

    def _load(self, provider: str) -> None:
        self._classifier = _session(self.bundle, "classifier.onnx", provider)
        path = self.bundle.path / "classifier.onnx"
        self._classifier_input = only_input(self._classifier, path, rank=2)
        self._encoder = self._load_encoder("encoder.onnx", provider)

    def _load_encoder(self, name: str, provider: str) -> _Encoder:
        session = _session(self.bundle, name, provider)
        pixels = only_input(session, self.bundle.path / name, rank=4, beside=(DEEPEST,))
        features = feature_output(session)
        # On the CPU there is no copy to save.
        bound = _CUDA in session.get_providers()
        chain = Chain(session, self._classifier, features, _CUDA_MEMORY) if bound else None
        return _Encoder(session, pixels, features, chain)

    def _try_half(self) -> None:
        """Go over to the encoder in half precision, if it scores as this one does.

        It was held against float32 at the export, by the CPU's kernels; a GPU has others. So a
        batch of random pictures goes through both here first. Where it cannot be loaded, fails
        or differs, the encoder stays, and `note` says so.
        """
        full = self._encoder
        pictures = probe_pictures(self.bundle.spec)
        try:
            expected = self.score(pictures)
            self._encoder = self._load_encoder(HALF_ENCODER, full.session.get_providers()[0])
            self.half_refused = objection(self.score(pictures), expected)
        # onnxruntime's own exceptions share no base class with a public name.
        except Exception as error:  # noqa: BLE001
            self.half_refused = one_line(error, 200)
        if self.half_refused is None:
            self.half = True
            return
        self._encoder = full
        refused = f"running in float32: half precision was refused: {self.half_refused}"
        self.note = refused if self.note is None else f"{self.note}; {refused}"

    def _probe(self) -> None:
        """Run one batch, so that a graph that does not fit fails here and not in mid-scan."""
        spec = self.bundle.spec
        probe = np.zeros((2, spec.views, 3, spec.size, spec.size), np.float32)
        try:
            shape = self.logits(probe).shape
        except ImgscanError:
            raise
        # onnxruntime's own exceptions share no base class with a public name.
        except Exception as error:  # noqa: BLE001
            message = one_line(error, 200)
            raise BundleError(f"{self.bundle.path}: the graphs do not run: {message}") from None
        if shape != (2,):
            raise BundleError(f"{self.bundle.path}: two pictures gave {shape} scores")


def _session(bundle: Bundle, name: str, provider: str) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what matters is raised; the rest is noise on stderr
    # A second fence behind onnx_guard: nothing but ONNX is what the guard read, and weights in
    # other files would be looked for in the working directory. There are none in this one.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry(_EXTERNAL_FOLDER, os.devnull)
    # Each thread that scores computes on its own core; see Detector.
    options.intra_op_num_threads = 1
    providers = [provider] if provider == _CPU else [provider, _CPU]
    graph = bundle.graph(name)
    try:
        return ort.InferenceSession(graph, options, providers=providers)
    # onnxruntime's own exceptions share no base class with a public name.
    except Exception as error:  # noqa: BLE001
        message = one_line(error, 200)
        raise BundleError(f"{bundle.path / name}: onnxruntime cannot load it: {message}") from None


def preload_cuda() -> None:
    """Make the libraries of the [cuda] extra known: until this, the loader does not look there."""
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        # It prints what it could not load, to stdout, which is for data only.
        with redirect_stdout(io.StringIO()):
            preload()


def nvidia_driver_present() -> bool:
    """Whether there is a driver to talk to; not that it works."""
    return any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/dxg")) or _windows_driver()


def _windows_driver() -> bool:
    root = os.environ.get("SYSTEMROOT")
    return root is not None and (Path(root) / "System32" / "nvcuda.dll").exists()


def available_providers() -> list[str]:
    """Execution providers that this onnxruntime was built with, whether or not they run here."""
    return list(ort.get_available_providers())


def runtime_version() -> str:
    """Of onnxruntime."""
    return str(ort.__version__)


def try_provider(bundle: Bundle, provider: str, batch: npt.NDArray[np.float32]) -> float:
    """Run `bundle`'s encoder over float32 [N, 3, S, S] by this provider alone: seconds, warm.

    Raises ImgscanError if the provider cannot be loaded, or fails.
    """
    if provider == _CUDA:
        preload_cuda()
    ort.set_default_logger_severity(4)  # what matters is in the answer
    with redirect_stdout(io.StringIO()):
        session = _session(bundle, "encoder.onnx", provider)
    if provider not in session.get_providers():
        raise ImgscanError("it could not be loaded")
    feed = {str(session.get_inputs()[0].name): batch}
    try:
        session.run(None, feed)
        started = time.perf_counter()
        session.run(None, feed)
    # onnxruntime's own exceptions share no base class with a public name.
    except Exception as error:  # noqa: BLE001
        raise ImgscanError(one_line(error, 100)) from None
    return time.perf_counter() - started
