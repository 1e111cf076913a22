from __future__ import annotations

import csv
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_runs import make_data

from scanner.errors import UsageError
from scanner.preprocess import PreprocessSpec
from scanner.types import Failed, Pixels
from trainer.data import (
    FAKE,
    REAL,
    Sample,
    across_splits,
    check_readable,
    describe,
    load_samples,
    refuse_contradictions,
    split_samples,
    take_groups,
)

SPEC = PreprocessSpec(size=32)


def _picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 40), (value, value, value)).save(path)


def _samples(count: int, group_size: int = 1) -> list[Sample]:
    """`count` pictures a class, of two sources each, in groups of `group_size`."""
    return [
        Sample(f"{label}-{i}", label, f"s{i % 2}", f"{label}-{i % 2}-{i // (2 * group_size)}",
               None, Path("nowhere"))
        for label in (REAL, FAKE)
        for i in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("real", "fake"), [("real", "fake"), ("REAL", "FAKE"), ("nature", "ai"), ("0_real", "1_fake")]
)
def test_class_folders_go_by_their_common_names(tmp_path: Path, real: str, fake: str):
    _picture(tmp_path / real / "a.png")
    _picture(tmp_path / fake / "sdxl" / "b.png")
    samples = {s.key: s for s in load_samples(tmp_path)}
    assert samples[f"{real}/a.png"].label == REAL
    assert samples[f"{fake}/sdxl/b.png"].label == FAKE
    assert samples[f"{fake}/sdxl/b.png"].source == "sdxl"


def test_split_folders_over_class_folders_are_splits(tmp_path: Path):
    for split in ("train", "validation", "testing"):
        _picture(tmp_path / split / "real" / "a.png")
        _picture(tmp_path / split / "fake" / "b.png")
    assert {s.split for s in load_samples(tmp_path)} == {"train", "val", "test"}


def test_pictures_inside_tar_files_are_read_like_loose_ones(tmp_path: Path):
    loose = make_data(tmp_path / "loose", {("real", "a"): 3, ("fake", "b"): 3})
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "manifest.csv").write_bytes((loose / "manifest.csv").read_bytes())
    with tarfile.open(packed / "images.tar", "w") as archive:
        for folder in ("real", "fake"):
            archive.add(loose / folder, folder)
    for one, other in zip(load_samples(loose), load_samples(packed), strict=True):
        a, b = one.decode(SPEC), other.decode(SPEC)
        assert isinstance(a, Pixels)
        assert isinstance(b, Pixels)
        np.testing.assert_array_equal(a.rgb, b.rgb)
        assert (one.key, one.label, a.facts.sha256) == (other.key, other.label, b.facts.sha256)


