"""What the documents state of the embedded models is what their bundles hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import quality_tables
from scanner.bundle import read_bundle
from scanner.embedded import DEFAULT, EMBEDDED

ROOT = Path(__file__).parents[1]
QUALITY = (ROOT / "docs" / "model-quality.md").read_text("utf-8").splitlines()
TABLES = dict(quality_tables.tables())


@pytest.mark.parametrize("title", list(TABLES))
def test_every_row_of_the_bundles_figures_stands_in_the_document(title: str) -> None:
    rows = TABLES[title]
    assert rows
    # The overview's rows go on with what is no figure of the bundle: the time.
    missing = [row for row in rows if not any(line.startswith(row) for line in QUALITY)]
    assert not missing


def test_each_embedded_model_states_what_it_was_judged_by() -> None:
    kinds = {name: {title.partition(": ")[2] for title in TABLES if title.startswith(f"{name}: ")}
             for name in EMBEDDED}  # fmt: skip
    assert kinds["cascade"] == {"holdout", "operating points", "unsure", "reliability"}
    assert kinds["fast"] == {"left_out", "families", *kinds["cascade"]}
    assert kinds["accurate"] == kinds["fast"]


def test_the_readme_shows_the_default_model_as_it_is() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    bundle = read_bundle(EMBEDDED[DEFAULT])
    shown = set(re.findall(r"\b[a-z]+@[0-9a-f]{12}\b", text))
    assert shown == {f"{bundle.name}@{bundle.digest}"}
    assert bundle.unsure is not None
    low, high = bundle.unsure
    assert f"(P(fake) {high:.4f} or more: {bundle.operating_point}, " in text
    assert f"(P(fake) {low:.4f} to {high:.4f}): look yourself" in text
