"""The folder of a run: begun once, resumed by the same settings and data, concluded at the end."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from scanner.errors import UsageError
from scanner.verdict import probabilities
from trainer import checkpoint
from trainer.batches import Source
from trainer.calibrate import calibrate
from trainer.config import FitConfig, config_from_dict
from trainer.data import Sample, Splits
from trainer.kinds import Kinds
from trainer.models import AutoencoderClassifier
from trainer.scores import Array, Labels, figures, figures_at_prior, score_encoded


def start(out: Path, config: FitConfig, splits: Splits, kinds: Kinds | None = None) -> None:
    """Make the folder and write config, splits and kinds; raises UsageError if it holds a run."""
    refuse_another(out)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(out / "config.json", config.to_dict())
    _write_splits(out / "splits.csv", splits)
    if kinds is not None:
        kinds.write(out)


def refuse_another(out: Path) -> None:
    """Raises UsageError if folder `out` holds a run."""
    if any((out / name).exists() for name in (checkpoint.LAST, checkpoint.RESULT)):
        raise UsageError(f"{out}: holds a run already; continue it with --resume or name another")


def _write_splits(path: Path, splits: Splits) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "source", "group", "split"])
        writer.writerows(_split_rows(splits))


def _split_rows(splits: Splits) -> list[list[str]]:
    parts: list[tuple[str, Sequence[Sample]]] = [
        ("train", splits.train), ("val", splits.val), ("holdout", splits.holdout),
        ("unlabelled", splits.unlabelled),
    ]  # fmt: skip
    return [[s.key, str(s.label), s.source, s.group, name] for name, part in parts for s in part]


def resume(out: Path, config: FitConfig, splits: Splits) -> dict[str, Any]:
    """The last checkpoint; raises UsageError if settings or data are not those of the run."""
    state = checkpoint.load(out / checkpoint.LAST)
    # By way of FitConfig: a setting that is younger than the run has its default.
    begun = config_from_dict(state["config"], origin=str(out / checkpoint.LAST)).to_dict()
    changed = {
        name
        for name, value in config.to_dict().items()
        if begun[name] != value and name not in ("workers", "epochs", "patience")
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
    # The epochs to come may better best.pt, of which an earlier result would not be.
    (out / checkpoint.RESULT).unlink(missing_ok=True)
    return state


def conclude(
    config: FitConfig,
    splits: Splits,
    out: Path,
    model: AutoencoderClassifier,
    source: Source,
    kinds: Kinds | None = None,
) -> dict[str, Any]:
    """Threshold and calibrate the best epoch on validation data; write result.json."""
    best = checkpoint.load(out / checkpoint.BEST)
    checkpoint.load_model(model, best["model"], out / checkpoint.BEST)
    scores = score_encoded(model, source.val(model))
    calibration = calibrate(scores.logits, scores.labels, config.prior)
    if config.prior is not None:
        # Folded into the model, so that whoever scores with it, an exported graph as well, has
        # the prior in P(fake). Repeated after a kill, this shifts by nothing.
        model.shift_logit(calibration.shift)
        checkpoint.save(out / checkpoint.BEST, {**best, "model": model.state_dict()})
        scores = score_encoded(model, source.val(model))
    p = probabilities(scores.logits, calibration.temperature)
    with (out / "validation.csv").open(
        "w", newline="", encoding="utf-8", errors="surrogateescape"
    ) as stream:
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
        "warnings": list(calibration.warnings),
        # J is blind to how rare fakes are: at 10 real pictures to one, half of what it calls
        # fake may be real. F1 is fitted at the stated share.
        "operating_point": "youden" if config.prior is None else "best_f1",
        # In-sample for threshold and temperature: the honest figures are evaluate's, on a
        # held-out split.
        "validation": {
            name: _figures(p, scores.labels, threshold, config.prior)
            for name, threshold in {"half": 0.5, **calibration.thresholds}.items()
        },
        "pictures": {
            **{name: len(getattr(splits, name)) for name in ("train", "val", "holdout")},
            **({"unlabelled": len(splits.unlabelled)} if splits.unlabelled else {}),
        },
        "seconds": checkpoint.load(out / checkpoint.LAST)["seconds"],
        "device": next(model.parameters()).device.type,
        "torch": torch.__version__,
    }
    if kinds is not None and scores.experts is not None:
        cut = calibration.thresholds["youden"]
        result["experts"] = kinds.report(model, source, scores.experts, p, scores.labels, cut)
    checkpoint.write_json(out / checkpoint.RESULT, result)
    return result


def _figures(p: Array, labels: Labels, threshold: float, prior: float | None) -> dict[str, Any]:
    at_prior = {} if prior is None else {"at_prior": figures_at_prior(p, labels, threshold, prior)}
    return {**figures(p, labels, threshold), **at_prior}
