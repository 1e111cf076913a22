"""`trainer evaluate`: from the command line to a folder and a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanner.errors import UsageError
from scanner.options.paths import ModelType
from scanner.text import printable
from trainer.options import Cache, Machine, cache_options, machine_options, path_type

if TYPE_CHECKING:
    from trainer.data import Sample
    from trainer.decoded import DecodedPictures
    from trainer.runs import Run
    from trainer.selection import Selection
    from trainer.tiers import Tier


@click.command()
@click.argument("runs", nargs=-1, required=True, type=ModelType(), metavar="RUN...")
@click.option("--data", type=path_type, required=True, help="Class folders, or a CSV manifest.")
@click.option(
    "--split",
    help="holdout, val or train of the run, all, or a split that the data names.  "
    "[default: holdout, else val; all of data that the run never saw]",
)
@click.option(
    "--tier",
    "tiers",
    multiple=True,
    type=click.Choice(["clean", "web", "hard", "all"]),
    default=("clean",),
    help="Condition of the pictures; may be given several times.",
)
@click.option("--grey", is_flag=True, help="Score a colour model on pictures without colour.")
@click.option(
    "--out", type=path_type, help="Folder to write.  [default: RUN/evaluation, for one run]"
)
@click.option("--limit", type=click.IntRange(1), help="At most this many pictures a source.")
@click.option(
    "--bootstrap",
    type=click.IntRange(0),
    default=1000,
    help="Draws for 95 % intervals of figures and of differences between runs; 0: none.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, help="Of the draws of --limit and --bootstrap."
)
@click.option("--max-misclassified", type=click.IntRange(0), default=24, help="Of each sheet.")
@machine_options
@click.option("--workers", type=click.IntRange(0), help="Processes that load pictures.")
@click.option("--batch-size", type=click.IntRange(1))
@cache_options("decoded pictures", "none are kept")
@click.option("--quiet", is_flag=True, help="Print only the tables and warnings.")
def evaluate(
    machine: Machine,
    cache: Cache,
    runs: tuple[Path, ...],
    data: Path,
    split: str | None,
    tiers: tuple[str, ...],
    grey: bool,
    out: Path | None,
    limit: int | None,
    bootstrap: int,
    seed: int,
    max_misclassified: int,
    workers: int | None,
    batch_size: int | None,
    quiet: bool,
) -> None:
    """Judge runs on labelled pictures: one table, plots, JSON and a page.

    A RUN is a folder of `trainer fit`, or a bundle: fast, accurate, cascade or a folder.
    Thresholds and temperature are those of each run's result.json or bundle; nothing is fitted.

    \b
    trainer evaluate runs/first --data pictures --tier all
    trainer evaluate runs/a runs/b --data pictures --out runs/a-and-b
    trainer evaluate fast cascade runs/first --data pictures --out judged
    """
    from scanner.bundle import names_bundle

    # torch takes seconds to import: a wrong option is answered before that.
    if out is None:
        if len(runs) > 1:
            raise UsageError("several runs: name a folder for their evaluation with --out")
        if names_bundle(runs[0]):
            raise UsageError(f"{runs[0]}: is a bundle; name a folder for the outcome with --out")
        out = runs[0] / "evaluation"
    from trainer.data import load_samples
    from trainer.evaluate import choose_device
    from trainer.evaluate import evaluate as run_evaluate
    from trainer.evaluation_folder import check_target, write_evaluation
    from trainer.runs import open_runs
    from trainer.tables import as_text
    from trainer.tiers import TIERS

    machine.limit_threads()
    # All that can be wrong with the request is found before minutes of scoring.
    choose_device(machine.device)
    check_target(out)
    opened = open_runs(runs)
    samples = load_samples(data)
    wanted_tiers = [tier for name, tier in TIERS.items() if name in tiers or "all" in tiers]
    selected = _select(opened, samples, split, str(data), limit or 0, seed)
    decoded = cache.open(None)
    selected, skipped = _readable(selected, wanted_tiers, grey, str(data), decoded)

    progress = sys.stderr.isatty() and not quiet

    def show(what: str, done: int, total: int) -> None:
        if progress:
            click.echo(f"\r\x1b[K{printable(what)}: batch {done}/{total}", nl=False, err=True)

    result = run_evaluate(
        selected,
        wanted_tiers,
        data=str(data),
        grey=grey,
        device=machine.device,
        workers=workers,
        batch_size=batch_size,
        max_errors=max_misclassified,
        warnings=skipped,
        on_progress=show,
        decoded=decoded,
        bootstrap=bootstrap,
        seed=seed,
    )
    if progress:
        click.echo("\r\x1b[K", nl=False, err=True)
    write_evaluation(result, out)
    for warning in result.warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    for run, selection in selected:
        for warning in selection.warnings:
            click.echo(f"warning: {printable(run.name)}: {printable(warning)}", err=True)
    click.echo(as_text(result))
    if not quiet:
        click.echo(f"page, figures and JSON in {printable(str(out))}", err=True)


def _select(
    runs: Sequence[Run],
    samples: Sequence[Sample],
    split: str | None,
    data: str,
    limit: int,
    seed: int,
) -> list[tuple[Run, Selection]]:
    """What each run is scored on."""
    from dataclasses import replace

    from trainer.selection import OF_BUNDLES, limited, select
    from trainer.shipped import Shipped

    found = [
        select(samples, run.seen, split=split, holdout=run.config.holdout, origin=data)
        for run in runs
    ]
    of_runs = [s for run, s in zip(runs, found, strict=True) if not isinstance(run.model, Shipped)]
    selected = []
    for run, wanted in zip(runs, found, strict=True):
        if isinstance(run.model, Shipped):
            # Beside runs it is judged on what they are judged on, if that is the same for all:
            # its own maker's split may be called otherwise.
            if split is None and len({selection.samples for selection in of_runs}) == 1:
                wanted = replace(of_runs[0], warnings=())
            wanted = replace(wanted, warnings=(*wanted.warnings, OF_BUNDLES))
        selected.append((run, limited(wanted, limit, seed)))
    return selected


def _readable(
    selected: list[tuple[Run, Selection]],
    tiers: Sequence[Tier],
    grey: bool,
    data: str,
    decoded: DecodedPictures | None,
) -> tuple[list[tuple[Run, Selection]], list[str]]:
    """The same without unreadable pictures, and warnings about those.

    A cache is filled by the same pass with all that the evaluation will read.
    """
    from dataclasses import replace

    from trainer.data import check_readable
    from trainer.runs import judged_pictures

    used = {s.key: s for _, selection in selected for s in selection.samples}
    if decoded is None:
        _, failures = check_readable(used.values(), selected[0][0].model.spec)
    else:
        wanted = {
            (sample.key, recipe.name): (sample, recipe)
            for run, selection in selected
            for recipe in (judged_pictures(run, (), tier, grey=grey).recipe for tier in tiers)
            for sample in selection.samples
        }
        failures = decoded.fill(list(wanted.values()))
    if not failures:
        return selected, []
    bad = {str(failure.ref.path) for failure in failures}
    kept = []
    for run, selection in selected:
        left = tuple(s for s in selection.samples if str(Path(s.key)) not in bad)
        if not left:
            raise UsageError(f"{data}: none of the pictures to judge {run.name} on can be read")
        kept.append((run, replace(selection, samples=left)))
    few = "; ".join(f"{f.ref.path}: {f.detail}" for f in failures[:5])
    more = f"; and {len(failures) - 5} more" if len(failures) > 5 else ""
    return kept, [f"skipped {len(failures)} of {len(used)} unreadable pictures: {few}{more}"]
