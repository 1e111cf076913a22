"""`trainer tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanner.errors import UsageError
from trainer import edge
from trainer.options import (
    Cache,
    Machine,
    Request,
    cache_options,
    machine_options,
    path_type,
    request_options,
)

if TYPE_CHECKING:
    from trainer.fit import EpochReport
    from trainer.tune import TrialReport


@click.command()
@request_options("focal-optuna")
@click.option("--out", type=path_type, required=True, help="Preset to write: FILE.toml.")
@click.option("--trials", type=click.IntRange(1), default=10, help="Trials of the whole study.")
@click.option("--epochs", type=click.IntRange(1), default=10, help="Epochs of a trial.")
@click.option("--storage", default="sqlite:///study.db", help="Database that holds the study.")
@click.option("--study", help="Name of the study.  [name of --out]")
@click.option("--runs", type=path_type, help="Folder of the trials.  [--out, ending in -trials]")
@click.option(
    "--also",
    multiple=True,
    type=click.Choice(["learning_rate", "unfrozen", "dropout"]),
    help="Search this, too; repeatable.",
)
@click.option("--prune/--no-prune", default=True, help="Stop trials below the median.")
@click.option("--keep-checkpoints", is_flag=True, help="Keep every trial's model.")
@cache_options("decoded pictures and a frozen encoder's answers", "in --runs")
@machine_options
@click.option("--quiet", is_flag=True, help="Print only the result.")
def tune(
    request: Request,
    cache: Cache,
    machine: Machine,
    out: Path,
    trials: int,
    epochs: int,
    storage: str,
    study: str | None,
    runs: Path | None,
    also: tuple[str, ...],
    prune: bool,
    keep_checkpoints: bool,
    quiet: bool,
) -> None:
    """Search the loss parameters of a preset for the best validation AUC.

    The same command goes on with a study that was stopped; given several times at once, it
    shares the trials among the processes.

    \b
    trainer tune --data pictures --preset focal-optuna --sample 0.05 --out tuned.toml
    trainer fit --data pictures --preset tuned.toml --out runs/tuned
    """
    from trainer.auc_error import auc_standard_error
    from trainer.cli import load_splits
    from trainer.config import load_config

    given, preset = request.given(), request.preset
    base = load_config(preset, given)
    if out.suffix != ".toml" or not out.parent.is_dir():
        raise UsageError(f"--out {out}: name a .toml file in a folder that exists")
    if out.exists() and Path(preset).exists() and out.samefile(preset):
        raise UsageError(f"--out {out}: is the preset itself; name another file")

    from trainer.processes import ALONE
    from trainer.tune import search_space, tuning_config
    from trainer.tune import tune as run_tune
    from trainer.tuned import draw_plots, table, write_preset

    machine.limit_threads()

    def say(text: str) -> None:
        if not quiet:
            edge.say(text)

    ALONE.device(machine.chosen)  # what is not there is said before minutes of decoding
    config = tuning_config(base, epochs)
    search_space(config, also)  # what cannot be searched, too
    stem = out.with_suffix("")
    runs = runs or stem.with_name(f"{stem.name}-trials")
    decoded = cache.open(runs)
    splits = load_splits(request.data, config, say, decoded)
    result = run_tune(
        config,
        splits,
        runs,
        trials=trials,
        storage=storage,
        study=study or stem.name,
        also=also,
        prune=prune,
        keep_checkpoints=keep_checkpoints,
        on_trial=lambda report: say(trial_line(report)),
        on_epoch=lambda number, report: say(_epoch_line(number, report)),
        cache=cache.cache,
        decoded=decoded,
        device=machine.chosen,
    )
    write_preset(out, preset, given, config, result)
    plots, missing = draw_plots(result.study, stem)
    for text in missing:
        say(text)
    click.echo(table(result))
    fakes = sum(s.label for s in splits.val)
    error = auc_standard_error(result.best_auc, fakes, len(splits.val) - fakes)
    click.echo(
        f"\nAn AUC of {len(splits.val)} validation pictures moves by about {error:.3f} by chance "
        "(one standard error): smaller gains mean nothing."
    )
    elsewhere = f", {result.running} still running elsewhere" if result.running else ""
    click.echo(
        f"{result.complete} complete, {result.pruned} pruned, {result.failed} failed{elsewhere}\n"
        f"wrote {', '.join(str(p) for p in (out, *plots))}; trials in {runs}\n"
        f"next: trainer fit --data {request.data} --preset {out} --out RUN"
    )
    if result.running:
        click.echo("when those have ended, the same command writes the preset anew")


def trial_line(report: TrialReport) -> str:
    """One trial for people."""
    what = {
        "complete": f"validation AUC {report.auc or 0:.4f}{'  *' if report.best else ''}",
        "pruned": f"pruned after epoch {report.epochs}",
        "failed": f"failed: {report.detail}",
    }[report.state]
    params = ", ".join(f"{name} {value:.4g}" for name, value in report.params.items())
    return f"trial {report.number}: {what}  ({params})"


def _epoch_line(number: int, report: EpochReport) -> str:
    return (
        f"  trial {number} epoch {report.epoch}/{report.epochs}  loss {report.loss:.4f}  "
        f"val AUC {report.val_auc:.4f}  {report.seconds:.0f} s"
    )
