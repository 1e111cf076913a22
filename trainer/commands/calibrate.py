"""`trainer calibrate`: thresholds and temperature of a run from left-out sources and generators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from trainer import edge
from trainer.options import path_type


@click.command()
@click.argument("run", type=path_type)
@click.option(
    "--left-out",
    type=path_type,
    required=True,
    help="The JSON of `trainer benchmark` for the run's own settings.",
)
def calibrate(run: Path, left_out: Path) -> None:
    """Calibrate RUN on scores of sources and generators that were left out of the fit.

    \b
    trainer benchmark --data pictures --preset default --cache encoded --out benchmark.json
    trainer calibrate runs/default --left-out benchmark.json

    Replaces temperature, thresholds and the band of `unsure` in the run's result.json; what
    `trainer fit` found on its validation pictures stays there beside them.
    """
    from trainer.recalibrate import recalibrate

    result = recalibrate(run, left_out)
    click.echo(table(result["left_out"]["measured"]))
    low_high = result["unsure"]
    band = "none" if low_high is None else f"{low_high[0]:.3f} to {low_high[1]:.3f}"
    edge.say(f"temperature {result['temperature']:.3f}, unsure at P(fake) {band}")
    edge.say(f"next: python -m export onnx {run} --out BUNDLE")


def table(measured: Mapping[str, Any]) -> str:
    """What each operating point does to families that had no part in fitting it, Markdown."""
    lines = [
        "| tier | point | balanced accuracy | generators called fake | sources called real | "
        "worst source called real | ECE |",
        "|---|---|---|---|---|---|---|",
    ]
    for tier, content in measured.items():
        for point, rates in content["points"].items():
            lines.append(
                f"| {tier} | {point} | {rates['balanced_accuracy'] * 100:.1f} | "
                f"{rates['left_out_generators_called_fake'] * 100:.1f} | "
                f"{rates['left_out_sources_called_real'] * 100:.1f} | "
                f"{rates['worst_source_called_real'] * 100:.1f} | {content['ece']:.3f} |"
            )
        unsure = content["unsure"]
        outside = unsure["balanced_accuracy_outside"]
        lines.append(
            f"| {tier} | youden, outside unsure | "
            f"{'none judged' if outside is None else f'{outside * 100:.1f}'} |"
            f" covers {unsure['coverage'] * 100:.1f} %; calls fake: "
            f"{unsure['fake_called_fake'] * 100:.1f} % of fakes | "
            f"{unsure['real_called_fake'] * 100:.1f} % of reals | | |"
        )
    return "\n".join(lines)
