"""Decoders, the classifier head, and the autoencoder-classifier they make with an encoder."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scanner.errors import UsageError
from scanner.preprocess import PreprocessSpec
from trainer.config import FitConfig
from trainer.encoders import Encoded, Encoder, build_encoder
from trainer.experts import ExpertDecoders, ExpertHeads


class Output(NamedTuple):
    """`logit` is [N], above 0 for fake; `reconstruction` is RGB in [0, 1], [N, 3, R, R].

    `expert` is int64 [N], who judged, where there are several.
    """

    logit: Tensor
    features: Tensor
    reconstruction: Tensor | None
    expert: Tensor | None = None


class TransposedDecoder(nn.Module):
    """Transposed convolutions with ReLU, each doubling the side, and a final sigmoid."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        steps = stride.bit_length() - 1
        widths = [max(16, channels >> i) for i in range(steps)] + [3]
        layers: list[nn.Module] = []
        for index, (a, b) in enumerate(itertools.pairwise(widths)):
            layers.append(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1))
            layers.append(nn.ReLU() if index < steps - 1 else nn.Sigmoid())
        self.layers = nn.Sequential(*layers)

    def forward(self, deepest: Tensor) -> Tensor:
        """[N, C, S / stride, S / stride] -> [N, 3, S, S]."""
        out: Tensor = self.layers(deepest)
        return out


class LayeredDecoder(nn.Module):
    """Bilinear doublings, each followed by a convolution: no checkerboard (Odena et al., 2016)."""

    def __init__(self, channels: int, enlargement: int, width: int, norm: bool) -> None:
        super().__init__()
        steps = enlargement.bit_length() - 1
        if enlargement != 1 << steps:
            raise UsageError(
                f"the decoder enlarges {enlargement}-fold, which is no power of two; choose "
                "another size or reconstruction_size"
            )
        widths = [channels] + [max(16, width >> i) for i in range(steps)]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            layers.append(nn.Conv2d(a, b, 3, padding=1, bias=not norm))
            if norm:
                layers.append(nn.BatchNorm2d(b))
            layers.append(nn.ReLU(inplace=True))
        layers += [nn.Conv2d(widths[-1], 3, 3, padding=1), nn.Sigmoid()]
        self.layers = nn.Sequential(*layers)

    def forward(self, deepest: Tensor) -> Tensor:
        """[N, C, S / stride, S / stride] -> [N, 3, R, R]."""
        out: Tensor = self.layers(deepest)
        return out


class Head(nn.Module):
    """Dense layers from the features to one logit."""

    def __init__(self, features: int, hidden: tuple[int, ...], *, norm: bool, dropout: float):
        super().__init__()
        layers: list[nn.Module] = []
        if norm:
            layers.append(nn.BatchNorm1d(features, affine=False))
        width = features
        for units in hidden:
            layers += [nn.Dropout(dropout), nn.Linear(width, units), nn.ReLU()]
            width = units
        layers += [nn.Dropout(dropout), nn.Linear(width, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """[N, F] -> [N]."""
        out: Tensor = self.layers(features)
        return out.squeeze(1)

    def last_layers(self) -> list[nn.Linear]:
        """The layer that the logit comes out of."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        return [last]


class AutoencoderClassifier(nn.Module):
    """Encoder, decoder and classifier of one `FitConfig`."""

    def __init__(self, config: FitConfig, *, pretrained: bool = True) -> None:
        """`pretrained=False` skips the encoder's weights, for a model that is loaded anyway."""
        super().__init__()
        weights = config.encoder_weights if pretrained else "none"
        self.encoder: Encoder = build_encoder(
            config.encoder, config.size, weights, config.encoder_taps
        )
        self.encoder.freeze_norm = config.freeze_norm
        self.spec: PreprocessSpec = config.preprocess(self.encoder.mean, self.encoder.std)
        self.reconstruction_size = config.reconstruction_size or config.size
        self.decoder = build_decoder(config, self.encoder, self.reconstruction_size)
        self.classifier: Head | ExpertHeads = Head(
            self.encoder.feature_count, config.head, norm=config.head_norm, dropout=config.dropout
        )
        self.register_buffer("mean", torch.tensor(self.spec.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(self.spec.std)[:, None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.trained_stages = -1

    def forward(self, pixels: Tensor) -> Output:
        """Prepared pixels, [N, 3, S, S]."""
        return self.from_encoded(self.encoder(pixels))

    def from_encoded(self, encoded: Encoded) -> Output:
        """What follows the encoder. The maps may be of fewer pictures than the features."""
        deepest, features = encoded
        decoder = self.decoder if len(deepest) else None
        if not isinstance(self.classifier, ExpertHeads):
            remade = None if decoder is None else decoder(deepest)
            return Output(self.classifier(features), features, remade)
        expert = self.classifier.router(features)
        remade = None if decoder is None else decoder(deepest, expert[: len(deepest)])
        return Output(self.classifier.judge(features, expert), features, remade, expert)

    def use_experts(self, count: int) -> None:
        """From one head and one decoder to `count` copies of each; to be called once."""
        assert isinstance(self.classifier, Head)
        device = self.mean.device
        head = self.classifier.layers
        self.classifier = ExpertHeads(head, self.encoder.feature_count, count).to(device)
        if self.decoder is not None:
            self.decoder = ExpertDecoders(self.decoder, count)

    def target(self, pixels: Tensor) -> Tensor:
        """What the reconstruction is compared with: RGB in [0, 1], [N, 3, R, R]."""
        rgb = pixels * self.std + self.mean
        if self.reconstruction_size != rgb.shape[-1]:
            side = self.reconstruction_size
            rgb = nn.functional.interpolate(
                rgb, size=(side, side), mode="bilinear", antialias=True, align_corners=False
            )
        return rgb.clamp(0, 1)

    @torch.no_grad()
    def shift_logit(self, by: float) -> None:
        """Add `by` to every logit from now on, by way of the last layer's bias."""
        for last in self.classifier.last_layers():
            last.bias.add_(by)

    def set_trained_stages(self, last: int) -> None:
        """Which stages of the encoder learn from now on; `train()` keeps to it."""
        self.trained_stages = last
        self.encoder.freeze_all_but(last)

    def train(self, mode: bool = True) -> AutoencoderClassifier:
        """As nn.Module.train, but frozen stages stay in evaluation mode."""
        super().train(mode)
        self.encoder.freeze_all_but(self.trained_stages)
        return self


def build_decoder(config: FitConfig, encoder: Encoder, side: int) -> nn.Module | None:
    """The decoder that `config` names, from the encoder's deepest map to `side` pixels."""
    if config.decoder == "none":
        return None
    smallest = config.size // encoder.stride
    if config.size % encoder.stride or side % smallest:
        raise UsageError(
            f"size {config.size} and reconstruction_size {side}: encoder {config.encoder} needs "
            f"multiples of {encoder.stride}"
        )
    if config.decoder == "transposed":
        if side != config.size:
            raise UsageError("decoder transposed reconstructs at the input's size only")
        return TransposedDecoder(encoder.channels, encoder.stride)
    return LayeredDecoder(
        encoder.channels, side // smallest, config.decoder_width, config.decoder_norm
    )
