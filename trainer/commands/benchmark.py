"""`trainer benchmark`: from the command line to a table of left-out families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanner.errors import UsageError
from trainer import edge
from trainer.options import Machine, machine_options, path_type

if TYPE_CHECKING:
    from trainer.benchmark import LeftOut


@click.command()
@click.option("--data", type=path_type, required=True, help="Class folders, or a CSV manifest.")
@click.option("--preset", default="default", help="A preset's name, or a .toml file.")
@click.option("--out", type=path_type, required=True, help="JSON file to write.")
@click.option("--cache", type=path_type, required=True, help="Folder for the encoder's answers.")
@click.option("--holdout", default="test", help="Split for the figures on known sources.")
@click.option(
    "--family",
    "families",
    multiple=True,
    metavar="NAME=SOURCE,SOURCE...",
    help="Sources that are left out together.",
)
@click.option("--limit", type=click.IntRange(1), default=200, help="Pictures scored of a family.")
@click.option("--seed", type=click.IntRange(0), default=0)
@click.option("--workers", type=click.IntRange(0), help="Processes that load pictures.")
@machine_options
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any other setting.")
def benchmark(
    machine: Machine,
    data: Path,
    preset: str,
    out: Path,
    cache: Path,
    holdout: str,
    families: tuple[str, ...],
    limit: int,
    seed: int,
    workers: int | None,
    settings: tuple[str, ...],
) -> None:
    """Leave each source and each generator out in turn, and score it unseen.

    \b
    trainer benchmark --data pictures --preset default --holdout val \\
        --cache encoded --out benchmark.json --family sd=sd15,mixed-diffusion
    """
    from trainer.cli import parse_settings
    from trainer.config import load_config

    overrides = {"holdout": holdout, "seed": seed, **parse_settings(settings)}
    if workers is not None:
        overrides["workers"] = workers
    config = load_config(preset, overrides)
    merged = _parse_families(families)
    from trainer.benchmark import benchmark as run
    from trainer.data import load_samples

    machine.limit_threads()
    result = run(
        config,
        load_samples(data),
        out,
        merged=merged,
        cache=cache,
        limit=limit,
        device=machine.chosen,
        on_fold=lambda family, rows: edge.say(fold_line(family, rows)),
        on_encode=lambda variant, done, total: edge.say(
            f"encoded {done}/{total} pictures ({variant})"
        ),
    )
    click.echo(table(result))
    click.echo(f"figures in {out}")


def fold_line(family: str, rows: Sequence[LeftOut]) -> str:
    """One left-out family for people."""
    cells = "  ".join(
        f"{row.tier} {row.accuracy['youden'] * 100:5.1f} % (AUC {row.auc:.3f})" for row in rows
    )
    return f"without {family:20s} {rows[0].label}  n {rows[0].count:3d}  {cells}"


def table(result: Mapping[str, Any]) -> str:
    """Known and left-out figures of each tier, Markdown, at each operating point."""
    lines = [
        "| tier | point | known: balanced accuracy, AUC | left out: balanced accuracy (95 %) | "
        "left-out generators called fake | left-out sources called real | left-out AUC |",
        "|---|---|---|---|---|---|---|",
    ]
    for tier, points in result["summary"].items():
        for point, left in points.items():
            if point == "auc":
                continue
            known = result["in_domain"][tier][point]
            lines.append(
                f"| {tier} | {point} | {known['balanced_accuracy'] * 100:.1f}, "
                f"{known['auc']:.3f} | {left['balanced_accuracy'] * 100:.1f} "
                f"({left['low'] * 100:.1f}-{left['high'] * 100:.1f}) | "
                f"{left['left_out_generators_called_fake'] * 100:.1f} | "
                f"{left['left_out_sources_called_real'] * 100:.1f} | {points['auc']:.3f} |"
            )
    return "\n".join(lines)


def _parse_families(families: Sequence[str]) -> dict[str, list[str]]:
    merged: dict[str, list[str]] = {}
    for entry in families:
        name, equals, sources = entry.partition("=")
        if not equals or not name or not sources:
            raise UsageError(f"--family {entry}: write NAME=SOURCE,SOURCE")
        merged[name] = sources.split(",")
    return merged
