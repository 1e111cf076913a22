"""The optimiser, its learning rate and the precision it works in."""

from __future__ import annotations

import numpy as np
import torch

from scanner.errors import UsageError
from trainer.config import FitConfig
from trainer.models import AutoencoderClassifier


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
    """The rate of `epoch`, from 0; returned as it is for all but the encoder."""
    factor = 0.5 * (1 + np.cos(np.pi * epoch / config.epochs)) if config.cosine else 1.0
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * float(factor)
    return float(optimizer.param_groups[0]["lr"])


def amp_dtype(config: FitConfig, device: torch.device) -> torch.dtype | None:
    """What autocast computes in; None: float32 throughout. Raises UsageError."""
    if config.precision == "auto":
        return torch.float16 if device.type == "cuda" else None
    if config.precision == "float16" and device.type != "cuda":
        raise UsageError("precision float16 needs CUDA; use float32 or bfloat16 on the CPU")
    return {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}[config.precision]
