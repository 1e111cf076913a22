"""What a fit would be: the shapes, size, memory and time of its step, measured on a few batches."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from trainer.batches import open_source
from trainer.config import FitConfig
from trainer.data import LABELS, Sample, Splits
from trainer.encoders import Encoded
from trainer.loader import fake_share
from trainer.losses import ClassificationLoss, ReconstructionLoss, loss_weights
from trainer.models import AutoencoderClassifier
from trainer.optim import accumulation, amp_dtype, build_optimizer, moving_average, reproducible
from trainer.processes import ALONE, Processes

_BATCHES = 4  # the first warms up and is not timed


@dataclass(frozen=True, slots=True)
class DryRun:
    """Measured in one process, without the exchange between several.

    `shapes`: pixels, features, maps, reconstruction, logit of its first batch. `parameters`:
    (all, trained) of each part and in total, with every stage trained that ever is. Times are
    in seconds of one batch, but `epoch_seconds`, without validation, and `encode_seconds`, for
    the whole cache of encodings (0 without one), which come from them. What a teacher says, and
    its lessons, are in none of them.
    """

    device: str
    shapes: dict[str, tuple[int, ...]]
    parameters: dict[str, tuple[int, int]]
    memory_bytes: int
    memory_meaning: str
    load_seconds: float  # to decode, change, prepare and encode
    learn_seconds: float  # forward from there, loss, backward, step
    batches: int  # of an epoch
    steps: int  # of an epoch
    epoch_seconds: float
    encode_seconds: float


def dry_run(
    config: FitConfig, splits: Splits, *, device: str | None = None, processes: Processes = ALONE
) -> DryRun:
    """Take a few real steps, of the loop's kind, with a model that is thrown away."""
    with reproducible(config):
        return _dry_run(config, splits, processes.device(device), processes)


def _dry_run(
    config: FitConfig, splits: Splits, device: torch.device, processes: Processes
) -> DryRun:
    torch.manual_seed(config.seed)
    model = AutoencoderClassifier(config).to(device)
    kinds = config.experts or len({s.kind for s in splits.train if s.kind})
    if kinds > 1:
        # As many as there may be: small ones are merged. None is placed, so all pictures go to
        # the first; it is as much work.
        model.use_experts(kinds)
    model.set_trained_stages(config.unfrozen)
    model.train()
    r_loss = ReconstructionLoss(config).to(device) if model.decoder is not None else None
    c_loss = ClassificationLoss(config, fake_share(splits.train, config))
    optimizer = build_optimizer(model, config)
    ema = moving_average(model, config.ema)
    amp = amp_dtype(config, device)
    scaler = torch.amp.GradScaler(device.type, enabled=amp == torch.float16)
    # As pictures pass, also where the fit would fill a cache: that would be to write.
    online = replace(config, cached_draws=0, optimizer="adamw", teacher="")
    source = open_source(model, splits, online, device, amp, processes=processes)
    plan = accumulation(source.sizes(), config.accumulate)
    weights = loss_weights(config, config.epochs - 1)

    shapes: dict[str, tuple[int, ...]] = {}

    def encoded(_: nn.Module, pixels: tuple[torch.Tensor], result: Encoded) -> None:
        shapes.setdefault("pixels", tuple(pixels[0].shape))
        shapes.setdefault("features", tuple(result.features.shape))
        shapes.setdefault("maps", tuple(result.deepest.shape))

    model.encoder.register_forward_hook(encoded)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    loads, learns = [], []
    batches = source.train(0)
    for number, (share, last) in enumerate(
        plan[: max(_BATCHES, min(len(plan), config.accumulate))]
    ):
        began = _now(device)
        batch = next(batches)
        loaded = _now(device)
        with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
            output = model.from_encoded(batch.encoded)
        loss = weights[1] * c_loss(output.logit, batch.label)
        if r_loss is not None:
            loss = loss + weights[0] * r_loss(output.reconstruction, batch.target)
            assert output.reconstruction is not None
            shapes.setdefault("reconstruction", tuple(output.reconstruction.shape))
        shapes.setdefault("logit", tuple(output.logit.shape))
        scaler.scale(share * loss).backward()
        if last:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            if ema is not None:
                ema.update_parameters(model)
        if number or len(plan) == 1:
            loads.append(loaded - began)
            learns.append(_now(device) - loaded)
    load, learn = sum(loads) / len(loads), sum(learns) / len(learns)
    whole = config.optimizer == "lbfgs"
    draws = config.cached_draws if whole else min(config.cached_draws, config.epochs)
    memory, meaning = _memory(device)
    return DryRun(
        device=str(device),
        shapes=shapes,
        parameters=_parameters(model),
        memory_bytes=memory,
        memory_meaning=meaning,
        load_seconds=load,
        learn_seconds=learn,
        batches=len(plan),
        steps=math.ceil(len(plan) / config.accumulate),
        epoch_seconds=len(plan) * (learn if draws and not config.unfrozen else load + learn),
        encode_seconds=draws * len(plan) * load,
    )


def split_table(splits: Splits) -> str:
    """How many pictures of each class and source stand in which part, one source a line."""
    parts: dict[str, Sequence[Sample]] = {
        "train": splits.train, "val": splits.val, "holdout": splits.holdout
    }  # fmt: skip
    counts = {name: Counter((s.label, s.source) for s in part) for name, part in parts.items()}
    keys = sorted(set().union(*counts.values()))
    width = max(6, *(len(source) for _, source in keys))
    rows = [f"{'class':5s}  {'source':{width}s}" + "".join(f"{name:>9s}" for name in parts)]
    for label, source in keys:
        cells = "".join(f"{counts[name][label, source]:9d}" for name in parts)
        rows.append(f"{LABELS[label]:5s}  {source:{width}s}{cells}")
    for label, name in enumerate(LABELS):
        totals = "".join(f"{sum(s.label == label for s in part):9d}" for part in parts.values())
        rows.append(f"{name:5s}  {'(all)':{width}s}{totals}")
    return "\n".join(rows)


def _parameters(model: AutoencoderClassifier) -> dict[str, tuple[int, int]]:
    parts = {"encoder": model.encoder, "decoder": model.decoder, "classifier": model.classifier}
    parts["in total"] = model
    return {name: _count(module) for name, module in parts.items() if module is not None}


def _count(module: nn.Module) -> tuple[int, int]:
    counts = [(p.numel(), p.numel() * p.requires_grad) for p in module.parameters()]
    return sum(n for n, _ in counts), sum(n for _, n in counts)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _memory(device: torch.device) -> tuple[int, str]:
    """(bytes, what they are)."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        return peak, "the most that PyTorch had allocated on the GPU"
    try:
        import resource
    except ImportError:  # Windows
        return 0, "not known on this system"
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peak, "the most that this process had in memory, without those that load pictures"
