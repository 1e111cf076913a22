"""A bundle with other figures or other words: its graphs, thresholds and calibration stay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from export.bundle import read_figures, read_text, refuse_reserved
from export.card import cascade_card, model_card
from export.measured import digest, require_own
from scanner.bundle import (
    CARD,
    EMBEDDED,
    HALF_ENCODER,
    REQUIRED_GRAPHS,
    Bundle,
    bundle_path,
    read_bundle,
)
from scanner.bundle_writing import building, write_bundle
from scanner.errors import UsageError
from scanner.stages import FOLDERS
from scanner.text import one_line

_NOTES_END = "\n## Model\n"


def restate(
    model: Path,
    out: Path,
    *,
    measured: Mapping[str, Path],
    notes: Path | None = None,
    before: Sequence[Path] = (),
) -> Bundle:
    """Write `model`, an embedded name or a bundle's folder, to folder `out`.

    `measured` maps a name to a JSON file of figures, which takes the place of those of that name;
    `notes` is Markdown for the card, and None keeps what is there. Of a cascade whose stages were
    restated since, `before` are those as they were: nothing that a score or a verdict depends on
    may differ. Raises UsageError and BundleError; a failure leaves no trace.
    """
    folder, out = bundle_path(model), out.absolute()
    refuse_reserved(measured)
    raw = {key: read_figures(path) for key, path in measured.items()}
    figures = {key: digest(raw[key], str(path)) for key, path in measured.items()}
    text = "" if notes is None else read_text(notes)
    with building(out) as work:
        old = _copied(folder, work, before)
        for key, path in measured.items():
            require_own(raw[key], old, str(path))
        if notes is None:
            # The last one: whoever wrote the notes may have a heading of that name, too.
            text = read_text(work / CARD).partition("\n")[2].rpartition(_NOTES_END)[0]
        content: dict[str, Any] = {
            "name": old.name,
            "thresholds": old.thresholds,
            "operating_point": old.operating_point,
            "temperature": old.temperature,
            "unsure": old.unsure,
            "metrics": {**old.metrics, **figures},
        }
        try:
            if old.stages:
                assert old.rescore is not None
                content["rescore"] = old.rescore
                card = cascade_card(bundles=old.stages, notes=text, **content)
                kind: dict[str, Any] = {
                    "spec": None,
                    "stages": json.loads((work / "bundle.json").read_text("utf-8"))["stages"],
                }
            else:
                kind = {"spec": old.spec}
                card = model_card(spec=old.spec, training=old.training, notes=text, **content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            lacks = f"lacks figures that a card is made of ({one_line(error)})"
            raise UsageError(f"{folder}: {lacks}; export it anew") from None
        (work / CARD).write_text(card, "utf-8", newline="\n")
        write_bundle(work, training=dict(old.training), **kind, **content)
    return read_bundle(out)


def _copied(folder: Path, work: Path, before: Sequence[Path]) -> Bundle:
    """The bundle, verified, in folder `work`; a cascade with its stages as they are now."""
    raw = read_figures(folder / "bundle.json") if (folder / "bundle.json").is_file() else None
    stages = raw.get("stages") if isinstance(raw, dict) else None
    if not _are_stages(stages):  # nor anything that is none: reading says what is wrong
        if before:
            raise UsageError(f"{folder}: is no cascade, whose stages --before is for")
        bundle = read_bundle(folder)
        for name in ("bundle.json", *bundle.files):
            shutil.copyfile(folder / name, work / name)
        return bundle
    former = {bundle.digest: bundle for bundle in map(read_bundle, before)}
    for stage, place in zip(stages, FOLDERS, strict=True):
        name = stage["model"]
        now = read_bundle(EMBEDDED.get(name, folder / place))
        if now.digest != stage["digest"]:
            if stage["digest"] not in former:
                raise UsageError(
                    f"{folder}: was made of {name}@{stage['digest']}, which is {now.digest} now; "
                    "give the former one's folder with --before, or make the cascade again"
                )
            if _decides(former[stage["digest"]]) != _decides(now):
                raise UsageError(
                    f"{folder}: its stage {name} scores otherwise than it did; make the cascade "
                    "again with `python -m export cascade`"
                )
            stage["digest"] = now.digest
        if name not in EMBEDDED:
            (work / place).mkdir()
            for file in ("bundle.json", *now.files):
                shutil.copyfile(now.path / file, work / place / file)
    shutil.copyfile(folder / CARD, work / CARD)  # to the byte, for it has a digest
    (work / "bundle.json").write_text(json.dumps(raw), "utf-8")
    return read_bundle(work)


def _are_stages(raw: Any) -> TypeGuard[list[dict[str, str]]]:
    return (
        isinstance(raw, list)
        and len(raw) == len(FOLDERS)
        and all(isinstance(s, dict) and s.keys() == {"model", "digest"} for s in raw)
        and all(isinstance(value, str) for s in raw for value in s.values())
    )


def _decides(bundle: Bundle) -> tuple[Any, ...]:
    """All that scores and verdicts depend on."""
    graphs = [bundle.files.get(name) for name in (*REQUIRED_GRAPHS, HALF_ENCODER)]
    return (
        bundle.spec, graphs, dict(bundle.thresholds), bundle.operating_point, bundle.temperature,
        bundle.unsure,
    )  # fmt: skip
