"""`trainer audit`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanner.errors import UsageError
from scanner.text import printable
from trainer import edge
from trainer.options import path_type

if TYPE_CHECKING:
    from trainer.audit import Audit, Row

_WIDTH = 40
_STAGES = {
    "files": "files as they are",
    "originals": "their originals (columns original_* of the manifest)",
    "loaded": "after loading: decoded and prepared",
    "augmented": "after loading and augmenting, as in training",
}
SHARE_OF_LEAK = 0.01  # of the pictures outside training with a twin in another split


@click.command()
@click.option("--data", type=path_type, required=True, help="Class folders, or a CSV manifest.")
@click.option("--preset", default="default", help="Whose loading pipeline to look through.")
@click.option(
    "--loaded", type=click.IntRange(10), default=1000, help="Pictures of a class to load."
)
@click.option("--out", type=path_type, help="Folder for audit.json and near-duplicates.csv.")
@click.option("--workers", type=click.IntRange(1), default=4, help="Threads that read pictures.")
@click.option("--strict", is_flag=True, help="Exit with 1 if there is a LEAK.")
@click.option("--quiet", is_flag=True, help="Print only the result.")
def audit(
    data: Path,
    preset: str,
    loaded: int,
    out: Path | None,
    workers: int,
    strict: bool,
    quiet: bool,
) -> None:
    """Say what a detector could cheat with on this data instead of looking.

    Probes a small classifier on file facts alone, before and after loading, and finds the
    same picture in two splits or in both classes.

    \b
    trainer audit --data pictures
    """
    from trainer.config import load_config

    config = load_config(preset)
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; name a folder")

    from trainer.audit import audit as run_audit

    def say(text: str) -> None:
        if not quiet:
            edge.say(text)

    found = run_audit(data, config, loaded_per_class=loaded, workers=workers, say=say)
    for failure in found.failed[:10]:
        say(f"skipped {failure.ref.path}: {failure.reason}: {failure.detail}")
    click.echo(audit_text(found))
    if out is not None:
        _write(out, found)
        click.echo(f"\nwrote {out / 'audit.json'} and {out / 'near-duplicates.csv'}")
    if strict and "LEAK" in {*(r.probe.finding for r in found.leaks), twins(found)[1]}:
        raise SystemExit(1)


def audit_text(found: Audit) -> str:
    """The table, and what it means, for people."""
    counts = "  ".join(
        f"{name} {reals} real, {fakes} fake" for name, (reals, fakes) in found.counts.items()
    )
    lines = [counts]
    if found.failed:
        lines.append(f"{len(found.failed)} pictures cannot be read and are left out")
    lines += [
        "",
        f"{'what tells real from fake':{_WIDTH}s}{'pictures':>9s}{'AUC':>7s}{'bal. acc.':>11s}"
        "   verdict",
    ]
    stage = ""
    for row in found.rows:
        if row.stage != stage:
            stage = row.stage
            lines.append(_STAGES[stage])
        lines.append(_row(row))
    lines += ["the same picture twice", *_duplicate_lines(found)]
    return "\n".join(printable(line) for line in lines + _meaning(found))


def twins(found: Audit) -> tuple[int, str]:
    """How many validation and holdout pictures have a twin in another split; the verdict."""
    outside = {
        sample.key
        for d in found.duplicates
        if d.first_split != d.second_split
        for sample, split in ((d.first, d.first_split), (d.second, d.second_split))
        if split != "train"
    }
    total = sum(sum(counts) for name, counts in found.counts.items() if name != "train")
    share = len(outside) / max(1, total)
    return len(outside), "LEAK" if share > SHARE_OF_LEAK else "weak leak" if outside else "ok"


def _row(row: Row) -> str:
    probe = row.probe
    head = f"  {row.what:{_WIDTH - 2}s}{probe.count:9d}"
    if probe.auc is None:
        return f"{head}{'':18s}   too few groups to tell"
    # What sums of pixels tell may be content; a detector has to do better, that is all.
    verdict = "to be beaten" if row.content else probe.finding
    by = f" (most by {probe.told_by.replace('_', ' ')})" if probe.told_by else ""
    return f"{head}{probe.auc:7.3f}{probe.balanced_accuracy:11.3f}   {verdict}{by}"


def _duplicate_lines(found: Audit) -> list[str]:
    splits = [d for d in found.duplicates if d.first_split != d.second_split]
    classes = [d for d in found.duplicates if d.across_classes]
    outside, verdict = twins(found)
    pictures = f" ({outside} validation or holdout pictures)" if outside else ""
    lines = [
        f"  {'in two splits':{_WIDTH - 2}s}{len(splits):9d} pairs{pictures}   {verdict}",
        f"  {'in both classes':{_WIDTH - 2}s}{len(classes):9d} pairs   "
        + ("a label is wrong" if classes else "ok"),
    ]
    for d in [*classes, *(s for s in splits if not s.across_classes)][:5]:
        lines.append(
            f"    {d.first.key} ({d.first_split}) ~ {d.second.key} ({d.second_split}), "
            f"{d.near.bits} bits"
        )
    return lines


def _meaning(found: Audit) -> list[str]:
    lines = [""]
    before = [r for r in found.leaks if r.stage in ("files", "originals")]
    after = [r for r in found.rows if r.stage in ("loaded", "augmented") and not r.content]
    left = [r for r in after if r.probe.finding in ("LEAK", "weak leak")]
    if before:
        worst = max(before, key=lambda r: r.probe.auc or 0)
        lines.append(
            f"LEAK: {worst.probe.balanced_accuracy:.1%} of the pictures (classes counted alike) "
            "are told apart without looking at one."
        )
        for stage, tell in found.telltales:
            where = "original " if stage == "originals" else ""
            lines.append(f"  {where}{tell.value}: {tell.fakes} fakes, {tell.reals} reals")
        lines.append("Give a model pixels alone, and both classes the same treatment.")
    if left:
        lines.append(
            "It is still there after loading: "
            + "; ".join(f"{r.stage}, AUC {r.probe.auc:.3f}" for r in left)
            + ". Bring both classes to one size and one encoder, or use augment = uncropped."
        )
    elif before and after:
        lines.append(
            "Loading hides it from the model: what is left of file facts tells next to nothing."
        )
    if twins(found)[1] != "ok":
        lines.append(
            "Pictures with a twin in another split flatter the figures: give both one group in "
            "the manifest, or remove one."
        )
    if any(d.across_classes for d in found.duplicates):
        lines.append("A picture that is real and fake teaches nothing: look at it, remove one.")
    if len(lines) == 1:
        lines.append("No leak was found in file facts, and no picture twice.")
    return lines


def _write(out: Path, found: Audit) -> None:
    from dataclasses import asdict

    from trainer.checkpoint import write_json

    out.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "counts": {k: {"real": v[0], "fake": v[1]} for k, v in found.counts.items()},
        "probes": [
            {"stage": r.stage, "what": r.what, "content": r.content, **asdict(r.probe)}
            for r in found.rows
        ],
        "telltales": [{"stage": stage, **asdict(tell)} for stage, tell in found.telltales],
        "near_duplicates": {
            "pairs": len(found.duplicates),
            "across_classes": sum(d.across_classes for d in found.duplicates),
            "outside_training": twins(found)[0],
            "finding": twins(found)[1],
        },
        "failed": [{"file": str(f.ref.path), "reason": f.reason} for f in found.failed],
    }
    write_json(out / "audit.json", content)
    path = out / "near-duplicates.csv"
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["first", "first_split", "first_label", "second", "second_split", "second_label",
             "bits", "difference"]
        )  # fmt: skip
        for d in found.duplicates:
            writer.writerow(
                [d.first.key, d.first_split, d.first.label, d.second.key, d.second_split,
                 d.second.label, d.near.bits, f"{d.near.difference:.2f}"]
            )  # fmt: skip
