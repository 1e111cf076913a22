"""Decisions of the triage, saved as a manifest, are labelled pictures to the trainer."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from scanner.errors import ImgscanError
from scanner.tui.items import Item
from scanner.tui.manifest import write_manifest
from scanner.types import FileFacts, ImageRef
from trainer.samples import FAKE, REAL, load_samples


def item(path: Path, review: str | None, *, content: int = 0, p_fake: float = 0.9) -> Item:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"picture")
    return Item(
        seq=0,
        ref=ImageRef(path),
        facts=FileFacts(sha256=f"{content or abs(hash(path)):064x}"),
        p_fake=p_fake,
        verdict="fake",
        reason=None,
        detail="",
        threshold=0.6,
        operating_point="youden",
        model="fake@0123",
        review=review,  # type: ignore[arg-type]
        note="=1+1",
        tags=("a", "b"),
        reviewer="ann",
    )


def test_a_fit_reads_what_was_decided_and_nothing_else(tmp_path) -> None:
    folder = tmp_path / "pictures"
    odd = 'x,"é\n.png'
    items = [
        item(folder / "a" / odd, "fake"),
        item(folder / "b.png", "real"),
        item(folder / "c.png", "unsure"),
        item(folder / "d.png", None),
        item(folder / "same.png", "real", content=5),
        item(folder / "again.png", "real", content=5),
        item(folder / "blank.png ", "real"),
    ]
    gone = item(folder / "gone.png", "fake")
    gone.ref.path.unlink()
    written = write_manifest(folder / "reviewed.csv", [*items, gone])
    assert written.labels == {"fake": 1, "real": 2}
    assert written.left_out == {
        "undecided": 2,
        "the same picture again": 1,
        "a name that no manifest can hold": 1,
        "not there any more": 1,
    }
    samples = {sample.key: sample for sample in load_samples(folder / "reviewed.csv")}
    assert {key: sample.label for key, sample in samples.items()} == {
        f"a/{odd}": FAKE,
        "b.png": REAL,
        "same.png": REAL,
    }
    assert {sample.split for sample in samples.values()} == {"train"}
    assert samples["b.png"].path.read_bytes() == b"picture"
    rows = list(csv.DictReader((folder / "reviewed.csv").open(newline="", encoding="utf-8")))
    assert [row["hard"] for row in rows] == ["no", "yes", "yes"]
    assert rows[0]["note"] == "'=1+1"


def test_a_manifest_that_would_not_lie_above_the_pictures_says_where_to_put_it(tmp_path) -> None:
    decided = item(tmp_path / "pictures" / "x.png", "fake")
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ImgscanError, match=f"put it into {tmp_path / 'pictures'}"):
        write_manifest(other / "m.csv", [decided])
    assert not list(other.iterdir())


def test_one_class_alone_is_told(tmp_path) -> None:
    written = write_manifest(tmp_path / "m.csv", [item(tmp_path / "x.png", "fake")])
    assert "none is real" in written.warning
