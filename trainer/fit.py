"""The training loop: forward, loss, backward, step, report, top to bottom."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from scanner.errors import ImgscanError
from scanner.verdict import probabilities
from trainer import checkpoint, rundir
from trainer.batches import open_source
from trainer.calibrate import even_cut
from trainer.config import FitConfig
from trainer.data import Splits
from trainer.decoded import DecodedPictures
from trainer.distil import Lessons
from trainer.encoded import EncodedPictures
from trainer.kinds import use_kinds
from trainer.loader import fake_share
from trainer.log import EpochReport, Log
from trainer.losses import ClassificationLoss, ReconstructionLoss, loss_weights
from trainer.models import AutoencoderClassifier
from trainer.optim import (
    accumulation,
    amp_dtype,
    build_optimizer,
    moving_average,
    reproducible,
    set_learning_rate,
)
from trainer.processes import ALONE, Forward, Processes
from trainer.scores import figures, score_encoded
from trainer.whole_batch import WholeBatch

__all__ = ["DivergedError", "EpochReport", "fit"]


class DivergedError(ImgscanError):
    """The loss or the validation scores are no longer finite."""


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
    decoded: DecodedPictures | None = None,
    device: str | None = None,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Fit a model and leave in folder `out`: best.pt, last.pt, log.csv, TensorBoard events,
    splits.csv, config.json and result.json, whose content is returned.

    Each epoch draws from (seed, epoch) alone, so that a run which was killed and resumed goes
    through the same steps as one that was not. Raises DivergedError; what `on_epoch` raises
    ends the fit, too. Where `cached_draws` asks for it, the frozen encoder's answers are kept
    below `cache`, by default a folder of the run; pictures come out of `decoded`, if given.

    Of several `processes`, all call this with the same arguments and get the same result; the
    first alone writes and calls back.
    """
    with reproducible(config):
        return _fit(
            config, splits, out, resume, on_epoch, on_batch, on_encode, cache or out / "encoded",
            decoded, processes.device(device), processes,
        )  # fmt: skip