def _manifest(folder: Path, *rows: str) -> Path:
    path = folder / "list.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_manifest_row_without_its_file_is_named_with_its_line(tmp_path: Path):
    _picture(tmp_path / "a.png")
    path = _manifest(tmp_path, "file,label", "a.png,real", "gone.png,fake")
    with pytest.raises(UsageError, match=r"list\.csv, line 3: no file .*gone\.png"):
        load_samples(path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["picture,label", "a.png,real"], "needs the columns"),
        (["file,kind", "a.png,real"], "needs the columns"),
        (["file,label", "a.png,maybe"], "line 2"),
        (["file,label", ",real"], "line 2"),
        (["file,label", "a.png,real", "a.png,fake"], "twice"),
        (["file,label", "a.png,real"], "none is fake"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_why(tmp_path: Path, rows: list[str], said: str):
    _picture(tmp_path / "a.png")
    with pytest.raises(UsageError, match=said):
        load_samples(_manifest(tmp_path, *rows))


def test_a_folder_without_pictures_or_classes_says_what_is_expected(tmp_path: Path):
    with pytest.raises(UsageError, match="no pictures found"):
        load_samples(tmp_path)
    _picture(tmp_path / "holiday" / "a.png")
    with pytest.raises(UsageError, match="no class folders"):
        load_samples(tmp_path)


def test_one_class_only_is_refused_by_name(tmp_path: Path):
    _picture(tmp_path / "real" / "a.png")
    with pytest.raises(UsageError, match="none is fake"):
        load_samples(tmp_path)


def test_the_same_file_in_both_classes_is_refused(tmp_path: Path):
    _picture(tmp_path / "real" / "a.png", 7)
    _picture(tmp_path / "fake" / "b.png", 7)
    with pytest.raises(
        UsageError, match=r"fake/b\.png and real/a\.png|real/a\.png and fake/b\.png"
    ):
        refuse_contradictions(load_samples(tmp_path))


def test_unreadable_pictures_are_told_apart_with_a_reason(tmp_path: Path):
    _picture(tmp_path / "real" / "a.png")
    _picture(tmp_path / "fake" / "b.png")
    (tmp_path / "fake" / "c.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    good, bad = check_readable(load_samples(tmp_path), SPEC)
    assert [s.key for s in good] == ["fake/b.png", "real/a.png"]
    assert [str(f.ref.path) for f in bad] == ["fake/c.png"]
    assert all(isinstance(f, Failed) and f.detail for f in bad)


def test_no_group_stands_in_two_parts():
    samples = _samples(200, group_size=4)
    parts = split_samples(samples, val_fraction=0.2, seed=3)
    groups = [{s.group for s in part} for part in (parts.train, parts.val)]
    assert not groups[0] & groups[1]
    assert len(parts.train) + len(parts.val) == len(samples)


def test_a_split_keeps_the_share_of_each_class_and_source():
    parts = split_samples(_samples(200), val_fraction=0.2, seed=1)
    assert Counter((s.label, s.source) for s in parts.val) == dict.fromkeys(
        [(0, "s0"), (0, "s1"), (1, "s0"), (1, "s1")], 20
    )


def test_a_split_depends_on_the_seed_and_not_on_the_order():
    samples = _samples(100)
    first = split_samples(samples, val_fraction=0.2, seed=1)
    again = split_samples(samples[::-1], val_fraction=0.2, seed=1)
    other = split_samples(samples, val_fraction=0.2, seed=2)
    assert {s.key for s in first.val} == {s.key for s in again.val}
    assert {s.key for s in first.val} != {s.key for s in other.val}


def test_the_holdout_is_in_neither_part(tmp_path: Path):
    data = make_data(
        tmp_path, {("real", "a"): 30, ("fake", "b"): 30}, split_of=("train", "train", "val")
    )
    parts = split_samples(load_samples(data), val_fraction=0.2, holdout="val", seed=0)
    assert {s.split for s in parts.holdout} == {"val"}
    assert {s.split for s in (*parts.train, *parts.val)} == {"train"}


def test_small_fractions_of_many_small_sources_add_up():
    """Rounding every source up on its own would make 1 % of 30 small sources 10 %."""
    samples = [
        Sample(f"{label}-{s}-{i}", label, f"s{s}", f"{label}-{s}-{i}", None, Path("nowhere"))
        for label in (REAL, FAKE) for s in range(30) for i in range(10)
    ]  # fmt: skip
    part, rest = take_groups(samples, 0.05, seed=0, salt="x")
    assert abs(len(part) - 30) <= 2
    assert abs(sum(s.label for s in part) - 15) <= 1
    assert len(part) + len(rest) == len(samples)


def test_a_cap_cuts_large_sources_alone():
    samples = _samples(100)
    parts = split_samples(samples, val_fraction=0.1, max_per_source=10, seed=0)
    assert set(Counter((s.label, s.source) for s in parts.train).values()) == {10}


def test_a_sample_too_small_for_both_classes_says_so():
    with pytest.raises(UsageError, match="lacks a class"):
        split_samples(_samples(3), val_fraction=0.01, seed=0)


def test_quoted_manifest_cells_may_hold_commas_and_spaces(tmp_path: Path):
    _picture(tmp_path / "a, b.png")
    _picture(tmp_path / "c.png")
    with (tmp_path / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["file", "label"], ["a, b.png", "real"], ["c.png", "fake"]])
    assert [s.key for s in load_samples(tmp_path)] == ["a, b.png", "c.png"]


def _of(split: str | None, group: str, label: int) -> Sample:
    key = f"{split}-{group}-{label}"
    return Sample(key, label, "s", group, split, Path("nowhere"))


def _in_splits(*splits: str | None) -> list[Sample]:
    """Ten pictures of each class in each of the splits, each a group of its own."""
    return [_of(s, f"{s}-{i}-{c}", c) for s in splits for c in (REAL, FAKE) for i in range(10)]


@pytest.mark.parametrize("other", ["val", "test"])
def test_a_group_in_two_named_splits_is_refused_by_name(other: str):
    samples = [*_in_splits("train", "val", "test"), _of("train", "g7", 0), _of(other, "g7", 0)]
    with pytest.raises(UsageError, match=r"group g7 stands in two splits: train-g7-0 .*-g7-0"):
        split_samples(samples, val_fraction=0.2)


def test_only_train_and_unnamed_rows_are_trained_on():
    """A split set aside for the end must not be learnt because another is held out."""
    samples = _in_splits("train", None, "val", "test", "mine")
    parts = split_samples(samples, val_fraction=0.2, holdout="mine")
    assert {s.split for s in parts.train} == {"train", None}
    assert {s.split for s in parts.val} == {"val"}
    assert {s.split for s in parts.holdout} == {"mine"}
    assert {s.split for s in parts.left_out} == {"test"}
    drawn = split_samples(samples, val_fraction=0.2, holdout="val")
    assert {s.split for s in (*drawn.train, *drawn.val)} == {"train", None}
    said: list[str] = []
    describe(parts, said.append)
    assert said[-1] == "left out: 20 pictures of split test"


def test_a_set_whose_splits_are_none_to_train_on_names_them():
    with pytest.raises(UsageError, match="left out: 20 pictures of split a; 20 pictures of"):
        split_samples(_in_splits("a", "b"), val_fraction=0.2)


def test_the_same_file_in_two_splits_is_found(tmp_path: Path):
    for split, value in (("train", 7), ("val", 7), ("test", 9)):
        _picture(tmp_path / split / "real" / "a.png", value)
        _picture(tmp_path / split / "fake" / "b.png", {"train": 1, "val": 2, "test": 3}[split])
    parts = split_samples(load_samples(tmp_path), val_fraction=0.2)
    (pair,) = across_splits(parts)
    assert {s.key for s in pair} == {"train/real/a.png", "val/real/a.png"}


def test_a_file_that_vanishes_meanwhile_ends_nothing(tmp_path: Path):
    for name, value in (("real/a.png", 7), ("real/b.png", 8), ("fake/c.png", 9)):
        _picture(tmp_path / name, value)
    samples = load_samples(tmp_path)
    (tmp_path / "real" / "a.png").unlink()
    refuse_contradictions(samples)
    assert [f.reason for f in check_readable(samples, SPEC)[1]] == ["unreadable"]


@pytest.mark.parametrize("key", ["{}/a.png", "../a.png", "b/../../a.png"])
def test_a_manifest_stays_in_its_folder(tmp_path: Path, key: str):
    _picture(tmp_path / "a.png")
    (tmp_path / "set" / "b").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"line 2: .* leaves the manifest's folder"):
        load_samples(_manifest(tmp_path / "set", "file,label", f"{key.format(tmp_path)},real"))


