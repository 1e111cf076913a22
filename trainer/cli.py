"""`trainer fit | tune | evaluate | audit`: the edge that parses, prints and exits."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanner import __version__
from scanner.errors import UsageError
from trainer.allocator import keep_freed_memory
from trainer.commands.audit import audit
from trainer.commands.benchmark import benchmark
from trainer.commands.calibrate import calibrate
from trainer.commands.evaluate import evaluate
from trainer.commands.fit import fit
from trainer.commands.tune import tune
from trainer.edge import run

if TYPE_CHECKING:
    from trainer.config import FitConfig
    from trainer.data import Sample, Splits
    from trainer.decoded import DecodedPictures


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="trainer")
def command() -> None:
    """Fit and judge the models that imgscan scans with."""


command.add_command(audit)
command.add_command(benchmark)
command.add_command(calibrate)
command.add_command(evaluate)
command.add_command(fit)
command.add_command(tune)


def load_splits(
    data: Path,
    config: FitConfig,
    say: Callable[[str], None],
    decoded: DecodedPictures | None = None,
    unlabelled: Sequence[Sample] = (),
) -> Splits:
    """Read, check and split the data; says what was skipped and what is left.

    To check is to decode each picture of training and validation once, which fills `decoded`.
    """
    from trainer.data import (
        across_splits,
        check_readable,
        describe,
        load_samples,
        refuse_contradictions,
        split_samples,
    )

    samples = load_samples(data, kind_column=config.expert_column)
    refuse_contradictions(samples)
    splits = split_samples(
        samples,
        val_fraction=config.val_fraction,
        holdout=config.holdout,
        fraction=config.sample,
        max_per_source=config.max_per_source,
        seed=config.seed,
    )
    if twins := across_splits(splits):
        some = "; ".join(f"{one.key} and {other.key}" for one, other in twins[:3])
        say(f"warning: {len(twins)} files stand in two splits, which flatters the figures: {some}")
    splits = replace(splits, unlabelled=tuple(unlabelled))
    used = (*splits.train, *splits.val, *splits.unlabelled)
    spec = config.preprocess((0, 0, 0), (1, 1, 1))
    if decoded is None:
        _, failures = check_readable(used, spec)
    else:
        from trainer.decoded import fit_recipes

        train, val = fit_recipes(spec, config.augment)
        failures = decoded.fill(
            [
                *((s, train) for s in (*splits.train, *splits.unlabelled)),
                *((s, val) for s in splits.val),
            ]
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
    from trainer.data import FAKE, REAL

    def kept(part: Sequence[Sample]) -> tuple[Sample, ...]:
        return tuple(s for s in part if str(Path(s.key)) not in bad)

    left = replace(
        splits,
        train=kept(splits.train),
        val=kept(splits.val),
        unlabelled=kept(splits.unlabelled),
    )
    if any({s.label for s in part} != {REAL, FAKE} for part in (left.train, left.val)):
        raise UsageError("too few readable pictures are left: a class is missing")
    return left


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