def _fit(
    config: FitConfig,
    splits: Splits,
    out: Path,
    resume: bool,
    on_epoch: Callable[[EpochReport], None],
    on_batch: Callable[[int, int], None],
    on_encode: Callable[[str, int, int], None],
    cache: Path | EncodedPictures,
    decoded: DecodedPictures | None,
    device: torch.device,
    processes: Processes,
) -> dict[str, Any]:
    torch.manual_seed(config.seed)
    model = AutoencoderClassifier(config).to(device)
    amp = amp_dtype(config, device)
    if config.teacher:
        if not resume:
            processes.from_first(lambda: rundir.refuse_another(out))
        taught = checkpoint.load(out / checkpoint.LAST)["model"] if resume else None
        with processes.first_goes_ahead():  # the others find it taught
            _teach(model, config, splits, taught, cache, device, on_encode, decoded)
    source = open_source(model, splits, config, device, amp, cache, on_encode, decoded, processes)
    kinds = use_kinds(model, config, splits, source, out, processes, resume=resume)
    reconstruction_loss = (
        ReconstructionLoss(config).to(device) if model.decoder is not None else None
    )
    classification_loss = ClassificationLoss(config, fake_share(splits.train, config))
    optimizer = build_optimizer(model, config)
    ema = moving_average(model, config.ema)
    judged = model if ema is None else cast(AutoencoderClassifier, ema.module)
    scaler = torch.amp.GradScaler(device.type, enabled=amp == torch.float16)

    whole: WholeBatch | None = None
    if config.optimizer == "lbfgs":
        whole = WholeBatch(model, source, config, classification_loss, processes)
    plan = accumulation([] if whole else source.sizes(), config.accumulate)
    forward = Forward(model, processes)
    first, best_auc, best_epoch, seconds_before = 0, -1.0, -1, 0.0
    if resume:
        state = rundir.resume(out, config, splits)
        checkpoint.load_model(model, state["model"], out / checkpoint.LAST)
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        if ema is not None:
            ema.load_state_dict(state["ema"])
        first, best_auc, best_epoch = state["epoch"] + 1, state["best_auc"], state["best_epoch"]
        seconds_before = state["seconds"]
    else:
        processes.from_first(lambda: rundir.start(out, config, splits, kinds))
    began = time.monotonic()

    with contextlib.closing(Log(out, first, enabled=processes.first)) as log:
        for epoch in range(first, config.epochs):
            if config.patience and 0 <= best_epoch < epoch - config.patience:
                break
            started = time.monotonic()
            # Dropout's draws, others in each process.
            torch.manual_seed(config.seed * 100_003 + epoch + 1 + processes.rank * 7_919_000_009)
            model.set_trained_stages(0 if epoch < config.freeze_epochs else config.unfrozen)
            model.train()
            forward.follow()
            rate = set_learning_rate(optimizer, config, epoch)
            r_weight, c_weight = loss_weights(config, epoch)
            sums = np.zeros(4)  # loss, reconstruction, classification, pictures
            batches = zip(source.train(epoch) if plan else (), plan, strict=True)
            if whole is not None:
                on_batch(1, 2)  # of two: the encodings are at hand, and what they gave
                left = whole.epoch(epoch)
                on_batch(2, 2)
                _refuse_infinite([left], epoch, 0)
                sums = np.array([left, 0.0, left, 1.0]) * whole.pictures
            for step, (batch, (share, last)) in enumerate(batches):
                with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
                    output = forward(batch.encoded, average=last)
                c_loss = classification_loss(output.logit, batch.label)
                loss = c_weight * c_loss
                r_loss = torch.zeros((), device=device)
                if reconstruction_loss is not None:
                    r_loss = reconstruction_loss(output.reconstruction, batch.target)
                    loss = loss + r_weight * r_loss
                scaler.scale(share * loss).backward()
                losses = [float(loss.detach()), float(r_loss.detach()), float(c_loss.detach())]
                _refuse_infinite(losses, epoch, step)
                if last:
                    scaler.step(optimizer)
                    scaler.update()
                    optimizer.zero_grad(set_to_none=True)
                    if ema is not None:
                        ema.update_parameters(model)
                sums += np.array([*losses, 1.0]) * len(batch.label)
                if processes.first:
                    on_batch(step + 1, len(plan))

            sums = processes.total(sums)
            means = sums / sums[3]
            processes.average_statistics(model)
            if kinds is not None:
                kinds.follow(source, model, judged, processes)
            scores = processes.from_first(lambda: score_encoded(judged, source.val(judged)))
            if not np.isfinite(scores.logits).all():
                raise DivergedError(f"epoch {epoch + 1}: a validation score is not finite")
            auc = float(roc_auc_score(scores.labels, scores.logits))
            even = figures(probabilities(scores.logits, 1.0), scores.labels, even_cut(config))
            # Before its loss counts, the classifier has learnt nothing: such an AUC is luck.
            better = auc > best_auc and (c_weight > 0 or epoch + 1 == config.epochs)
            if better:
                best_auc, best_epoch = auc, epoch
            report = EpochReport(
                epoch=epoch + 1,
                epochs=config.epochs,
                loss=float(means[0]),
                reconstruction_loss=float(means[1]),
                classification_loss=float(means[2]),
                val_auc=auc,
                val_balanced_accuracy=even["balanced_accuracy"],
                val_reconstruction_error=scores.reconstruction_error,
                learning_rate=rate,
                seconds=time.monotonic() - started,
                best=better,
            )
            if processes.first:
                log.write(report)
                state = {
                    "config": config.to_dict(), "epoch": epoch,
                    "best_auc": best_auc, "best_epoch": best_epoch,
                    "seconds": seconds_before + time.monotonic() - began,
                }  # fmt: skip
                if better:
                    checkpoint.save(out / checkpoint.BEST, {"model": judged.state_dict(), **state})
                # Last, for it is what a resumed run goes by.
                resumable = {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
                if ema is not None:
                    resumable["ema"] = ema.state_dict()
                checkpoint.save(
                    out / checkpoint.LAST, {"model": model.state_dict(), **state, **resumable}
                )
                on_epoch(report)
    return processes.from_first(lambda: rundir.conclude(config, splits, out, model, source, kinds))


def _teach(
    model: AutoencoderClassifier,
    config: FitConfig,
    splits: Splits,
    resumed: dict[str, torch.Tensor] | None,
    cache: Path | EncodedPictures,
    device: torch.device,
    on_encode: Callable[[str, int, int], None],
    decoded: DecodedPictures | None,
) -> None:
    """The encoder as its teacher leaves it: as it is in `resumed` or in `cache`, or taught now."""
    if resumed is not None:
        own = {n: t for n, t in resumed.items() if n.startswith("encoder.")}
        model.load_state_dict(own, strict=False)
    elif isinstance(cache, EncodedPictures):
        model.encoder.load_state_dict(cache.model.encoder.state_dict())
    else:
        pupils = (*splits.train, *splits.unlabelled)
        samples = sorted((*pupils, *splits.val), key=lambda sample: sample.key)
        student = copy.deepcopy(model)
        lessons = Lessons(cache, student, samples, config, device, on_encode, decoded)
        lessons.teach(model, pupils)


def _refuse_infinite(losses: list[float], epoch: int, step: int) -> None:
    if not np.isfinite(losses).all():
        raise DivergedError(
            f"epoch {epoch + 1}, step {step + 1}: the loss is {losses[0]}; lower learning_rate, "
            "or continue from the last epoch with --resume"
        )
