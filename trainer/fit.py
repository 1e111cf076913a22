"""The training loop: forward, loss, backward, step, report, top to bottom."""

from __future__ import annotations

import contextlib
import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from scanner.errors import ImgscanError, UsageError
from trainer import checkpoint
from trainer.batches import FromCache, Online, Source
from trainer.calibrate import calibrate, probabilities
from trainer.config import FitConfig
from trainer.data import Sample, Splits
from trainer.encoded import EncodedPictures
from trainer.losses import ClassificationLoss, ReconstructionLoss, loss_weights
from trainer.models import AutoencoderClassifier
from trainer.scores import figures, score_encoded


class DivergedError(ImgscanError):
    """The loss or the validation scores are no longer finite."""


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One line of the log. Losses are means over the epoch's pictures; `seconds` of wall time."""

    epoch: int
    epochs: int
    loss: float
    reconstruction_loss: float
    classification_loss: float
    val_auc: float
    val_balanced_accuracy: float  # at P(fake) = 0.5, before calibration
    val_reconstruction_error: float
    learning_rate: float
    seconds: float
    best: bool


def fit(
    config: FitConfig,
    splits: Splits,
    out: Path,
    *,
    resume: bool = False,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    on_encode: Callable[[str, int, int], None] = lambda variant, done, total: None,
    cache: Path | EncodedPictures | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Fit a model and leave in folder `out`: best.pt, last.pt, log.csv, TensorBoard events,
    splits.csv, config.json and result.json, whose content is returned.

    Each epoch draws from (seed, epoch) alone, so that a run which was killed and resumed goes
    through the same steps as one that was not. Raises DivergedError; what `on_epoch` raises
    ends the fit, too. Where `cached_draws` asks for it, the frozen encoder's answers are kept
    below `cache`, by default a folder of the run.
    """
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(config.seed)
    model = AutoencoderClassifier(config).to(target)
    reconstruction_loss = (
        ReconstructionLoss(config).to(target) if model.decoder is not None else None
    )
    classification_loss = ClassificationLoss(config)
    optimizer = _optimizer(model, config)
    amp = _amp_dtype(config, target)
    scaler = torch.amp.GradScaler(target.type, enabled=amp == torch.float16)

    source: Source = Online(model, splits, config, target, amp)
    if config.cached_draws:
        source = FromCache(
            model,
            splits,
            config,
            target,
            _cache(cache or out / "encoded", model, splits, config, on_encode),
        )
    first, best_auc, best_epoch, seconds_before = 0, -1.0, -1, 0.0
    if resume:
        state = _resume(out, config, splits)
        checkpoint.load_model(model, state["model"], out / checkpoint.LAST)
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        first, best_auc, best_epoch = state["epoch"] + 1, state["best_auc"], state["best_epoch"]
        seconds_before = state["seconds"]
    else:
        _start_folder(out, config, splits)
    began = time.monotonic()

    with contextlib.closing(_Log(out, first)) as log:
        for epoch in range(first, config.epochs):
            if config.patience and 0 <= best_epoch < epoch - config.patience:
                break
            started = time.monotonic()
            torch.manual_seed(config.seed * 100_003 + epoch + 1)  # dropout's draws
            model.set_trained_stages(0 if epoch < config.freeze_epochs else config.unfrozen)
            model.train()
            rate = _set_learning_rate(optimizer, config, epoch)
            r_weight, c_weight = loss_weights(config, epoch)
            sums = np.zeros(4)  # loss, reconstruction, classification, pictures
            for step, batch in enumerate(source.train(epoch)):
                with torch.autocast(target.type, dtype=amp, enabled=amp is not None):
                    output = model.from_encoded(batch.encoded)
                c_loss = classification_loss(output.logit, batch.label)
                loss = c_weight * c_loss
                r_loss = torch.zeros((), device=target)
                if reconstruction_loss is not None:
                    r_loss = reconstruction_loss(output.reconstruction, batch.target)
                    loss = loss + r_weight * r_loss
                optimizer.zero_grad(set_to_none=True)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                losses = [float(loss.detach()), float(r_loss.detach()), float(c_loss.detach())]
                if not np.isfinite(losses).all():
                    raise DivergedError(
                        f"epoch {epoch + 1}, step {step + 1}: the loss is {losses[0]}; lower "
                        "learning_rate, or continue from the last epoch with --resume"
                    )
                sums += np.array([*losses, 1.0]) * len(batch.label)
                on_batch(step + 1, source.steps())

            scores = score_encoded(model, source.val())
            if not np.isfinite(scores.logits).all():
                raise DivergedError(f"epoch {epoch + 1}: a validation score is not finite")
            auc = float(roc_auc_score(scores.labels, scores.logits))
            at_half = figures(probabilities(scores.logits, 1.0), scores.labels, 0.5)
            # Before its loss counts, the classifier has learnt nothing: such an AUC is luck.
            better = auc > best_auc and (c_weight > 0 or epoch + 1 == config.epochs)
            if better:
                best_auc, best_epoch = auc, epoch
            means = sums / sums[3]
            report = EpochReport(
                epoch=epoch + 1,
                epochs=config.epochs,
                loss=float(means[0]),
                reconstruction_loss=float(means[1]),
                classification_loss=float(means[2]),
                val_auc=auc,
                val_balanced_accuracy=at_half["balanced_accuracy"],
                val_reconstruction_error=scores.reconstruction_error,
                learning_rate=rate,
                seconds=time.monotonic() - started,
                best=better,
            )
            log.write(report)
            state = {
                "model": model.state_dict(), "config": config.to_dict(), "epoch": epoch,
                "best_auc": best_auc, "best_epoch": best_epoch,
                "seconds": seconds_before + time.monotonic() - began,
            }  # fmt: skip
            if better:
                checkpoint.save(out / checkpoint.BEST, state)
            # Last, for it is what a resumed run goes by.
            resumable = {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
            checkpoint.save(out / checkpoint.LAST, {**state, **resumable})
            on_epoch(report)
    return _conclude(config, splits, out, model, source)


def _conclude(
    config: FitConfig, splits: Splits, out: Path, model: AutoencoderClassifier, source: Source
) -> dict[str, Any]:
    """Threshold and calibrate the best epoch on validation data; write result.json."""
    best = checkpoint.load(out / checkpoint.BEST)
    checkpoint.load_model(model, best["model"], out / checkpoint.BEST)
    scores = score_encoded(model, source.val())
    calibration = calibrate(scores.logits, scores.labels)
    p = probabilities(scores.logits, calibration.temperature)
    with (out / "validation.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "source", "logit", "p_fake"])
        for sample, logit, probability in zip(splits.val, scores.logits, p, strict=True):
            row = [sample.key, sample.label, sample.source, f"{logit:.6f}", f"{probability:.6f}"]
            writer.writerow(row)
    result: dict[str, Any] = {
        "preset": config.preset,
        "epoch": best["epoch"] + 1,
        "temperature": calibration.temperature,
        "thresholds": calibration.thresholds,
        "operating_point": "youden",
        # In-sample for threshold and temperature: the honest figures are evaluate's, on a
        # held-out split.
        "validation": {
            name: figures(p, scores.labels, threshold)
            for name, threshold in {"half": 0.5, **calibration.thresholds}.items()
        },
        "pictures": {name: len(getattr(splits, name)) for name in ("train", "val", "holdout")},
        "seconds": checkpoint.load(out / checkpoint.LAST)["seconds"],
        "device": next(model.parameters()).device.type,
        "torch": torch.__version__,
    }
    checkpoint.write_json(out / "result.json", result)
    return result


class _Log:
    """log.csv, and TensorBoard events where that package is installed."""

    def __init__(self, out: Path, first: int) -> None:
        path = out / "log.csv"
        kept = path.read_text("utf-8").splitlines()[: first + 1] if first else []
        self._stream = path.open("w", newline="", encoding="utf-8")
        self._stream.write("".join(line + "\n" for line in kept))
        self._csv = csv.writer(self._stream, lineterminator="\n")
        if not first:
            self._csv.writerow(EpochReport.__slots__)
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return  # log.csv says the same
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first + 1)

    def write(self, report: EpochReport) -> None:
        self._csv.writerow([_cell(getattr(report, name)) for name in EpochReport.__slots__])
        self._stream.flush()
        if self._board is not None:
            for name in EpochReport.__slots__[2:10]:
                self._board.add_scalar(name, getattr(report, name), report.epoch)
            self._board.flush()

    def close(self) -> None:
        self._stream.close()
        if self._board is not None:
            self._board.close()


def _cell(value: float | int | bool) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(int(value))


def _optimizer(model: AutoencoderClassifier, config: FitConfig) -> torch.optim.Optimizer:
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


def _set_learning_rate(optimizer: torch.optim.Optimizer, config: FitConfig, epoch: int) -> float:
    factor = 0.5 * (1 + np.cos(np.pi * epoch / config.epochs)) if config.cosine else 1.0
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * float(factor)
    return float(optimizer.param_groups[0]["lr"])


def _amp_dtype(config: FitConfig, device: torch.device) -> torch.dtype | None:
    if config.precision == "auto":
        return torch.float16 if device.type == "cuda" else None
    if config.precision == "float16" and device.type != "cuda":
        raise UsageError("precision float16 needs CUDA; use float32 or bfloat16 on the CPU")
    return {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}[config.precision]


def _cache(
    cache: Path | EncodedPictures,
    model: AutoencoderClassifier,
    splits: Splits,
    config: FitConfig,
    on_encode: Callable[[str, int, int], None],
) -> EncodedPictures:
    if isinstance(cache, EncodedPictures):
        return cache
    device = next(model.parameters()).device
    samples = sorted((*splits.train, *splits.val), key=lambda sample: sample.key)
    return EncodedPictures(cache, model, samples, config, device, on_encode)


def _start_folder(out: Path, config: FitConfig, splits: Splits) -> None:
    if (out / checkpoint.LAST).exists():
        raise UsageError(f"{out}: holds a run already; continue it with --resume or name another")
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(out / "config.json", config.to_dict())
    _write_splits(out / "splits.csv", splits)


def _write_splits(path: Path, splits: Splits) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "source", "group", "split"])
        writer.writerows(_split_rows(splits))


def _split_rows(splits: Splits) -> list[list[str]]:
    parts: list[tuple[str, Sequence[Sample]]] = [
        ("train", splits.train), ("val", splits.val), ("holdout", splits.holdout)
    ]  # fmt: skip
    return [[s.key, str(s.label), s.source, s.group, name] for name, part in parts for s in part]


def _resume(out: Path, config: FitConfig, splits: Splits) -> dict[str, Any]:
    state = checkpoint.load(out / checkpoint.LAST)
    changed = {
        name
        for name, value in config.to_dict().items()
        if state["config"].get(name) != value and name not in ("workers", "epochs", "patience")
    }
    if changed:
        raise UsageError(
            f"{out}: was begun with another {', '.join(sorted(changed))}; resume with the same "
            "settings or start in a new folder"
        )
    with (out / "splits.csv").open(
        newline="", encoding="utf-8", errors="surrogateescape"
    ) as stream:
        before = list(csv.reader(stream))[1:]
    if before != _split_rows(splits):
        raise UsageError(f"{out}: the data has changed since the run was begun; start a new one")
    return state
