"""`imgscan doctor`: what this installation has, what of it works, and the remedy for the rest."""

from __future__ import annotations

import json
import sys
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanner import __version__
from scanner.embedded import MODEL_HELP
from scanner.options.paths import ModelType
from scanner.text import printable

if TYPE_CHECKING:
    from scanner.checks.finding import Finding
    from scanner.detector import Device

_WIDTH = 100
_INDENT = 14


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--device",
    type=click.Choice(["auto", "cuda", "cpu"]),
    default="auto",
    show_default=True,
    help="With cuda, CUDA must work; otherwise it may be missing.",
)
@click.option(
    "--model",
    type=ModelType(),
    metavar="NAME|FOLDER",
    help=MODEL_HELP,
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def doctor(device: Device, model: Path | None, as_json: bool) -> int:
    """Look at hardware, providers, decoders, model, journal and limits of this installation.

    Exit status: 0 if what is asked for works (the CPU and the model always are), 1 if not. A
    folder of the name is scanned by `imgscan ./doctor`.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    findings = list(examine(device, model))
    broken = any(finding.state == "broken" for finding in findings)
    if as_json:
        result = {
            "imgscan": __version__,
            "ok": not broken,
            "findings": [asdict(finding) for finding in findings],
        }
        print(json.dumps(result, indent=2))  # in ASCII: nothing a terminal obeys
    else:
        print("\n".join(lines(findings)))
    return int(broken)


def examine(device: Device, model_path: Path | None) -> Iterator[Finding]:
    """All findings, in the order in which they are shown."""
    from scanner.checks import machine, model, software

    yield from machine.hardware()
    found, bundle = model.model(model_path)
    if bundle is not None:
        yield from model.providers(bundle, device)
    yield from software.decoders()
    yield found
    yield software.journal()
    yield from machine.limits()


def lines(findings: list[Finding]) -> Iterator[str]:
    """The findings as text, in columns; what is missing or broken has its remedy below."""
    yield f"imgscan {__version__}, Python {sys.version.split()[0]}"
    section = None
    for finding in findings:
        if finding.section != section:
            section = finding.section
            yield section
        mark = {"ok": " ", "missing": "-", "broken": "!"}[finding.state]
        yield from _wrapped(f" {mark} {finding.name:<{_INDENT - 3}}", finding.text)
        if finding.remedy:
            yield from _wrapped(" " * _INDENT, f"Remedy: {finding.remedy}")


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
