"""`imgscan card`: what a model was fitted on, how good it is, and where it errs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from scanner.embedded import EMBEDDED, MODEL_HELP
from scanner.options.paths import ModelType
from scanner.text import printable


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--model",
    type=ModelType(),
    metavar="NAME|FOLDER",
    help=MODEL_HELP,
)
def card(model: Path | None) -> None:
    """Print the model card: data, licences, measured quality, limits (Mitchell et al., 2019).

    Into a pipe or file as the Markdown that it is. A folder of the name is scanned by
    `imgscan ./card`.
    """
    from scanner.bundle import CARD, bundle_path, read_bundle

    bundle = read_bundle(bundle_path(model))
    text = (bundle.path / CARD).read_text("utf-8", errors="replace")
    for stage in bundle.stages:
        asked = stage.name if stage.path in EMBEDDED.values() else stage.path
        text += f"\nThe card of its stage {stage.name}: `imgscan card --model {asked}`\n"
    # The card comes from whoever made the bundle: nothing in it is to steer a terminal.
    lines = [printable(line) for line in text.splitlines()]
    if not sys.stdout.isatty():
        click.echo("\n".join(lines))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    with console.capture() as captured:
        console.print(Markdown("\n".join(lines), hyperlinks=False))
    click.echo(captured.get(), nl=False)
