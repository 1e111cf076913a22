"""An evaluation as a folder: evaluation.json, evaluation.html, PNGs, reports and scores."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scanner import __version__
from scanner.errors import UsageError
from trainer.checkpoint import write_json
from trainer.evaluate import Evaluation, RunResult, TierResult
from trainer.plots import Curve, plots_of, roc
from trainer.report_html import OVERLAY, Drawing, Key, page
from trainer.runs import Run
from trainer.sheet import sheet
from trainer.shipped import Shipped

JSON, HTML = "evaluation.json", "evaluation.html"


def check_target(out: Path) -> None:
    """Raise UsageError unless `out` is absent, empty, or an earlier evaluation and no more.

    The folder is replaced whole, so anything else in it would be lost.
    """
    if out.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise UsageError(f"{out}: the working directory lies in it; name another with --out")
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise UsageError(f"{out}: is no folder to write to; name another with --out")
    try:
        ours = {JSON, *json.loads((out / JSON).read_text("utf-8"))["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    foreign = sorted(path.name for path in out.iterdir() if path.name not in ours)
    if foreign:
        raise UsageError(
            f"{out}: holds {foreign[0]!r}, which is not of an earlier evaluation and would be "
            "lost; name another folder with --out"
        )


def write_evaluation(evaluation: Evaluation, out: Path) -> None:
    """Write all files into a folder beside `out`, then put it in the place of `out`.

    A crash leaves the old folder or the new one, never a mixture; a power cut between the two
    renames leaves the old one under a hidden name. Raises UsageError as
    `check_target` does.
    """
    check_target(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_name(f".{out.name}.{os.getpid()}.partial")
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    fresh.mkdir()
    try:
        _write_files(evaluation, fresh)
        if out.exists():
            out.rename(old)
        fresh.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _write_files(evaluation: Evaluation, folder: Path) -> None:
    drawings: dict[Key, Drawing] = {}
    stems = file_stems(result.run.name for result in evaluation.runs)
    files = [HTML]
    grey = ", grey" if evaluation.grey else ""
    for result, stem in zip(evaluation.runs, stems, strict=True):
        for tier in result.tiers:
            base = f"{stem}-{tier.tier.name}"
            drawn = plots_of(f"{result.run.name}, {tier.tier.name}{grey}", tier)
            if errors := sheet(tier.errors):
                drawn["misclassified"] = errors
            for kind, png in drawn.items():
                key = (result.run.name, tier.tier.name, kind)
                drawings[key] = Drawing(png, f"{base}-{kind}.png")
            (folder / f"{base}-report.txt").write_text(tier.report, "utf-8")
            text = _scores_csv(tier)
            (folder / f"{base}-scores.csv").write_text(text, "utf-8", "surrogateescape", newline="")
            files += [f"{base}-report.txt", f"{base}-scores.csv"]
    for tier_name, curves in _overlaid(evaluation).items():
        # The dot keeps it apart from the files of any run.
        drawings[OVERLAY, tier_name, "roc"] = Drawing(
            roc(curves, title=tier_name + grey), f"roc.{tier_name}.png"
        )
    for drawing in drawings.values():
        (folder / drawing.file).write_bytes(drawing.png)
        files.append(drawing.file)
    (folder / HTML).write_text(page(evaluation, drawings), "utf-8")
    # Last, for it says what else is there.
    write_json(folder / JSON, {**as_dict(evaluation), "files": sorted(files)})


def as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """What evaluation.json holds; undefined figures are null."""
    return {
        "schema": 1,
        "imgscan": __version__,
        "data": evaluation.data,
        "grey": evaluation.grey,
        "warnings": list(evaluation.warnings),
        "bootstrap": _bootstrap_dict(evaluation),
        "runs": {result.run.name: _run_dict(result, evaluation) for result in evaluation.runs},
    }


def _bootstrap_dict(evaluation: Evaluation) -> dict[str, Any] | None:
    found = evaluation.uncertainty
    if found is None:
        return None
    return {
        "draws": found.draws,
        "seed": found.seed,
        "differences": [
            {
                "tier": each.tier,
                "from": each.one,
                "to": each.other,
                **{
                    name: {"difference": value, "low": interval.low, "high": interval.high}
                    for name, (value, interval) in each.figures.items()
                },
            }
            for each in found.differences
        ],
    }


def _run_dict(result: RunResult, evaluation: Evaluation) -> dict[str, Any]:
    run = result.run
    return {
        **_origin(run),
        "operating_point": run.operating_point,
        "split": result.selection.split,
        "warnings": list(result.selection.warnings),
        "tiers": {tier.tier.name: _tier_dict(tier, run.name, evaluation) for tier in result.tiers},
    }


def _origin(run: Run) -> dict[str, Any]:
    if isinstance(run.model, Shipped):
        bundle = run.model.bundle
        return {"folder": str(run.path), "bundle": f"{bundle.name}@{bundle.digest}"}
    return {
        "folder": str(run.path),
        "preset": run.config.preset,
        "epoch": run.epoch,
        "temperature": run.temperature,
    }


def _tier_dict(tier: TierResult, run: str, evaluation: Evaluation) -> dict[str, Any]:
    found = evaluation.uncertainty
    drawn = {
        name: {
            "intervals": {
                figure: None if interval is None else [interval.low, interval.high]
                for figure, interval in found.intervals[run, tier.tier.name, name].items()
            }
        }
        for name in tier.figures
        if found is not None
    }
    return {
        "longest_side": tier.tier.longest or None,
        "jpeg_quality": tier.tier.quality or None,
        "reconstruction_error": tier.reconstruction_error,
        "thresholds": {
            name: {**at, **drawn.get(name, {}), "sources": tier.sources[name]}
            for name, at in tier.figures.items()
        },
        "misclassified": [
            {
                "file": error.sample.key,
                "source": error.sample.source,
                "actual": error.actual,
                "predicted": error.predicted,
                "p_fake": error.p_fake,
                "confidence": error.confidence,
            }
            for error in tier.errors
        ],
    }


def file_stems(names: Iterable[str]) -> list[str]:
    """Names fit for any file system, still told apart; never one that hides or climbs."""
    stems: list[str] = []
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60] or "run"
        lowered = {s.lower() for s in stems}
        number = 2
        unique = stem
        while unique.lower() in lowered:
            unique, number = f"{stem}-{number}", number + 1
        stems.append(unique)
    return stems


def _overlaid(evaluation: Evaluation) -> dict[str, list[Curve]]:
    """By tier the curves of all runs, where there are several and both classes."""
    if len(evaluation.runs) < 2:
        return {}
    curves: dict[str, list[Curve]] = {}
    for result in evaluation.runs:
        for tier in result.tiers:
            if 0 < tier.labels.sum() < len(tier.labels):
                curve = (result.run.name, tier.p_fake, tier.labels)
                curves.setdefault(tier.tier.name, []).append(curve)
    return curves


def _scores_csv(tier: TierResult) -> str:
    """One row a picture, in the columns of a run's validation.csv."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["file", "label", "source", "logit", "p_fake"])
    for sample, logit, p in zip(tier.samples, tier.logits, tier.p_fake, strict=True):
        writer.writerow([sample.key, sample.label, sample.source, f"{logit:.6f}", f"{p:.6f}"])
    return buffer.getvalue()
