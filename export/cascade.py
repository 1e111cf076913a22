"""Two bundles and their scores of what was left out -> a cascade: band, thresholds, figures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from export.card import cascade_card
from scanner.bundle import CARD, EMBEDDED, Bundle, bundle_path, read_bundle
from scanner.bundle_writing import building, write_bundle
from scanner.errors import UsageError
from scanner.stages import FOLDERS, same_squares
from trainer.cascaded import (
    Band,
    best_band,
    cross_fitted_stages,
    joined,
    rescored_shares,
)
from trainer.left_out import fit_left_out

_SAME = 0.01  # how far a temperature may lie from that of the scores, of itself


def export_cascade(
    models: Sequence[Path],
    left_out: Sequence[Path],
    out: Path,
    *,
    name: str,
    rescore: Band | None = None,
    share: float = 0.5,
    operating_point: str = "youden",
    notes: str = "",
) -> Bundle:
    """Write a cascade of two `models`, embedded names or bundle folders, to folder `out`.

    `left_out` are the JSON files of `trainer benchmark` by which each was calibrated
    (`trainer calibrate`). The band `rescore` of the first one's P(fake) is chosen, where it is
    not given, by the balanced accuracy on left-out families, among bands that send at most
    `share` of the real left-out pictures on: they are what folders mostly hold.
    Thresholds are fitted to the scores of the cascade; the band of `unsure`, too. Raises
    UsageError and BundleError; a failure leaves no trace.
    """
    bundles = [read_bundle(bundle_path(model)) for model in models]
    for model, bundle in zip(models, bundles, strict=True):
        if bundle.stages:
            raise UsageError(f"{model}: is a cascade itself; stages are single models")
    if not same_squares(*bundles):
        raise UsageError(
            f"{models[0]} and {models[1]}: prepare pictures differently; only mean and std may "
            "differ"
        )
    scores, stages = joined(left_out)
    for bundle, file, fit in zip(bundles, left_out, (stages.first, stages.second), strict=True):
        # Run again, a benchmark comes out the same but for how a machine rounds.
        if abs(fit.temperature / bundle.temperature - 1) > _SAME:
            raise UsageError(
                f"{file}: {bundle.name}@{bundle.digest} was not calibrated by these scores "
                f"(temperature {bundle.temperature:.4f}, they give {fit.temperature:.4f}); run "
                "`trainer calibrate` with them and export the stage again"
            )
    band = best_band(scores, stages, share) if rescore is None else rescore
    if not 0 <= band[0] < band[1] <= 1:
        raise UsageError(f"--rescore {band[0]:g} {band[1]:g}: two rising values in 0..1")
    fitted = fit_left_out([stages.combined(one, band) for one in scores], calibrated=True)
    if operating_point not in fitted.thresholds:
        raise UsageError(f"--operating-point {operating_point}: none of {list(fitted.thresholds)}")
    metrics = {
        "left_out_points": cross_fitted_stages(scores, band),
        "rescored": rescored_shares(scores, stages, band),
    }
    out = out.absolute()
    with building(out) as work:
        named = [
            {"model": _placed(bundle, work / folder), "digest": bundle.digest}
            for bundle, folder in zip(bundles, FOLDERS, strict=True)
        ]
        content: dict[str, Any] = {
            "name": name,
            "thresholds": fitted.thresholds,
            "operating_point": operating_point,
            "temperature": 1.0,
            "unsure": fitted.unsure,
            "metrics": metrics,
            "rescore": band,
        }
        card = cascade_card(bundles=bundles, notes=notes, **content)
        (work / CARD).write_text(card, "utf-8", newline="\n")
        write_bundle(work, spec=None, stages=named, training={}, **content)
    return read_bundle(out)


def _placed(bundle: Bundle, folder: Path) -> str:
    """The name that the cascade knows a stage by; what does not come with imgscan is copied."""
    for name, path in EMBEDDED.items():
        if bundle.path.resolve() == path.resolve():  # however it was asked for
            return name
    folder.mkdir()
    for name in ("bundle.json", *bundle.files):
        shutil.copyfile(bundle.path / name, folder / name)
    return folder.name


def figures(metrics: Mapping[str, Any]) -> str:
    """The share that goes to the second stage, a line for each tier."""
    return "\n".join(
        f"{tier}: {shares['real']:.0%} of real and {shares['fake']:.0%} of fake left-out pictures "
        "are scored by both stages"
        for tier, shares in metrics["rescored"].items()
    )
