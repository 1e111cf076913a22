"""The optimiser, its learning rate, what it steps on, and the precision it works in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from scanner.errors import UsageError
from trainer.config import FitConfig
from trainer.models import AutoencoderClassifier

Tensors = tuple[Tensor, ...] | list[Tensor]


def build_optimizer(model: AutoencoderClassifier, config: FitConfig) -> torch.optim.Optimizer:
    """AdamW, which is Adam where weight_decay is 0 (Loshchilov & Hutter, 2019)."""
    encoder = list(model.encoder.parameters())
    known = {id(p) for p in encoder}
    rest = [p for p in model.parameters() if id(p) not in known]
    encoder_rate = config.encoder_learning_rate or config.learning_rate
    groups = [
        {"params": rest, "lr": config.learning_rate, "base": config.learning_rate},
        {"params": encoder, "lr": encoder_rate, "base": encoder_rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: FitConfig, epoch: int) -> float:
    """The rate of `epoch`, from 0; returned as it is for all but the encoder.

    The encoder's anneals from the epoch on in which its unfrozen stages join.
    """
    rest, encoder = optimizer.param_groups
    for group, joined in ((rest, 0), (encoder, config.freeze_epochs)):
        past = max(0, epoch - joined) / max(1, config.epochs - joined)
        factor = 0.5 * (1 + np.cos(np.pi * past)) if config.cosine else 1.0
        group["lr"] = group["base"] * float(factor)
    return float(rest["lr"])


def amp_dtype(config: FitConfig, device: torch.device) -> torch.dtype | None:
    """What autocast computes in; None: float32 throughout. Raises UsageError."""
    if config.precision == "auto":
        return torch.float16 if device.type == "cuda" else None
    if config.precision == "float16" and device.type != "cuda":
        raise UsageError("precision float16 needs CUDA; use float32 or bfloat16 on the CPU")
    return {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}[config.precision]


def accumulation(sizes: Sequence[int], accumulate: int) -> list[tuple[float, bool]]:
    """For each batch of an epoch: its share of the pictures of its step, and whether it ends it.

    `sizes` counts the pictures of each batch. A step is made after every `accumulate` batches
    and after the last one; its gradient is the mean over the pictures of all its batches.
    """
    plan: list[tuple[float, bool]] = []
    for start in range(0, len(sizes), accumulate):
        group = sizes[start : start + accumulate]
        plan += [(size / sum(group), i == len(group) - 1) for i, size in enumerate(group)]
    return plan


def moving_average(model: AutoencoderClassifier, decay: float) -> AveragedModel | None:
    """The exponential moving average of weights and statistics (Polyak & Juditsky, 1992).

    After n steps the decay is at most (1 + n) / (10 + n), so that a short fit does not keep
    the weights it began with. None where `decay` is 0.
    """
    if not decay:
        return None

    @torch.no_grad()
    def update(averages: Tensors, now: Tensors, steps: Tensor | int) -> None:
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        if averages[0].is_floating_point():  # they come sorted by type
            torch._foreach_lerp_(averages, now, 1 - kept)
        else:
            torch._foreach_copy_(averages, now)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


@contextmanager
def reproducible(config: FitConfig) -> Iterator[None]:
    """Where `deterministic` asks for it, only algorithms that repeat to the bit on one machine.

    Where PyTorch has none, it warns and goes on. The flags are of the whole process; they are
    put back afterwards.
    """
    if not config.deterministic:
        yield
        return
    # cuBLAS reads this when it first starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    flags = (cudnn.deterministic, cudnn.benchmark)
    torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = flags
