"""An encoder that learns from another, without labels: the last stages of a small one come to say
what a large one says of the same picture ("hints": Romero et al., FitNets, 2015).

The teacher's features are standardised, and their first principal components are what is to be
said, each divided by a power of its deviation: the fine ones count for more than they would by
their size, and for less than the coarse ones. A linear layer that starts as ridge regression
translates the student's features; it is thrown away. Batch normalisation keeps its statistics.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from scanner.errors import UsageError
from trainer import checkpoint
from trainer.config import FitConfig, load_config
from trainer.data import Sample
from trainer.decoded import DecodedPictures
from trainer.encoded import EncodedPictures
from trainer.loader import draw_order
from trainer.models import AutoencoderClassifier

_SETTINGS = ("taught_stages", "taught_epochs", "taught_rate", "taught_directions")
_VARIANT = "lottery-0"  # the one draw that both see
_WHITENING = 0.5  # the power of the deviation
_RIDGE, _RIDGE_PICTURES = 0.1, 4096
_TRANSLATION_RATE = 1e-3
_WEIGHT_DECAY = 0.01

OnEncode = Callable[[str, int, int], None]


class Lessons:
    """What a teacher and the untaught student say of `samples`, kept below `cache`; and encoders
    that were taught, each under a name that tells by what."""

    def __init__(
        self,
        cache: Path,
        student: AutoencoderClassifier,
        samples: Sequence[Sample],
        config: FitConfig,
        device: torch.device,
        on_encode: OnEncode = lambda variant, done, total: None,
        decoded: DecodedPictures | None = None,
    ) -> None:
        """`student` as it is before; its first stages stay so."""
        self.cache, self.config, self._on_encode = cache, config, on_encode
        split = replace(config, teacher="", unfrozen=config.taught_stages, optimizer="adamw")
        self.front = EncodedPictures(cache, student, samples, split, device, on_encode, decoded)
        other = teacher_config(config)
        self.teacher = EncodedPictures(
            cache, AutoencoderClassifier(other), samples, other, device,
            lambda variant, done, total: on_encode(f"{variant}, {config.teacher}", done, total),
            decoded,
        )  # fmt: skip

    def teach(self, model: AutoencoderClassifier, samples: Sequence[Sample]) -> None:
        """The encoder of `model`, untaught, learns from these; found again, if it did before."""
        config = self.config
        by = [
            [getattr(config, name) for name in _SETTINGS], config.seed, config.batch_size,
            config.balance, self.front.folder.name, self.teacher.folder.name,
            [s.key for s in samples],
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(by).encode("utf-8", "surrogateescape")).hexdigest()
        kept = self.cache / f"taught-{digest[:16]}.pt"
        if not kept.exists():
            pictures = config.taught_epochs * len(samples)

            def on_step(done: int, total: int) -> None:
                if done == total or done % 50 == 0:
                    at = round(pictures * done / total)
                    self._on_encode(f"lessons of {config.teacher}", at, pictures)

            distil(model, config, samples, self.front, self.teacher, on_step)
            state = {"model": model.encoder.state_dict(), "config": config.to_dict(), "epoch": 0}
            checkpoint.save(kept, state)
        model.encoder.load_state_dict(checkpoint.load(kept)["model"])


def teacher_config(config: FitConfig) -> FitConfig:
    """The preset that teaches `config`'s encoder, with its way of looking at pictures.

    Raises UsageError where it cannot: its encoder has to be frozen, and to look at the same square.
    """
    same = {name: getattr(config, name) for name in ("augment", "seed", "workers", "holdout")}
    teacher = load_config(config.teacher, same)
    looks = [(c.size, c.views, c.resampling, c.grey) for c in (config, teacher)]
    if looks[0] != looks[1]:
        raise UsageError(
            f"teacher = {config.teacher!r}: looks at pictures in another way than "
            f"{config.preset} (size, views, resampling, grey)"
        )
    if teacher.unfrozen or teacher.teacher:
        raise UsageError(f"teacher = {config.teacher!r}: its own encoder is not frozen")
    return teacher


def distil(
    model: AutoencoderClassifier,
    config: FitConfig,
    samples: Sequence[Sample],
    front: EncodedPictures,
    teacher: EncodedPictures,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[float, float]:
    """Teach the last `config.taught_stages` of `model.encoder`; returns the loss then and now.

    `front` keeps what enters these stages (its config's `unfrozen`), `teacher` what the teacher
    says, both of all `samples`. The loss is a mean of squares where saying the mean of all
    pictures would cost 1; it begins at ridge regression's on the untaught features. Returned are
    its means over the first and the last tenth of the steps.
    """
    device, last = front.device, config.taught_stages
    rows = front.rows(samples)
    front.fill(_VARIANT, rows, maps=False, begun=True)
    teacher.fill(_VARIANT, teacher.rows(samples), maps=False)
    torch.manual_seed(config.seed)  # now, for what was encoded before takes no random numbers
    targets = _targets(teacher, samples, config.taught_directions).to(device)
    encoder = model.encoder.to(device).to(memory_format=torch.channels_last)
    some = np.linspace(0, len(samples) - 1, min(len(samples), _RIDGE_PICTURES)).astype(np.int64)
    own = front.features(_VARIANT, [samples[i] for i in some], model)
    translation = _translation(own, targets[some].cpu()).to(device)
    order = [i for e in range(config.taught_epochs) for i in draw_order(samples, config, e)]
    size = config.batch_size
    batches = [order[i : i + size] for i in range(0, len(order), size)]

    encoder.freeze_all_but(last)
    encoder.eval()  # which keeps the statistics, and gradients pass
    taught = [p for p in encoder.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        [
            {"params": taught, "lr": config.taught_rate},
            {"params": list(translation.parameters()), "lr": _TRANSLATION_RATE},
        ],
        weight_decay=_WEIGHT_DECAY,
    )
    falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, max(1, len(batches)))
    losses = []
    for number, batch in enumerate(batches, 1):
        begun = front.read_begun(_VARIANT, rows[batch], maps=0)[0].to(device)
        said = translation(encoder.finish(begun, last).features)
        loss = (said - targets[batch]).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        falling.step()
        losses.append(float(loss.detach()))
        on_step(number, len(batches))
    optimiser.zero_grad(set_to_none=True)
    tenth = max(1, len(losses) // 10)
    return float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))


def _targets(teacher: EncodedPictures, samples: Sequence[Sample], directions: int) -> Tensor:
    """[N, D], of variance 1 on average; D is at most half of the pictures."""
    x = teacher.features(_VARIANT, samples, None)
    x -= x.mean(0)
    x /= x.std(0) + 1e-6
    count = min(directions, len(samples) // 2, x.shape[1])
    _, deviation, axes = torch.pca_lowrank(x, count, center=False)
    targets = (x @ axes) / deviation.clamp_min(1e-6) ** _WHITENING
    return targets / targets.std(0).square().mean().sqrt().clamp_min(1e-6)


def _translation(features: Tensor, said: Tensor) -> nn.Module:
    """From the student's features [N, F] to the teacher's [N, D], at first by ridge regression."""
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    x = (features - mean) / deviation
    gram = x.T @ x / len(x) + _RIDGE * torch.eye(x.shape[1])
    weight = torch.linalg.solve(gram, x.T @ (said - said.mean(0)) / len(x))
    standard = nn.BatchNorm1d(x.shape[1], affine=False)
    linear = nn.Linear(x.shape[1], said.shape[1])
    assert standard.running_mean is not None
    assert standard.running_var is not None
    with torch.no_grad():
        standard.running_mean.copy_(mean)
        standard.running_var.copy_(deviation.square())
        linear.weight.copy_(weight.T)
        linear.bias.copy_(said.mean(0))
    standard.eval()
    return nn.Sequential(standard, linear)
