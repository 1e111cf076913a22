"""`trainer tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanner.errors import UsageError
from trainer import edge

if TYPE_CHECKING:
    from trainer.fit import EpochReport
    from trainer.tune import TrialReport

path_type = click.Path(path_type=Path)


@click.command()
@click.option("--data", type=path_type, required=True, help="Class folders, or a CSV manifest.")
@click.option("--preset", default="focal-optuna", help="A preset's name, or a .toml file.")
@click.option("--out", type=path_type, required=True, help="Preset to write: FILE.toml.")
@click.option("--trials", type=click.IntRange(1), default=10, help="Trials of the whole study.")
@click.option("--epochs", type=click.IntRange(1), default=10, help="Epochs of a trial.")
@click.option("--sample", type=float, help="Fraction of the data to use.  [preset]")
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
@click.option("--encoder-weights", help="default, none, or a local file.")
@click.option("--workers", type=int, help="Processes that load pictures; 0: none.")
@click.option("--seed", type=int)
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of PyTorch.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any other setting.")
@click.option("--quiet", is_flag=True, help="Print only the result.")
def tune(
    data: Path,
    preset: str,
    out: Path,
    trials: int,
    epochs: int,
    storage: str,
    study: str | None,
    runs: Path | None,
    also: tuple[str, ...],
    prune: bool,
    keep_checkpoints: bool,
    device: str,
    threads: int | None,
    settings: tuple[str, ...],
    quiet: bool,
    **overrides: Any,
) -> None:
    """Search the loss parameters of a preset for the best validation AUC.

    The same command goes on with a study that was stopped; given several times at once, it
    shares the trials among the processes.

    \b
    trainer tune --data pictures --preset focal-optuna --sample 0.05 --out tuned.toml
    trainer fit --data pictures --preset tuned.toml --out runs/tuned
    """
    from trainer.auc_error import auc_standard_error
    from trainer.cli import load_splits, parse_settings
    from trainer.config import load_config

    given = {name: value for name, value in overrides.items() if value is not None}
    given.update(parse_settings(settings))
    base = load_config(preset, given)
    if out.suffix != ".toml" or not out.parent.is_dir():
        raise UsageError(f"--out {out}: name a .toml file in a folder that exists")
    if out.exists() and Path(preset).exists() and out.samefile(preset):
        raise UsageError(f"--out {out}: is the preset itself; name another file")

    import torch

    from trainer.processes import ALONE
    from trainer.tune import search_space, tuning_config
    from trainer.tune import tune as run_tune
    from trainer.tuned import draw_plots, table, write_preset

    if threads is not None:
        torch.set_num_threads(threads)

    def say(text: str) -> None:
        if not quiet:
            edge.say(text)

    chosen = None if device == "auto" else device
    ALONE.device(chosen)  # what is not there is said before minutes of decoding
    config = tuning_config(base, epochs)
    search_space(config, also)  # what cannot be searched, too
    splits = load_splits(data, config, say)
    stem = out.with_suffix("")
    runs = runs or stem.with_name(f"{stem.name}-trials")
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
        device=chosen,
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
        f"next: trainer fit --data {data} --preset {out} --out RUN"
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
