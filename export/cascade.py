"""Two bundles and their scores of what was left out -> a cascade, moved into place when whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from export.card import cascade_card
from export.two_stages import Band, best_band, cross_fitted_pair, joined, rescored_shares
from scanner.bundle import CARD, Bundle, bundle_path, read_bundle
from scanner.bundle_writing import replace_folder, write_bundle
from scanner.embedded import EMBEDDED
from scanner.errors import UsageError
from scanner.stages import FOLDERS, same_squares
from trainer.left_out import fit_left_out


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

    `left_out` are the JSON files of `trainer benchmark` for the recipe of each, and those that it
    was calibrated by, if it was (`trainer calibrate`). The band `rescore` of the first one's
    P(fake) is chosen, where it is not given, by the balanced accuracy on left-out families, among
    bands that send at most `share` of the left-out pictures on. Thresholds are fitted to the
    scores of the cascade; the band of `unsure`, too. `notes` is Markdown for the model card.
    Raises UsageError and BundleError; a failure leaves no trace, nor does it touch a bundle that
    stands at `out`.
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
    scores, stages = joined(bundles, left_out)
    band = best_band(scores, stages, share) if rescore is None else rescore
    if not 0 <= band[0] < band[1] <= 1:
        raise UsageError(f"--rescore {band[0]:g} {band[1]:g}: two rising values in 0..1")
    fitted = fit_left_out([stages.combined(one, band) for one in scores], calibrated=True)
    if operating_point not in fitted.thresholds:
        raise UsageError(f"--operating-point {operating_point}: none of {list(fitted.thresholds)}")
    metrics = {
        "left_out_points": cross_fitted_pair(scores, stages, band),
        "rescored": rescored_shares(scores, stages, band),
        "joined": {
            "families": len({s.family for s in scores}),
            "pictures": sum(len(s.first) for s in scores if s.tier == scores[0].tier),
            "band": "chosen" if rescore is None else "given",
        },
    }
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        work.chmod(0o755)  # mkdtemp's 0700 would keep a shared bundle from its other readers
        named = [
            {"model": _placed(bundle, work / folder), "digest": bundle.digest}
            for bundle, folder in zip(bundles, FOLDERS, strict=True)
        ]
        content: dict[str, Any] = {
            "name": name,
            "thresholds": fitted.thresholds,
            "operating_point": operating_point,
            "unsure": fitted.unsure,
            "metrics": metrics,
            "rescore": band,
        }
        card = cascade_card(
            stages=[(bundle, stage["model"]) for bundle, stage in zip(bundles, named, strict=True)],
            notes=notes,
            **content,
        )
        (work / CARD).write_text(card, "utf-8")
        write_bundle(work, spec=None, stages=named, temperature=1.0, training={}, **content)
        replace_folder(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return read_bundle(out)


def _placed(bundle: Bundle, folder: Path) -> str:
    """The name that the cascade knows a stage by; what does not come with imgscan is copied."""
    for name, path in EMBEDDED.items():
        if bundle.path.resolve() == path.resolve():
            return name
    folder.mkdir()
    for name in ("bundle.json", *bundle.files):
        shutil.copyfile(bundle.path / name, folder / name)
    return folder.name


def figures(metrics: Mapping[str, Any]) -> str:
    """Balanced accuracy and the share that goes to the second stage, a line for each tier."""
    lines = []
    for tier, shares in metrics["rescored"].items():
        youden = metrics["left_out_points"][tier]["points"]["youden"]
        lines.append(
            f"{tier}: balanced accuracy {youden['balanced_accuracy']:.3f} on left-out families; "
            f"{shares['real']:.0%} of real and {shares['fake']:.0%} of fake pictures are scored "
            "by both stages"
        )
    return "\n".join(lines)
