"""`export onnx | cascade | restate`: the edge that parses, prints and exits.

`export` is a builtin of POSIX shells, where `export onnx` silently does nothing; `python -m
export onnx` and `imgscan-export onnx` work everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from scanner import __version__
from scanner.bundle import HALF_ENCODER
from scanner.errors import UsageError
from scanner.options.paths import ModelType, PathType
from trainer.edge import run

path_type = PathType()

notes_option = click.option("--notes", type=path_type, help="Markdown for the model card.")
metrics_option = click.option(
    "--metrics",
    multiple=True,
    metavar="NAME=FILE.json",
    help="Figures to put into the bundle, such as those of trainer evaluate.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="imgscan-export")
def command() -> None:
    """Export a run of `trainer fit` to a bundle that imgscan scans with, or two of them as one.

    In POSIX shells `export` is a builtin: write `python -m export` or `imgscan-export`.
    """


@command.command()
@click.argument("run", type=path_type)
@click.option("--out", type=path_type, required=True, help="Folder of the bundle.")
@click.option("--name", help="Name of the model in reports.  [default: the preset's]")
@click.option("--operating-point", help="The one that scans use by default.  [default: youden]")
@click.option(
    "--decoder/--no-decoder",
    default=None,
    show_default=False,
    help="Write decoder.onnx, for reconstructions.  [default: if the run has a decoder]",
)
@click.option(
    "--half/--no-half",
    default=False,
    help="Write encoder.fp16.onnx, half precision for scans on CUDA, if it scores as float32 does.",
)
@metrics_option
@notes_option
def onnx(
    run: Path,
    out: Path,
    name: str | None,
    operating_point: str | None,
    decoder: bool | None,
    half: bool,
    metrics: tuple[str, ...],
    notes: Path | None,
) -> None:
    """Write the ONNX graphs, thresholds, calibration and preprocessing of RUN as one bundle.

    \b
    python -m export onnx runs/first --out bundles/first
    imgscan photos --model bundles/first
    """
    measured = _measured(metrics)
    from export.bundle import export_run
    from trainer.checkpoint import read_json

    exported = export_run(
        run,
        out,
        name=name or str(read_json(run / "result.json").get("preset", "model")),
        operating_point=operating_point,
        decoder=decoder,
        measured=measured,
        notes=notes,
        half=half,
    )
    parity = exported.parity
    click.echo(
        f"{out}: {exported.bundle.name}@{exported.bundle.digest}, "
        f"{sum(f.stat().st_size for f in out.iterdir()) / 1e6:.1f} MB"
    )
    click.echo(
        f"parity with torch on {parity.pictures} golden pictures: P(fake) differs by at most "
        f"{parity.max_probability_difference:.1e} (logit {parity.max_logit_difference:.1e})"
    )
    if parity.max_reconstruction_difference is not None:
        click.echo(
            "reconstructions differ by at most "
            f"{parity.max_reconstruction_difference:.1e} of the range of a channel"
        )
    if exported.half is not None and exported.half.problem is None:
        click.echo(
            f"{HALF_ENCODER}: {(out / HALF_ENCODER).stat().st_size / 1e6:.1f} MB; P(fake) differs "
            f"from float32 by at most {exported.half.max_probability_difference:.1e}"
        )
    elif exported.half is not None:
        click.echo(f"{HALF_ENCODER} is left out: {exported.half.problem}")
    if parity.degenerate:
        click.echo(
            f"warning: P(fake) of the golden pictures ranges over {parity.probability_range:.1e} "
            "alone: the model hardly looks at them, and the agreement says little"
        )
    click.echo(f"next: imgscan PATH --model {out}")


@command.command()
@click.argument("first", type=ModelType())
@click.argument("second", type=ModelType())
@click.option("--out", type=path_type, required=True, help="Folder of the bundle.")
@click.option(
    "--left-out-first", type=path_type, required=True, help="`trainer benchmark`'s JSON of FIRST."
)
@click.option("--left-out-second", type=path_type, required=True, help="The same of SECOND.")
@click.option("--name", default="cascade", help="Name of the model in reports.")
@click.option(
    "--rescore",
    type=(float, float),
    metavar="LOW HIGH",
    help="P(fake) by FIRST that goes to SECOND.  [default: by the left-out scores]",
)
@click.option("--share", default=0.5, help="Of real left-out pictures that may go to SECOND.")
@click.option("--operating-point", default="youden", help="The one that scans use by default.")
@notes_option
def cascade(
    first: Path,
    second: Path,
    out: Path,
    left_out_first: Path,
    left_out_second: Path,
    name: str,
    rescore: tuple[float, float] | None,
    share: float,
    operating_point: str,
    notes: Path | None,
) -> None:
    """Make one bundle of two: FIRST scores all pictures, SECOND those that FIRST is unsure of.

    \b
    python -m export cascade fast accurate --left-out-first fast.json \\
        --left-out-second accurate.json --out bundles/cascade

    FIRST and SECOND are bundles that come with imgscan, by name, or folders, which are copied.
    """
    from export.bundle import read_text
    from export.cascade import export_cascade, figures

    bundle = export_cascade(
        (first, second),
        (left_out_first, left_out_second),
        out,
        name=name,
        rescore=rescore,
        share=share,
        operating_point=operating_point,
        notes=read_text(notes) if notes is not None else "",
    )
    assert bundle.rescore is not None
    low, high = bundle.rescore
    click.echo(f"{out}: {bundle.name}@{bundle.digest}, P(fake) in [{low:g}, {high:g}) goes on")
    click.echo(figures(bundle.metrics))
    click.echo(f"next: imgscan PATH --model {out}")


@command.command()
@click.argument("model", type=ModelType())
@click.option("--out", type=path_type, required=True, help="Folder of the bundle.")
@metrics_option
@notes_option
@click.option(
    "--before",
    type=path_type,
    multiple=True,
    help="Of a cascade: a stage as it was, if it was restated since.",
)
def restate(
    model: Path,
    out: Path,
    metrics: tuple[str, ...],
    notes: Path | None,
    before: tuple[Path, ...],
) -> None:
    """Write MODEL, a bundle, with other figures or notes; what scores depend on stays.

    \b
    trainer evaluate bundles/first --data pictures --tier all --out judged
    python -m export restate bundles/first --out bundles/stated \\
        --metrics holdout=judged/evaluation.json
    """
    measured = _measured(metrics)
    from export.restate import restate as write

    bundle = write(model, out, measured=measured, notes=notes, before=before)
    click.echo(f"{out}: {bundle.name}@{bundle.digest}")


def _measured(metrics: Iterable[str]) -> dict[str, Path]:
    measured = {}
    for entry in metrics:
        key, equals, file = entry.partition("=")
        if not equals:
            raise UsageError(f"--metrics {entry}: write NAME=FILE.json")
        measured[key] = Path(file)
    return measured


def main() -> None:
    """Run the command line."""
    run(command, name="imgscan-export", interrupted="interrupted; nothing was written")
