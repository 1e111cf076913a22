"""`trainer benchmark`: from the command line to a table of left-out families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from scanner.errors import UsageError
from scanner.options.paths import ModelType
from scanner.stages import FOLDERS
from trainer import edge
from trainer.options import Machine, machine_options, path_type

if TYPE_CHECKING:
    from scanner.bundle import Bundle
    from trainer.benchmark import LeftOut
    from trainer.config import FitConfig


class Plan(NamedTuple):
    """A recipe, the sources that are left out together, and the most pictures of a family."""

    config: FitConfig
    merged: Mapping[str, list[str]]
    limit: int


@click.command()
@click.option("--data", type=path_type, required=True, help="Class folders, or a CSV manifest.")
@click.option("--preset", help="A preset's name, or a .toml file; default if no --model is given.")
@click.option(
    "--model",
    type=ModelType(),
    help="Run again what an embedded model (fast, accurate, cascade) or a bundle states of itself.",
)
@click.option("--out", type=path_type, required=True, help="JSON file to write.")
@click.option("--cache", type=path_type, required=True, help="Folder for the encoder's answers.")
@click.option("--holdout", help="Split for the figures on known sources; test by default.")
@click.option(
    "--family",
    "families",
    multiple=True,
    metavar="NAME=SOURCE,SOURCE...",
    help="Sources that are left out together.",
)
@click.option("--limit", type=click.IntRange(1), help="Pictures scored of a family; 200.")
@click.option("--seed", type=click.IntRange(0), help="0 by default.")
@click.option("--workers", type=click.IntRange(0), help="Processes that load pictures.")
@machine_options
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any other setting.")
def benchmark(
    machine: Machine,
    data: Path,
    preset: str | None,
    model: Path | None,
    out: Path,
    cache: Path,
    holdout: str | None,
    families: tuple[str, ...],
    limit: int | None,
    seed: int | None,
    workers: int | None,
    settings: tuple[str, ...],
) -> None:
    """Leave each source and each generator out in turn, and score it unseen.

    \b
    trainer benchmark --data pictures --preset default --holdout val \\
        --cache encoded --out benchmark.json --family sd=sd15,mixed-diffusion
    trainer benchmark --data pictures --model accurate --cache encoded --out again.json

    With --model everything else is as the bundle states it, the data too, and its figures are
    printed beside those measured (`trainer evaluate` judges it on pictures of your own); of a
    cascade, those of both stages too, whose scores lie beside --out as
    NAME.first.json and NAME.second.json.
    """
    from trainer.cli import parse_settings
    from trainer.config import load_config

    bundle: Bundle | None = None
    if model is not None:
        others = {
            "--preset": preset, "--holdout": holdout, "--family": families, "--limit": limit,
            "--seed": seed, "--set": settings,
        }  # fmt: skip
        for option, value in others.items():
            if value not in (None, ()):
                raise UsageError(f"{option}: with --model the bundle says it; give one of the two")
        from scanner.bundle import bundle_path, read_bundle
        from trainer.stated import stated_by

        bundle = read_bundle(bundle_path(model))
        recipes = [stated_by(stage) for stage in bundle.models]
        if workers is not None:
            recipes = [replace(r, config=replace(r.config, workers=workers)) for r in recipes]
        plans = [Plan(each.config, each.merged, each.limit) for each in recipes]
    else:
        overrides = {"holdout": holdout or "test", "seed": seed or 0, **parse_settings(settings)}
        if workers is not None:
            overrides["workers"] = workers
        config = load_config(preset or "default", overrides)
        plans = [Plan(config, _parse_families(families), limit or 200)]
    # What the list of files tells comes before all that takes time.
    from trainer.kept_apart import check_families, families_of
    from trainer.samples import load_samples

    samples = load_samples(data)
    try:
        for plan in plans:
            check_families(samples, families_of(samples, plan.merged), plan.config.holdout)
    except UsageError as error:
        raise UsageError(f"{data}: {error}{_of_own_pictures(model)}") from None
    machine.limit_threads()

    def measure(plan: Plan, to: Path) -> Any:
        from trainer.benchmark import benchmark as run

        result = run(
            plan.config, samples, to, merged=plan.merged, cache=cache, limit=plan.limit,
            device=machine.chosen,
            on_fold=lambda family, rows: edge.say(fold_line(family, rows)),
            on_encode=lambda variant, done, total: edge.say(
                f"encoded {done}/{total} pictures ({variant})"
            ),
        )  # fmt: skip
        click.echo(table(result))
        return result

    if bundle is None:
        measure(plans[0], out)
    else:
        from trainer.stated import compared, compared_points

        files = []
        for which, stage in enumerate(bundle.models):
            files.append(out.with_suffix(f".{FOLDERS[which]}.json") if bundle.stages else out)
            if bundle.stages:
                click.echo(f"\n{stage.name}@{stage.digest}, a stage of {bundle.name}\n")
            result = measure(plans[which], files[-1])
            click.echo(f"\n{compared(recipes[which].summary, result['summary'])}\n")
            if "left_out_points" in stage.metrics:
                points = result["calibrated_on_left_out"]
                click.echo(f"{compared_points(stage.metrics['left_out_points'], points)}\n")
        if bundle.stages:
            from trainer.cascaded import cross_fitted_stages, joined, left_out_rows
            from trainer.checkpoint import write_json

            assert bundle.rescore is not None
            scores, stages = joined(files)
            points = cross_fitted_stages(scores, bundle.rescore)
            rows = left_out_rows(scores, stages, bundle.rescore)
            write_json(out, {
                "stages": [str(file) for file in files], "left_out": rows,
                "left_out_points": points,
            })  # fmt: skip
            click.echo(f"{compared_points(bundle.metrics['left_out_points'], points)}\n")
    click.echo(f"figures in {out}")


def _of_own_pictures(model: Path | None) -> str:
    if model is None:
        return ""
    return (
        f"; --model {model} measures again what the bundle states, on the data that it was made "
        f"with: judge it on pictures of your own with `trainer evaluate {model}`, or a recipe "
        "fitted to them with --preset"
    )


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
