"""The training loop: forward, loss, backward, step, report, top to bottom."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from scanner.errors import ImgscanError
from trainer import checkpoint, rundir
from trainer.batches import open_source
from trainer.calibrate import even_cut, probabilities
from trainer.config import FitConfig
from trainer.data import Splits
from trainer.decoded import DecodedPictures
from trainer.encoded import EncodedPictures
from trainer.loader import fake_share
from trainer.log import EpochReport, Log
from trainer.losses import ClassificationLoss, ReconstructionLoss, loss_weights
from trainer.models import AutoencoderClassifier
from trainer.optim import amp_dtype, build_optimizer, set_learning_rate
from trainer.scores import figures, score_encoded

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
) -> dict[str, Any]:
    """Fit a model and leave in folder `out`: best.pt, last.pt, log.csv, TensorBoard events,
    splits.csv, config.json and result.json, whose content is returned.

    Each epoch draws from (seed, epoch) alone, so that a run which was killed and resumed goes
    through the same steps as one that was not. Raises DivergedError; what `on_epoch` raises
    ends the fit, too. Where `cached_draws` asks for it, the frozen encoder's answers are kept
    below `cache`, by default a folder of the run; pictures come out of `decoded`, if given.
    """
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(config.seed)
    model = AutoencoderClassifier(config).to(target)
    reconstruction_loss = (
        ReconstructionLoss(config).to(target) if model.decoder is not None else None
    )
    classification_loss = ClassificationLoss(config, fake_share(splits.train, config))
    optimizer = build_optimizer(model, config)
    amp = amp_dtype(config, target)
    scaler = torch.amp.GradScaler(target.type, enabled=amp == torch.float16)

    source = open_source(
        model, splits, config, target, amp, cache or out / "encoded", on_encode, decoded
    )
    first, best_auc, best_epoch, seconds_before = 0, -1.0, -1, 0.0
    if resume:
        state = rundir.resume(out, config, splits)
        checkpoint.load_model(model, state["model"], out / checkpoint.LAST)
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        first, best_auc, best_epoch = state["epoch"] + 1, state["best_auc"], state["best_epoch"]
        seconds_before = state["seconds"]
    else:
        rundir.start(out, config, splits)
    began = time.monotonic()

    with contextlib.closing(Log(out, first)) as log:
        for epoch in range(first, config.epochs):
            if config.patience and 0 <= best_epoch < epoch - config.patience:
                break
            started = time.monotonic()
            torch.manual_seed(config.seed * 100_003 + epoch + 1)  # dropout's draws
            model.set_trained_stages(0 if epoch < config.freeze_epochs else config.unfrozen)
            model.train()
            rate = set_learning_rate(optimizer, config, epoch)
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
            even = figures(probabilities(scores.logits, 1.0), scores.labels, even_cut(config))
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
                val_balanced_accuracy=even["balanced_accuracy"],
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
    return rundir.conclude(config, splits, out, model, source)
