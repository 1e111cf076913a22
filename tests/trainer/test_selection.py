from __future__ import annotations

from pathlib import Path

import pytest

from scanner.errors import UsageError
from trainer.data import Sample
from trainer.selection import FITTED_HERE, Seen, limited, read_seen, select


def sample(key: str, split: str | None = None, *, group: str | None = None) -> Sample:
    label = int(key.startswith("fake"))
    return Sample(key, label, key.split("/")[1], group or key, split, Path(key))


def pictures(split: str | None, count: int = 4) -> list[Sample]:
    return [
        sample(f"{label}/source/{split}-{i}.png", split)
        for label in ("real", "fake")
        for i in range(count)
    ]


TRAIN, VAL, TEST = pictures("train"), pictures("val"), pictures("test")
DATA = [*TRAIN, *VAL, *TEST]


def seen(**roles: list[Sample]) -> Seen:
    pairs = [(s, role) for role, part in roles.items() for s in part]
    return Seen({s.key: role for s, role in pairs}, {s.group: role for s, role in pairs})


WHOLE = seen(train=TRAIN, val=VAL, holdout=TEST)


def choose(samples, by, split=None, holdout="test"):
    return select(samples, by, split=split, holdout=holdout, origin="pictures")


def test_the_default_is_the_holdout():
    chosen = choose(DATA, WHOLE)
    assert (chosen.split, list(chosen.samples), chosen.warnings) == ("holdout", TEST, ())


def test_without_a_holdout_validation_pictures_are_scored_with_a_warning():
    chosen = choose([*TRAIN, *VAL], seen(train=TRAIN, val=VAL))
    assert (chosen.split, list(chosen.samples)) == ("val", VAL)
    assert chosen.warnings == (FITTED_HERE,)


def test_unseen_data_is_scored_whole():
    other = [*pictures(None), *pictures("extra")]
    chosen = choose(other, WHOLE)
    assert (chosen.split, list(chosen.samples), chosen.warnings) == ("all", other, ())


def test_unseen_data_is_scored_on_the_split_that_it_names_like_the_holdout():
    other = [sample(f"{s.key}.jpg", s.split) for s in DATA]
    chosen = choose(other, WHOLE)
    assert chosen.split == "test"
    assert {s.split for s in chosen.samples} == {"test"}


def test_training_pictures_are_scored_only_where_asked_for():
    named = [sample(s.key, "extra") for s in (*TRAIN[:2], *TEST)]
    chosen = choose(named, WHOLE, "extra")
    assert [s.key for s in chosen.samples] == [s.key for s in TEST]
    assert "2 of 10" in chosen.warnings[0]
    assert list(choose(DATA, WHOLE, "train").samples) == TRAIN
    everything = choose(DATA, WHOLE, "all")
    assert list(everything.samples) == DATA
    assert "8 of 24 pictures were in the run's training set" in everything.warnings[0]
    assert "for 8 of 24 pictures: thresholds" in everything.warnings[1]


def test_a_new_picture_of_a_training_group_counts_as_trained_on():
    """A group holds near copies of one picture."""
    copy = sample("real/source/copy.png", "extra", group=TRAIN[0].group)
    fresh = sample("fake/source/fresh.png", "extra")
    chosen = choose([*DATA, copy, fresh], WHOLE, "extra")
    assert chosen.samples == (fresh,)


def test_pictures_that_the_holdout_has_gained_are_scored():
    new = sample("fake/source/new.png", "test")
    assert new in choose([*DATA, new], WHOLE).samples


def test_a_split_of_training_pictures_alone_is_refused():
    renamed = [sample(s.key, "extra") for s in TRAIN]
    with pytest.raises(UsageError, match="that it was not fitted on"):
        choose([*renamed, *VAL], WHOLE, "extra")


def test_an_unknown_split_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match="choose --split from all, holdout, test, train, val"):
        choose(DATA, WHOLE, "tset")


def test_a_few_common_names_do_not_make_it_the_same_data_but_are_told():
    other = [*pictures(None, 40), sample(TRAIN[0].key)]
    many = seen(train=[*TRAIN, *pictures("more", 40)])
    chosen = choose(other, many)
    assert (chosen.split, len(chosen.samples)) == ("all", 81)
    assert "1 of 81 pictures are named like" in chosen.warnings[0]


def test_a_part_of_the_data_is_known_as_the_same_data():
    assert choose(TEST, WHOLE).split == "holdout"


def test_a_limit_draws_the_same_pictures_of_each_source_whatever_their_order():
    whole = choose(DATA, WHOLE)
    backwards = choose(DATA[::-1], WHOLE)
    a, b = limited(whole, 2, seed=5), limited(backwards, 2, seed=5)
    assert {s.key for s in a.samples} == {s.key for s in b.samples}
    assert len(a.samples) == 4
    assert "a draw of 4 from 8" in a.warnings[0]
    assert {s.key for s in limited(whole, 2, seed=6).samples} != {s.key for s in a.samples}
    assert limited(whole, 99, seed=5) == whole


def test_splits_are_read_back(tmp_path: Path):
    text = "file,label,source,group,split\nreal/a.png,0,real,g1,train\n"
    (tmp_path / "splits.csv").write_text(text)
    assert read_seen(tmp_path) == Seen({"real/a.png": "train"}, {"g1": "train"})


@pytest.mark.parametrize("text", [None, "file,label\na,0\n"])
def test_a_run_without_a_usable_splits_file_is_refused(tmp_path: Path, text: str | None):
    if text is not None:
        (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(UsageError, match=r"splits\.csv"):
        read_seen(tmp_path)
