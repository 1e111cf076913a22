"""`trainer fit | tune | evaluate | audit`: the edge that parses, prints and exits."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanner import __version__
from scanner.errors import UsageError
from trainer.allocator import keep_freed_memory
from trainer.commands.audit import audit
from trainer.commands.benchmark import benchmark
from trainer.commands.evaluate import evaluate
from trainer.commands.tune import tune
from trainer.edge import run

if TYPE_CHECKING:
    from trainer.config import FitConfig
    from trainer.data import Sample, Splits
    from trainer.decoded import DecodedPictures
    from trainer.fit import EpochReport

path_type = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="trainer")
def command() -> None:
    """Fit and judge the models that imgscan scans with."""


command.add_command(audit)
command.add_command(benchmark)
command.add_command(evaluate)
command.add_command(tune)


@command.command()
@click.option("--data", type=path_type, required=True, help="Class folders, or a CSV manifest.")
@click.option("--preset", default="default", help="A preset's name, or a .toml file.")
@click.option("--out", type=path_type, required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--holdout", help="Split of the data that the fit never looks at.  [preset: test]")
@click.option("--sample", type=float, help="Fraction of the data to use.")
@click.option(
    "--real-per-fake",
    type=float,
    help="Real pictures to expect for one fake, in the draws and in P(fake).",
)
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int)
@click.option("--learning-rate", type=float)
@click.option("--size", type=int, help="Side of the prepared square, in pixels.")
@click.option("--encoder-weights", help="default, none, or a local file.")
@click.option(
    "--cache",
    type=path_type,
    help="Folder for decoded pictures and a frozen encoder's answers, to share among runs.  "
    "[default: in --out]",
)
@click.option(
    "--cache-limit",
    type=click.FloatRange(0),
    default=20.0,
    help="Of decoded pictures, in GB; 0: none are kept.",
)
@click.option("--workers", type=int, help="Processes that load pictures; 0: none.")
@click.option("--seed", type=int)
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of PyTorch.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any other setting.")
@click.option("--quiet", is_flag=True, help="Print only the result.")
def fit(
    data: Path,
    preset: str,
    out: Path,
    resume: bool,
    cache: Path | None,
    cache_limit: float,
    device: str,
    threads: int | None,
    settings: tuple[str, ...],
    quiet: bool,
    **overrides: Any,
) -> None:
    """Fit a model: checkpoints, log, thresholds and result in the folder --out.

    \b
    trainer fit --data pictures --preset default --out runs/first
    trainer fit --data pictures --preset conv-ae --sample 0.1 --epochs 50 --out runs/conv
    """
    from trainer.config import load_config

    given = {name: value for name, value in overrides.items() if value is not None}
    config = load_config(preset, {**given, **parse_settings(settings)})
    # torch takes seconds to import: a wrong option is answered before that.
    import torch

    from trainer.decoded import DecodedPictures
    from trainer.fit import fit as run_fit

    if threads is not None:
        torch.set_num_threads(threads)

    def say(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    decoded = None
    if cache_limit:
        decoded = DecodedPictures(cache or out, limit=round(cache_limit * 1e9))
    splits = load_splits(data, config, say, decoded)
    progress = _Progress(enabled=not quiet and sys.stderr.isatty())
    result = run_fit(
        config,
        splits,
        out,
        resume=resume,
        on_epoch=lambda report: say(progress.clear() + epoch_line(report)),
        on_batch=progress.batch,
        on_encode=lambda variant, done, total: say(
            progress.clear() + f"encoded {done}/{total} pictures ({variant})"
        ),
        cache=cache,
        decoded=decoded,
        device=None if device == "auto" else device,
    )
    click.echo(result_lines(out, result))


def load_splits(
    data: Path,
    config: FitConfig,
    say: Callable[[str], None],
    decoded: DecodedPictures | None = None,
) -> Splits:
    """Read, check and split the data; says what was skipped and what is left.

    To check is to decode every picture once, which fills `decoded`.
    """
    from trainer.data import (
        check_readable,
        describe,
        load_samples,
        refuse_contradictions,
        split_samples,
    )

    samples = load_samples(data)
    refuse_contradictions(samples)
    splits = split_samples(
        samples,
        val_fraction=config.val_fraction,
        holdout=config.holdout,
        fraction=config.sample,
        max_per_source=config.max_per_source,
        seed=config.seed,
    )
    used = (*splits.train, *splits.val)
    spec = config.preprocess((0, 0, 0), (1, 1, 1))
    if decoded is None:
        _, failures = check_readable(used, spec)
    else:
        from trainer.decoded import fit_recipes

        train, val = fit_recipes(spec, config.augment)
        failures = decoded.fill(
            [*((s, train) for s in splits.train), *((s, val) for s in splits.val)]
        )
        if decoded.full:
            say("the cache of decoded pictures is full: the rest is decoded in every epoch")
    if failures:
        for failure in failures[:10]:
            say(f"skipped {failure.ref.path}: {failure.reason}: {failure.detail}")
        say(f"skipped {len(failures)} of {len(used)} pictures that cannot be read")
        bad = {str(f.ref.path) for f in failures}
        splits = _without(splits, bad)
    describe(splits, say)
    return splits


def _without(splits: Splits, bad: set[str]) -> Splits:
    from trainer.data import FAKE, REAL, Splits

    def kept(part: Sequence[Sample]) -> tuple[Sample, ...]:
        return tuple(s for s in part if str(Path(s.key)) not in bad)

    left = Splits(kept(splits.train), kept(splits.val), splits.holdout)
    if any({s.label for s in part} != {REAL, FAKE} for part in (left.train, left.val)):
        raise UsageError("too few readable pictures are left: a class is missing")
    return left


def epoch_line(report: EpochReport) -> str:
    """One epoch for people."""
    return (
        f"epoch {report.epoch}/{report.epochs}  loss {report.loss:.4f} "
        f"(reconstruction {report.reconstruction_loss:.4f}, "
        f"classification {report.classification_loss:.4f})  "
        f"val AUC {report.val_auc:.4f}  balanced accuracy {report.val_balanced_accuracy:.4f}  "
        f"{report.seconds:.0f} s{'  *' if report.best else ''}"
    )


def result_lines(out: Path, result: dict[str, Any]) -> str:
    """The closing lines of a fit."""
    at = result["validation"]["youden"]
    rare = result["validation"]["best_f1"].get("at_prior")
    return (
        f"best epoch {result['epoch']}: validation AUC {at['auc']:.4f}, balanced accuracy "
        f"{at['balanced_accuracy']:.4f} at Youden's threshold {at['threshold']:.4f} "
        "(fitted on the same pictures)\n"
        + (
            f"where {rare['prior']:.2%} are fake: precision {rare['precision']:.4f}, F1 "
            f"{rare['f1']:.4f} at the best-F1 threshold, which is the operating point\n"
            if rare
            else ""
        )
        + f"temperature {result['temperature']:.3f}, best-F1 threshold "
        f"{result['thresholds']['best_f1']:.4f}\n"
        f"run in {out}: next `trainer evaluate {out} --data ...` or "
        f"`python -m export onnx {out} --out BUNDLE`"
    )


class _Progress:
    """A counter of batches on one line of a terminal."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled

    def batch(self, done: int, total: int) -> None:
        if self.enabled:
            click.echo(f"\r  batch {done}/{total}", nl=False, err=True)

    def clear(self) -> str:
        return "\r\x1b[K" if self.enabled else ""


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """The values of `--set NAME=VALUE`, read as TOML; raises UsageError."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: write NAME=VALUE")
        try:
            values[name.strip()] = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            values[name.strip()] = text.strip()  # a bare word is a string
    return values


def main() -> None:
    """Run the command line; the exit codes are documented in docs/training.md."""
    keep_freed_memory()
    run(
        command,
        name="trainer",
        interrupted="interrupted; `trainer fit --resume` goes on with a fit",
    )
