"""`export onnx`: the edge that parses, prints and exits.

`export` is a builtin of POSIX shells, where `export onnx` silently does nothing; `python -m
export onnx` and `imgscan-export onnx` work everywhere.
"""

from __future__ import annotations

from pathlib import Path

import click

from scanner import __version__
from scanner.bundle import HALF_ENCODER
from scanner.errors import UsageError
from trainer.edge import run

path_type = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="imgscan-export")
def command() -> None:
    """Export a run of `trainer fit` to a bundle that imgscan scans with.

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
@click.option(
    "--metrics",
    multiple=True,
    metavar="NAME=FILE.json",
    help="Figures to put into the bundle, such as those of trainer evaluate.",
)
@click.option("--notes", type=path_type, help="Markdown for the model card.")
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
    measured = {}
    for entry in metrics:
        key, equals, file = entry.partition("=")
        if not equals:
            raise UsageError(f"--metrics {entry}: write NAME=FILE.json")
        measured[key] = Path(file)
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


def main() -> None:
    """Run the command line."""
    run(command, name="imgscan-export", interrupted="interrupted; nothing was written")
