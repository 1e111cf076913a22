"""`trainer fit`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

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
    from trainer.config import FitConfig
    from trainer.data import Splits
    from trainer.decoded import DecodedPictures
    from trainer.dry_run import DryRun
    from trainer.fit import EpochReport
    from trainer.processes import Processes


@click.command()
@request_options("default")
@click.option("--out", type=path_type, required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--holdout", help="Split of the data that the fit never looks at.  [preset: test]")
@click.option(
    "--unlabelled",
    type=path_type,
    help="Folder of further pictures, for the lessons of a preset with a teacher.",
)
@click.option(
    "--real-per-fake",
    type=float,
    help="Real pictures to expect for one fake, in the draws and in P(fake).",
)
@click.option("--epochs", type=int, help="Passes over the training pictures.")
@click.option("--batch-size", type=int, help="Pictures of one step.")
@click.option("--accumulate", type=int, help="Batches whose gradients make one step.")
@click.option("--learning-rate", type=float, help="Of decoder and head, and of the encoder.")
@click.option("--ema", type=float, help="Decay of the weights' moving average; 0: none.")
@click.option("--size", type=int, help="Side of the prepared square, in pixels.")
@click.option(
    "--per-class-experts",
    is_flag=True,
    help="One head and one decoder for each kind of picture, by clusters of encoder features.",
)
@click.option("--experts", type=int, help="How many clusters.  [default: 4]")
@click.option("--expert-column", help="A column of the manifest names the kinds instead.")
@cache_options("decoded pictures and a frozen encoder's answers", "in --out")
@machine_options
@click.option("--dry-run", is_flag=True, help="Print what would be fitted; write nothing.")
@click.option("--quiet", is_flag=True, help="Print only the result.")
def fit(
    request: Request,
    cache: Cache,
    machine: Machine,
    out: Path,
    resume: bool,
    unlabelled: Path | None,
    per_class_experts: bool,
    dry_run: bool,
    quiet: bool,
    **overrides: Any,
) -> None:
    """Fit a model: checkpoints, log, thresholds and result in the folder --out.

    \b
    trainer fit --data pictures --preset default --out runs/first
    trainer fit --data pictures --preset conv-ae --sample 0.1 --epochs 50 --out runs/conv
    torchrun --nproc-per-node 4 -m trainer fit --data pictures --out runs/first
    """
    if per_class_experts and overrides["expert_column"] is None:
        overrides["experts"] = overrides["experts"] or 4
    elif not per_class_experts and (overrides["experts"] or overrides["expert_column"]):
        raise UsageError("--experts and --expert-column say which: give --per-class-experts, too")
    first = os.environ.get("RANK", "0") == "0"
    try:
        _fit(
            request, cache, machine, out, resume, unlabelled, dry_run, quiet or not first, overrides
        )  # fmt: skip
    except UsageError:
        if first:
            raise
        sys.exit(edge.USAGE_ERROR)  # the first process says why


def _fit(
    request: Request,
    cache: Cache,
    machine: Machine,
    out: Path,
    resume: bool,
    unlabelled: Path | None,
    dry_run: bool,
    quiet: bool,
    overrides: dict[str, Any],
) -> None:
    from trainer.cli import load_splits
    from trainer.config import load_config

    config = load_config(request.preset, request.given(overrides))
    if unlabelled is not None and not config.teacher:
        raise UsageError(
            f"--unlabelled: preset {config.preset} has no teacher, and nobody else speaks of such "
            "pictures; give --preset distilled, or --set teacher=accurate"
        )
    # torch takes seconds to import: a wrong option is answered before that.
    from trainer.samples import load_unlabelled

    extra = load_unlabelled(unlabelled) if unlabelled is not None else []
    from trainer.fit import fit as run_fit
    from trainer.processes import launched

    machine.limit_threads()
    bar = Bar(sys.stderr, enabled=not quiet and sys.stderr.isatty())

    def say(text: str) -> None:
        bar.close()
        if not quiet:
            edge.say(text)

    def load() -> tuple[Splits, DecodedPictures | None]:
        decoded = None if dry_run else cache.open(out)
        return load_splits(request.data, config, say, decoded, extra), decoded

    with launched(machine.chosen) as processes:
        processes.device(machine.chosen)  # what is not there is said before minutes of decoding
        splits, decoded = processes.from_first(load)
        if dry_run:
            if processes.first:
                click.echo(_dry_run_lines(config, splits, machine.chosen, processes))
            return
        result = run_fit(
            config,
            splits,
            out,
            resume=resume,
            on_epoch=lambda report: say(epoch_line(report)),
            on_batch=bar.batch,
            on_encode=lambda variant, done, total: say(
                f"encoded {done}/{total} pictures ({variant})"
            ),
            cache=cache.cache,
            decoded=decoded,
            device=machine.chosen,
            processes=processes,
        )
    if processes.first:
        click.echo(result_lines(out, result))


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
        + "".join(_expert_line(row) for row in result.get("experts", ()))
        + "".join(f"warning: {warning}\n" for warning in result["warnings"])
        + f"temperature {result['temperature']:.3f}, best-F1 threshold "
        f"{result['thresholds']['best_f1']:.4f}\n"
        f"run in {out}: next `trainer evaluate {out} --data ...` or "
        f"`python -m export onnx {out} --out BUNDLE`"
    )


def _expert_line(row: dict[str, Any]) -> str:
    train, val = row["training"], row["validation"]
    own = val["youden"]
    auc = f"AUC {own['auc']:.4f}" if own and own["auc"] is not None else "AUC unknown, one class"
    return (
        f"expert {row['name']}: {train['share']:.0%} of the training pictures ({train['real']} "
        f"real, {train['fake']} fake); of {val['pictures']} validation pictures {auc}\n"
    )


class Bar:
    """Batches of an epoch on one line of a terminal, with rate and time left; else nothing."""

    def __init__(self, stream: TextIO, *, enabled: bool) -> None:
        self._stream, self._enabled = stream, enabled
        self._bar: Any = None

    def batch(self, done: int, total: int) -> None:
        """`done` of `total` batches; one fewer than before begins another epoch."""
        if not self._enabled:
            return
        if self._bar is None or done <= self._bar.n:
            from tqdm import tqdm

            self.close()
            self._bar = tqdm(
                total=total, unit="batch", file=self._stream, leave=False, dynamic_ncols=True
            )
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Clear the line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _dry_run_lines(
    config: FitConfig, splits: Splits, device: str | None, processes: Processes
) -> str:
    from trainer.dry_run import dry_run, split_table

    settings = (f"{name} = {json.dumps(value)}" for name, value in config.to_dict().items())
    measured = dry_run(config, splits, device=device, processes=processes)
    report = dry_run_report(measured)
    if config.teacher:
        report += f"\n{'not measured':16s} what {config.teacher} says, and the lessons by it"
    parts = ["\n".join(settings), split_table(splits), report]
    return "\n\n".join(parts) + "\nnothing was written"


def dry_run_report(run: DryRun) -> str:
    """Shapes, parameters, memory and time of one step for people."""
    shapes = [f"{name:16s} {' x '.join(map(str, shape))}" for name, shape in run.shapes.items()]
    counts = [
        f"{part:16s} {total:12,d} parameters, {trained:12,d} trained"
        for part, (total, trained) in run.parameters.items()
    ]
    step = run.load_seconds + run.learn_seconds
    times = [
        f"{'memory':16s} {run.memory_bytes / 2**20:,.0f} MiB: {run.memory_meaning}",
        f"{'time of a batch':16s} {step:.3f} s: {run.load_seconds:.3f} s to load and encode, "
        f"{run.learn_seconds:.3f} s to learn; on {run.device}",
        f"{'an epoch':16s} about {run.epoch_seconds:.0f} s for {run.batches} batches in "
        f"{run.steps} steps, without validation",
    ]
    if run.encode_seconds:
        times.append(
            f"{'before them':16s} about {run.encode_seconds:.0f} s to fill the cache of encodings, "
            "of which epochs then read"
        )
    return "\n".join([*shapes, "", *counts, "", *times])
