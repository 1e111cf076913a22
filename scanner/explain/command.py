"""`imgscan explain FILE --out SHEET.png`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import click

from scanner.embedded import MODEL_HELP
from scanner.errors import ImgscanError, UsageError
from scanner.options.paths import ModelType, PathType
from scanner.text import printable

_FAILED = 2  # as for a scan: a file could not be read


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=PathType())
@click.option(
    "--out",
    type=PathType(),
    required=True,
    metavar="SHEET.png",
    help="To write.",
)
@click.option(
    "--model",
    type=ModelType(),
    metavar="NAME|FOLDER",
    help=MODEL_HELP,
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cuda", "cpu"]),
    default="auto",
    show_default=True,
    help="Where the model runs.",
)
def explain(
    file: Path, out: Path, model: Path | None, device: Literal["auto", "cuda", "cpu"]
) -> int:
    """Draw what moved the score of one picture: attention, no proof.

    The sheet shows what the model sees of FILE, its reconstruction and where that errs, and which
    parts move the score. Exits with 0, or 2 if FILE cannot be read as a picture.
    """
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: the sheet is a PNG; give it a name that ends in .png")
    if out.exists() and file.exists() and out.samefile(file):
        raise UsageError(f"--out {out}: is the picture itself; name another file")

    from scanner.bundle import bundle_path, read_bundle
    from scanner.cascade import open_model
    from scanner.domain import limited, with_notes
    from scanner.explain.maps import explain as maps_of
    from scanner.explain.sheet import draw_sheet
    from scanner.images import decode
    from scanner.types import Failed, ImageRef
    from scanner.verdict import judge, operating_point

    bundle = read_bundle(bundle_path(model))
    pixels = decode(ImageRef(file), bundle.spec)
    if isinstance(pixels, Failed):
        click.echo(printable(f"imgscan: {file}: {pixels.detail} ({pixels.reason})"), err=True)
        return _FAILED
    found = maps_of(pixels, open_model(bundle, device))
    assert found is not None  # it is None only where it was cancelled
    facts = with_notes(pixels.facts, found.squares)
    p_fake = limited(found.p_fake, facts, bundle.unsure)
    verdict = judge(pixels.ref, facts, p_fake, operating_point(bundle))
    cut = f"fake from {verdict.fake_from:.4f}"
    if verdict.real_below < verdict.fake_from:
        cut = f"real below {verdict.real_below:.4f}, {cut}"
    score = (
        f"P(fake) {p_fake:.4f}: {verdict.verdict} at {verdict.operating_point} "
        f"({cut}), {bundle.name}@{bundle.digest}{found.by}"
    )
    stream = io.BytesIO()
    draw_sheet(file.name, found, score).save(stream, "PNG")
    try:
        out.write_bytes(stream.getvalue())
    except OSError as error:
        raise ImgscanError(f"{out}: cannot be written: {error.strerror or error}") from None
    click.echo(score)
    if found.missing:
        click.echo(printable(f"no reconstruction: {found.missing}"))
    click.echo(printable(f"drawn in {out}"))
    return 0
