"""Coverage-guided fuzzing of the parsers that are this project's own, with atheris (libFuzzer).

    pip install atheris
    python -m benchmarks.fuzz_parsers --runs 200000

What is fuzzed: signatures, ends of files, JPEG markers, TIFF folders and raw previews, names made
printable, CSV cells and JSON lines there and back, and bundle.json. An input that raises what its
parser does not document, or breaks what the parser promises, ends the run with status 77 and is
written beside where this was started (`crash-...`). Inputs begin from `benchmarks.seeds`.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from pathlib import Path

import atheris
import click

with atheris.instrument_imports(include=["scanner"]):
    from scanner.bundle import read_bundle
    from scanner.errors import BundleError
    from scanner.formats import EXTENSIONS, ends_early, sniff
    from scanner.jpeg import end_of_data, read_header
    from scanner.raw import find_preview, kind_of_tiff
    from scanner.refused import RefusedError
    from scanner.report.cells import decode_cell, encode_cell
    from scanner.report.jsonl import line
    from scanner.report.rows import row_of
    from scanner.text import UNSAFE, printable
    from scanner.types import Failed, ImageRef

from benchmarks.seeds import seeds

_bundle = Path(tempfile.mkdtemp(prefix="fuzz-bundle-"))


def _hold(promise: bool) -> None:
    if not promise:
        raise AssertionError


def _files(data: bytes) -> None:
    kind = sniff(data[:512])
    assert kind is None or kind in EXTENSIONS, kind
    stream = io.BytesIO(data)
    assert isinstance(ends_early(stream, len(data)), bool)
    assert 0 <= end_of_data(stream, len(data)) <= len(data)
    header = read_header(stream)
    assert header is None or min(header.width, header.height) > 0


def _raw(data: bytes) -> None:
    stream = io.BytesIO(data)
    kinds = {kind_of_tiff(stream, extension) for extension in ("", ".orf")}
    for kind in {*kinds, sniff(data[:512]) or "RAW"}:
        try:
            preview = find_preview(stream, len(data), kind)
        except RefusedError as refused:
            _hold(refused.reason == "truncated")
            continue
        assert preview is None or preview.offset + preview.length <= len(data)


def _names(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert not UNSAFE.search(printable(text))
    cell = encode_cell(text)
    assert decode_cell(cell) == text
    assert not UNSAFE.search(cell)
    decode_cell(text)
    json.loads(line(row_of(Failed(ImageRef(Path("a"), text), "empty", text), text)))


def _bundle_json(data: bytes) -> None:
    (_bundle / "bundle.json").write_bytes(data)
    try:
        read_bundle(_bundle)
    except BundleError as error:
        _hold("\n" not in str(error))


_TARGETS = (_files, _raw, _names, _bundle_json)


def one_input(data: bytes) -> None:
    """The first byte chooses the parser, the rest is what it parses."""
    if data:
        _TARGETS[data[0] % len(_TARGETS)](data[1:])


@click.command()
@click.option("--runs", default=200_000, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=1))
def main(runs: int, seed: int) -> None:
    """A fixed number of runs from a fixed seed."""
    corpus = Path(tempfile.mkdtemp(prefix="fuzz-corpus-"))
    for number, (kind, content) in enumerate(seeds()):
        for target in (0, 1):
            (corpus / f"{number}-{kind}-{target}").write_bytes(bytes([target]) + content)
    for number, text in enumerate((b"=1+1", b"'\\caf\xe9\\x0a", "\u202egpj".encode(), b'a,b;"c"')):
        (corpus / f"name-{number}").write_bytes(b"\2" + text)
    default = Path(__file__).parents[1] / "scanner/default_model/bundle.json"
    (corpus / "bundle").write_bytes(b"\3" + default.read_bytes())
    # By its folders' names: the embedded stages would be read whole each time.
    cascade = (default.parents[1] / "cascade_model/bundle.json").read_bytes()
    for name, folder in ((b'"fast"', b'"first"'), (b'"accurate"', b'"second"')):
        cascade = cascade.replace(name, folder)
    (corpus / "cascade").write_bytes(b"\3" + cascade)
    options = [f"-runs={runs}", f"-seed={seed}", "-max_len=16384", "-timeout=10"]
    atheris.Setup([sys.argv[0], *options, os.fspath(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