def test_a_manifest_that_is_no_csv_says_so(tmp_path: Path):
    with pytest.raises(UsageError, match=r"list\.csv: not a readable CSV: field larger than"):
        load_samples(_manifest(tmp_path, "file,label", "x" * 200_000 + ",real"))


def _tar(path: Path, *names: str, value: int = 0) -> None:
    with tarfile.open(path, "w") as archive:
        for name in names:
            _picture(path.parent / "loose.png", value)
            archive.add(path.parent / "loose.png", name)
    (path.parent / "loose.png").unlink()


def test_a_name_in_two_archives_is_refused_where_a_row_means_it(tmp_path: Path):
    _tar(tmp_path / "a.tar", "0.png", "README", "1.png")
    _tar(tmp_path / "b.tar", "0.png", "README")
    _manifest(tmp_path, "file,label", "1.png,real", "0.png,fake")
    with pytest.raises(UsageError, match=r"line 3: 0\.png stands in a\.tar and in b\.tar"):
        load_samples(tmp_path / "list.csv")


def test_an_archive_cut_short_is_refused(tmp_path: Path):
    _tar(tmp_path / "a.tar", "0.png")
    with (tmp_path / "a.tar").open("r+b") as stream:
        stream.truncate(600)  # the header, and not all of the picture
    _manifest(tmp_path, "file,label", "0.png,real")
    with pytest.raises(UsageError, match=r"a\.tar"):
        load_samples(tmp_path / "list.csv")


def test_a_sparse_member_is_refused(tmp_path: Path):
    """What lies in the archive is a map of holes and the rest, not the picture."""
    info = tarfile.TarInfo("0.png")
    info.type = tarfile.GNUTYPE_SPARSE
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(info)
    _manifest(tmp_path, "file,label", "0.png,real")
    with pytest.raises(UsageError, match=r"0\.png is a sparse member of a\.tar"):
        load_samples(tmp_path / "list.csv")


def test_a_member_beyond_the_end_of_its_archive_is_unreadable_and_takes_no_memory(tmp_path: Path):
    _tar(tmp_path / "a.tar", "0.png")
    sample = Sample("0.png", REAL, "s", "g", None, tmp_path / "a.tar", 512, 2**62)
    failed = sample.decode(SPEC)
    assert isinstance(failed, Failed)
    assert failed.reason == "unreadable"
    assert "a.tar" in failed.detail
